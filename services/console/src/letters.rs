//! Dead letters, as the console lists, shows and sends them again.

use std::{future::Future, time::SystemTime};

use mantis_kafka::{
    ClientConfig,
    letters::{self, Found, LETTERS_MAX},
};

pub use mantis_kafka::letters::{Filter, Order, Place, Refusal, RefusedRecord, Sent, Whole, WholeRefusal};

/// Refused records on one page.
pub const RECORDS_SHOWN_MAX: usize = 200;

/// Where dead letters are kept.
pub trait Letters: Send + Sync + 'static {
    /// The newest records of which `filter` wants letters, newest first, at most [`RECORDS_SHOWN_MAX`]; where none of the
    /// letters that could be looked at is wanted, the oldest ones, oldest first.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn list(&self, filter: Filter) -> impl Future<Output = Result<Listing, String>> + Send;

    /// The refused record at a position whole, with the letter of each group that refused it.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn show(&self, position: String) -> impl Future<Output = Result<Option<Whole>, String>> + Send;

    /// Sends what `filter` wants to its topics again.
    ///
    /// # Errors
    /// Why that ended early; what was sent until then stays sent.
    fn replay(&self, filter: Filter) -> impl Future<Output = Result<Sent, String>> + Send;
}

/// Refused records of a list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The first of them.
    pub records: Vec<RefusedRecord>,
    /// From which end they were found.
    pub order: Order,
    /// How many are wanted.
    pub found: usize,
    /// Where there are letters that were not looked at: from here on `mantis dlq list` lists them.
    pub more_from: Option<Place>,
}

/// Dead letters in their topics.
#[derive(Clone, Debug)]
pub struct KafkaLetters(pub ClientConfig);

impl Letters for KafkaLetters {
    async fn list(&self, filter: Filter) -> Result<Listing, String> {
        let Found { records, order, more_from } = letters::newest(&self.0, &filter, LETTERS_MAX).await.map_err(sentence)?;
        let mut listing = Listing { found: records.len(), records, order, more_from };
        listing.records.truncate(RECORDS_SHOWN_MAX);
        Ok(listing)
    }

    async fn show(&self, position: String) -> Result<Option<Whole>, String> {
        letters::whole(&self.0, &position).await.map_err(sentence)
    }

    async fn replay(&self, filter: Filter) -> Result<Sent, String> {
        let found = letters::oldest(&self.0, &filter, LETTERS_MAX).await.map_err(sentence)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        letters::replay(&self.0, &found, i64::try_from(now.as_millis()).unwrap_or(i64::MAX)).await.map_err(sentence)
    }
}

fn sentence(error: mantis_kafka::Error) -> String {
    error.to_string()
}
