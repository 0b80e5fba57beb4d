//! The names of assets and sensors, kept for a moment: every page needs them, and a store has to look for them.

use std::{future::Future, sync::Arc, time::Duration};

use mantis_schemas::Series;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// Series that the console knows of; more are cut off, and the pages say so.
const SERIES_MAX: usize = 200_000;
/// How long the names are taken for new.
const NEW_FOR: Duration = Duration::from_secs(3);
/// Longest wait for somebody else's look.
const WAIT: Duration = Duration::from_secs(10);

/// All names that were found at the last look.
#[derive(Debug, Default)]
pub(crate) struct Directory(Mutex<Option<(Instant, Arc<Names>)>>);

impl Directory {
    /// The names; `look` finds them where those of the last look are too old. One at a time looks.
    pub(crate) async fn names<F>(&self, look: impl FnOnce() -> F) -> Result<Arc<Names>, String>
    where
        F: Future<Output = Result<Vec<Series>, String>>,
    {
        let Ok(mut known) = timeout(WAIT, self.0.lock()).await else {
            return Err("the names of assets and sensors are looked for already: try again".into());
        };
        if let Some((at, names)) = &*known
            && at.elapsed() < NEW_FOR
        {
            return Ok(names.clone());
        }
        let names = Arc::new(Names::new(look().await?));
        *known = Some((Instant::now(), names.clone()));
        Ok(names)
    }
}

/// Names of assets and sensors, sorted.
#[derive(Debug, Default)]
pub(crate) struct Names {
    series: Vec<Series>,
    /// True where there are more than are kept.
    pub(crate) is_cut: bool,
}

impl Names {
    fn new(mut series: Vec<Series>) -> Self {
        let is_cut = series.len() > SERIES_MAX;
        series.truncate(SERIES_MAX);
        series.sort_unstable();
        series.dedup();
        Self { series, is_cut }
    }

    /// Number of series.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Each asset with its sensors.
    pub(crate) fn assets(&self) -> impl Iterator<Item = (&str, &[Series])> {
        let of_asset = |series: &'_ Series, next: &'_ Series| series.asset == next.asset;
        self.series.chunk_by(of_asset).filter_map(|sensors| Some((&*sensors.first()?.asset, sensors)))
    }

    /// The sensors of an asset; none where it is not known.
    pub(crate) fn sensors(&self, asset: &str) -> &[Series] {
        let start = self.series.partition_point(|series| *series.asset < *asset);
        let end = self.series.partition_point(|series| *series.asset <= *asset);
        self.series.get(start..end).unwrap_or_default()
    }

    /// Whether the asset has such a sensor.
    pub(crate) fn has(&self, series: &Series) -> bool {
        self.series.binary_search(series).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(asset: &str, sensor: &str) -> Series {
        Series { asset: asset.into(), sensor: sensor.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_looked_for_once_in_a_while_and_failures_are_not_kept() {
        let directory = Directory::default();
        let failed = directory.names(|| async { Err("no store".to_owned()) }).await;
        assert_eq!(failed.unwrap_err(), "no store");
        let names = directory.names(|| async { Ok(vec![series("b", "x"), series("a", "y"), series("a", "x")]) }).await.unwrap();
        assert_eq!(names.assets().map(|(asset, sensors)| (asset, sensors.len())).collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
        assert_eq!((names.sensors("a").len(), names.sensors("ab").len()), (2, 0));
        assert!(names.has(&series("b", "x")) && !names.has(&series("b", "y")));
        let kept = directory.names(|| async { panic!("not yet") }).await.unwrap();
        assert_eq!(kept.len(), 3);
        tokio::time::advance(NEW_FOR).await;
        assert_eq!(directory.names(|| async { Ok(Vec::new()) }).await.unwrap().len(), 0);
    }
}
