//! Readings gathered per series until a message is full.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use mantis_schemas::Quality;

use crate::{Piece, Refusal, Totals, account::REFUSALS_MAX};

/// Readings of one file that wait for their message to fill; at more, all are sent as they are.
const OPEN_READINGS_MAX: usize = 1 << 18;
/// Series of one file; readings of further ones are refused.
const SERIES_MAX: usize = 100_000;
/// Longest name of an asset or sensor.
const NAME_BYTES_MAX: usize = 256;

/// What a file's reader writes to: pieces, and the account of what became none.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) pieces: VecDeque<Piece>,
    label: Arc<str>,
    batch: usize,
    finite_only: bool,
    assets: HashMap<Arc<str>, HashMap<Arc<str>, usize>>,
    open: Vec<Open>,
    open_readings: usize,
}

#[derive(Debug)]
struct Open {
    asset: Arc<str>,
    sensor: Arc<str>,
    line: u64,
    times_ns: Vec<i64>,
    values: Vec<f64>,
    qualities: Vec<Quality>,
}

impl Output {
    /// Messages of `batch` readings. `finite_only`: their format cannot carry NaN and infinities.
    pub(crate) fn new(label: Arc<str>, batch: usize, finite_only: bool) -> Self {
        let pieces = VecDeque::new();
        Self { pieces, label, batch, finite_only, assets: HashMap::new(), open: Vec::new(), open_readings: 0 }
    }

    /// Adds a reading.
    pub(crate) fn reading(
        &mut self,
        totals: &mut Totals,
        line: u64,
        (asset, sensor): (&str, &Arc<str>),
        time_ns: i64,
        value: f64,
        quality: Quality,
    ) {
        if self.finite_only && !value.is_finite() {
            return self.refuse(
                totals,
                line,
                format!("`{sensor}` is {value}, which JSON cannot carry: replay as Avro, or name it in csv.blank"),
            );
        }
        let Some(number) = self.series(asset, sensor) else {
            return self.refuse(
                totals,
                line,
                format!("`{asset}` `{sensor}` is one series more than the {SERIES_MAX} that a file may have"),
            );
        };
        totals.readings += 1;
        let Some(open) = self.open.get_mut(number) else { return };
        if open.times_ns.is_empty() {
            open.line = line;
        }
        open.times_ns.push(time_ns);
        open.values.push(value);
        open.qualities.push(quality);
        self.open_readings += 1;
        if open.times_ns.len() >= self.batch {
            self.open_readings -= open.times_ns.len();
            self.pieces.push_back(open.close());
        } else if self.open_readings >= OPEN_READINGS_MAX {
            self.flush();
        }
    }

    /// Closes what is open, in the order in which the series first came.
    pub(crate) fn flush(&mut self) {
        for open in &mut self.open {
            if !open.times_ns.is_empty() {
                self.pieces.push_back(open.close());
            }
        }
        self.open_readings = 0;
    }

    /// Counts something that cannot be published.
    pub(crate) fn refuse(&self, totals: &mut Totals, line: u64, what: impl Into<String>) {
        totals.refused += 1;
        if totals.refusals.len() < REFUSALS_MAX {
            totals.refusals.push(Refusal { file: self.label.to_string(), line, what: what.into() });
        }
    }

    fn series(&mut self, asset: &str, sensor: &Arc<str>) -> Option<usize> {
        if let Some(number) = self.assets.get(asset).and_then(|sensors| sensors.get(sensor)) {
            return Some(*number);
        }
        let number = self.open.len();
        if number >= SERIES_MAX {
            return None;
        }
        let asset: Arc<str> = self.assets.get_key_value(asset).map_or_else(|| asset.into(), |(known, _)| known.clone());
        self.assets.entry(asset.clone()).or_default().insert(sensor.clone(), number);
        self.open.push(Open { asset, sensor: sensor.clone(), line: 0, times_ns: vec![], values: vec![], qualities: vec![] });
        Some(number)
    }
}

impl Open {
    fn close(&mut self) -> Piece {
        let mut qualities = std::mem::take(&mut self.qualities);
        if qualities.iter().all(|quality| *quality == Quality::Good) {
            qualities.clear();
        }
        Piece::Readings {
            asset: self.asset.clone(),
            sensor: self.sensor.clone(),
            times_ns: std::mem::take(&mut self.times_ns),
            values: std::mem::take(&mut self.values),
            qualities,
            line: self.line,
        }
    }
}

/// Why a text cannot name an asset or a sensor.
pub(crate) fn check_name(kind: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("the {kind}'s name has {} bytes: 1 to {NAME_BYTES_MAX} can be published", name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("the {kind}'s name {name:?} has control characters"));
    }
    Ok(())
}
