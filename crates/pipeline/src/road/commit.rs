//! Telling the group how far everything ended.

use tokio::time::{Instant, sleep, timeout_at};

use super::Road;
use crate::{DeadLetters, Decoder, Durable, RecordBatch, Sink, Source, SourceError, State, TopicPartition};

impl<Dec, Snk, Dlq, B> Road<Dec, Snk, Dlq, B>
where
    Dec: Decoder,
    Snk: Sink<Columns = Dec::Columns>,
    Dlq: DeadLetters,
    B: RecordBatch,
{
    /// Commits everything that has news, and plans the next time.
    pub(super) async fn commit_all<Src: Source<Batch = B>>(&mut self, source: &mut Src) {
        let news = self.news(|_| true);
        let wait = self.try_commit(source, &news).await.err().unwrap_or_else(|| self.limits.commit_interval());
        self.commit_at = Instant::now() + wait;
    }

    /// Commits what `which` has, again and again until the group took it or the time is up.
    pub(super) async fn commit_until<Src: Source<Batch = B>>(
        &mut self,
        source: &mut Src,
        which: impl Fn(&TopicPartition) -> bool,
        deadline: Instant,
    ) {
        let news = self.news(which);
        while let Err(wait) = self.try_commit(source, &news).await {
            if timeout_at(deadline, sleep(wait)).await.is_err() {
                tracing::warn!("progress could not be committed in time: the next owner reads some records again");
                return;
            }
        }
    }

    /// What to commit. Where the sink's ledger turns out to be elsewhere, reading goes on there instead.
    fn news(&mut self, which: impl Fn(&TopicPartition) -> bool) -> Vec<(TopicPartition, i64)> {
        let (mut news, mut moved) = (Vec::new(), Vec::new());
        for (name, partition) in self.partitions.iter().filter(|(name, _)| which(name)) {
            match self.ends.sink.durable(name, partition.watermark.done()) {
                Durable::To(offset) => news.extend(partition.watermark.to_commit(offset).map(|offset| (name.clone(), offset))),
                Durable::Moved(at) => moved.push((name.clone(), at)),
            }
        }
        moved.into_iter().for_each(|(name, at)| self.relocate(&name, at));
        news
    }

    /// The error is how long to wait before the next attempt.
    async fn try_commit<Src: Source<Batch = B>>(
        &mut self,
        source: &mut Src,
        news: &[(TopicPartition, i64)],
    ) -> Result<(), std::time::Duration> {
        if news.is_empty() {
            return Ok(());
        }
        for (name, offset) in news {
            if let Some(partition) = self.partitions.get_mut(name) {
                partition.watermark.committing(*offset);
            }
        }
        if let Err(error) = source.commit(news).await {
            // Even a fatal one: if the source is at its end, it says so when it is asked for records.
            let (state, wait) = match error {
                SourceError::Credentials(_) => (State::Paused, self.commit.backoff.credentials()),
                SourceError::Retry(_) | SourceError::Fatal(_) => (State::Retrying, self.commit.backoff.passing(None)),
            };
            self.status.failed("commit", state, &error.to_string());
            return Err(wait);
        }
        self.commit.succeeded();
        self.status.recovered("commit");
        self.status.committed(news);
        for (name, offset) in news {
            if let Some(partition) = self.partitions.get_mut(name) {
                partition.watermark.committed(*offset);
            }
        }
        Ok(())
    }
}
