//! Dead letters, as the console lists, shows and sends them again.

use std::{future::Future, time::SystemTime};

use mantis_kafka::{
    ClientConfig,
    dead_letter::{self, Origin},
    letters::{self, DeadLetterLog},
};
use mantis_pipeline::{Header, Record, RecordBatch};

pub use mantis_kafka::letters::{Filter, Sent};

/// Letters on one page; the newest of them.
pub const LETTERS_SHOWN_MAX: usize = 200;

/// Where dead letters are kept.
pub trait Letters: Send + Sync + 'static {
    /// The newest letters that `filter` wants, newest first, at most [`LETTERS_SHOWN_MAX`].
    ///
    /// # Errors
    /// Why they cannot be read.
    fn list(&self, filter: Filter) -> impl Future<Output = Result<Listing, String>> + Send;

    /// The letters of the record at a position whole, one for each group that refused it.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn show(&self, position: String) -> impl Future<Output = Result<Vec<Whole>, String>> + Send;

    /// Sends what `filter` wants to its topics again.
    ///
    /// # Errors
    /// Why that ended early; what was sent until then stays sent.
    fn replay(&self, filter: Filter) -> impl Future<Output = Result<Sent, String>> + Send;
}

/// Letters of a list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The newest.
    pub letters: Vec<Letter>,
    /// How many are wanted.
    pub found: usize,
    /// True where there are letters that were not looked at.
    pub more: bool,
}

/// What is known of a letter besides its record.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Where the record was read and why it was refused.
    pub origin: Origin,
    /// When it was replayed, ms since the epoch.
    pub replayed_ms: Option<i64>,
    /// When it was written, ms since the epoch.
    pub written_ms: Option<i64>,
    /// Size of its payload.
    pub payload_bytes: usize,
}

/// A letter with its record.
#[derive(Clone, Debug)]
pub struct Whole {
    /// What is known of it.
    pub letter: Letter,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value.
    pub payload: Option<Vec<u8>>,
    /// All headers, the letter's own too.
    pub headers: Vec<Header>,
}

/// Dead letters in their topics.
#[derive(Clone, Debug)]
pub struct KafkaLetters(pub ClientConfig);

impl Letters for KafkaLetters {
    async fn list(&self, filter: Filter) -> Result<Listing, String> {
        let mut found = letters::find(&self.0, &filter).await.map_err(sentence)?;
        let mut listing = Listing { letters: Vec::new(), found: found.len(), more: found.more_from.is_some() };
        found.keep_last(LETTERS_SHOWN_MAX);
        self.each(&found, |letter, _, _| listing.letters.push(letter)).await?;
        listing.letters.sort_by_key(|letter| std::cmp::Reverse(letter.written_ms));
        listing.letters.truncate(LETTERS_SHOWN_MAX);
        Ok(listing)
    }

    async fn show(&self, position: String) -> Result<Vec<Whole>, String> {
        let filter = Filter { position: Some(position), all: true, ..Filter::default() };
        let mut found = letters::find(&self.0, &filter).await.map_err(sentence)?;
        found.keep_last(GROUPS_MAX);
        let mut whole = Vec::new();
        let take = |letter, record: &Record<'_>, headers| {
            let (key, payload) = (record.key.map(<[u8]>::to_vec), record.payload.map(<[u8]>::to_vec));
            whole.push(Whole { letter, key, payload, headers });
        };
        self.each(&found, take).await?;
        Ok(whole)
    }

    async fn replay(&self, filter: Filter) -> Result<Sent, String> {
        let found = letters::find(&self.0, &filter).await.map_err(sentence)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        letters::replay(&self.0, &found, i64::try_from(now.as_millis()).unwrap_or(i64::MAX)).await.map_err(sentence)
    }
}

/// Groups whose letters of one record are shown; there is one group per worker.
const GROUPS_MAX: usize = 16;

impl KafkaLetters {
    async fn each(
        &self,
        found: &letters::Found,
        mut take: impl FnMut(Letter, &Record<'_>, Vec<Header>) + Send,
    ) -> Result<(), String> {
        let mut log = DeadLetterLog::of(&self.0, found);
        while let Some(batch) = log.next().await.map_err(sentence)? {
            for index in 0..batch.len() {
                let record = batch.record(index);
                let Some(replayed_ms) = found.get(batch.partition(), record.offset) else { continue };
                let headers = batch.headers(index);
                let Some(origin) = dead_letter::origin(&headers) else { continue };
                let payload_bytes = record.payload.map_or(0, <[u8]>::len);
                let letter = Letter { origin, replayed_ms, written_ms: record.timestamp_ms, payload_bytes };
                take(letter, &record, headers);
            }
        }
        Ok(())
    }
}

fn sentence(error: mantis_kafka::Error) -> String {
    error.to_string()
}
