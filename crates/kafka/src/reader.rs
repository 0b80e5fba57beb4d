//! A range of one partition, read without a group: for audits, lists and tests.

use std::{fmt, sync::Arc, time::Duration};

use mantis_pipeline::TopicPartition;
use tokio::time::timeout;

use crate::{
    ClientConfig, Error, MessageBatch,
    error::{Code, damage},
    raw::{Client, Message, Queue, Reading},
};

/// Records of one batch.
const BATCH_MESSAGES_MAX: usize = 4_096;
/// Longest wait for the next record, or for the end.
const WAIT_MS: u64 = 30_000;

/// Reads the records of one partition whose offsets are in a range, and ends.
pub struct Reader {
    // In this order: messages and queues go before the client.
    error: Option<Message>,
    reading: Option<Reading>,
    queue: Queue,
    client: Arc<Client>,
    partition: TopicPartition,
    next: i64,
    to: i64,
}

impl Reader {
    /// Reads `[from, to)` of `partition`; does not wait for the brokers.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn open(client: &ClientConfig, partition: TopicPartition, from: i64, to: i64) -> Result<Self, Error> {
        let client = Client::consumer(&client.reader()?)?;
        let queue = Queue::of_reader(&client);
        let reading = if from < to { Some(Reading::start(&client, &partition, from, &queue)?) } else { None };
        Ok(Self { error: None, reading, queue, client, partition, next: from, to })
    }

    /// The next records; `None` when everything before the range's end was read. Offsets may be missing in between
    /// (compaction, transaction markers). Cancel safe.
    ///
    /// # Errors
    /// The range is not in the log, or the brokers gave nothing for half a minute.
    pub async fn next(&mut self) -> Result<Option<MessageBatch>, Error> {
        loop {
            if let Some(message) = self.error.take() {
                return Err(self.failed(&message));
            }
            if self.next >= self.to {
                self.reading = None;
                return Ok(None);
            }
            let mut taken = Vec::new();
            self.queue.consume(&mut taken, BATCH_MESSAGES_MAX);
            if taken.is_empty() {
                if let Some(error) = self.client.errors().take() {
                    return Err(error);
                }
                let waited = timeout(Duration::from_millis(WAIT_MS), self.queue.wait()).await;
                waited.map_err(|_| self.stalled())?;
                continue;
            }
            if let Some(batch) = self.take(taken) {
                return Ok(Some(batch));
            }
        }
    }

    fn take(&mut self, taken: Vec<Message>) -> Option<MessageBatch> {
        let mut messages = Vec::with_capacity(taken.len());
        for message in taken {
            match message.code() {
                Code::NONE if (self.next..self.to).contains(&message.offset()) => {
                    self.next = message.offset() + 1;
                    messages.push(message);
                }
                Code::NONE => self.next = self.next.max(message.offset()),
                // The position after the last record, past all gaps.
                Code::PARTITION_EOF => self.next = self.next.max(message.offset()),
                code => {
                    tracing::debug!(?code, "error while reading a range");
                    // What comes behind it may lie behind a damaged batch, which must not be passed over.
                    self.error = Some(message);
                    break;
                }
            }
        }
        if messages.is_empty() {
            return None;
        }
        Some(MessageBatch::new(self.partition.clone(), messages, Arc::clone(&self.client)))
    }

    fn failed(&self, message: &Message) -> Error {
        let Self { partition, next, to, .. } = self;
        let code = message.code();
        let what = format_args!("cannot read {partition} from {next} to {to}: {}", message.error_text());
        if code.is_damage() {
            return Error::with_reason(code, format_args!("{what}; {}", damage(partition, *next)));
        }
        Error::with_reason(code, what)
    }

    fn stalled(&self) -> Error {
        let Self { partition, next, to, .. } = self;
        Error::Unavailable(format!(
            "nothing came of {partition} from {next} to {to} within {WAIT_MS} ms: check the brokers, and that the log reaches {to}"
        ))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({}, {}..{})", self.partition, self.next, self.to)
    }
}
