//! Sends dead letters to their topics again, in chunks, while they are read.

use mantis_pipeline::RecordBatch;

use super::{DeadLetterLog, Found};
use crate::{ClientConfig, Error, OutRecord, Producer, dead_letter};

/// Letters that are sent again together, and so held at once.
const CHUNK_LETTERS_MAX: usize = 500;
/// Bytes of them. A chunk ends with the letter that reaches it.
const CHUNK_BYTES_MAX: usize = 8 << 20;
/// Failures that are told by their text.
const FAILURES_TOLD_MAX: usize = 20;

/// What became of letters that were sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Records that are in their topics again.
    pub replayed: u64,
    /// Records that could not be sent.
    pub failed: u64,
    /// Why, of the first of them.
    pub failures: Vec<String>,
}

/// Sends the letters again, each followed by its mark of `now_ms`, ms since the epoch.
///
/// # Errors
/// The letters cannot be read, or a mark could not be written; what was sent until then is in its topics.
pub async fn replay(client: &ClientConfig, found: &Found, now_ms: i64) -> Result<Sent, Error> {
    let mut sending = Sending::new(Producer::new(client)?);
    let mut log = DeadLetterLog::of(client, found);
    while let Some(batch) = log.next().await? {
        for index in 0..batch.len() {
            let record = batch.record(index);
            if found.get(batch.partition(), record.offset).is_none() {
                continue;
            }
            let headers = batch.headers(index);
            let Some(origin) = dead_letter::origin(&headers) else { continue };
            let mark = dead_letter::replayed(&origin, &record, now_ms);
            sending.take(dead_letter::replay(&origin, &record, headers), mark).await?;
        }
    }
    sending.finish().await
}

/// The chunk that is being gathered, and what became of those before.
struct Sending {
    producer: Producer,
    records: Vec<OutRecord>,
    /// The mark that follows each record once it is back in its topic.
    marks: Vec<OutRecord>,
    bytes: usize,
    sent: Sent,
}

impl Sending {
    fn new(producer: Producer) -> Self {
        Self { producer, records: Vec::new(), marks: Vec::new(), bytes: 0, sent: Sent::default() }
    }

    async fn take(&mut self, record: OutRecord, mark: OutRecord) -> Result<(), Error> {
        self.bytes += bytes(&record);
        self.records.push(record);
        self.marks.push(mark);
        if self.records.len() >= CHUNK_LETTERS_MAX || self.bytes >= CHUNK_BYTES_MAX {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Error> {
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        let mut marks = Vec::new();
        for (result, mark) in self.producer.send_all(&records).await.into_iter().zip(self.marks.drain(..)) {
            match result {
                Ok(_) => marks.push(mark),
                Err(error) => {
                    self.sent.failed += 1;
                    if self.sent.failures.len() < FAILURES_TOLD_MAX {
                        self.sent.failures.push(error.to_string());
                    }
                }
            }
        }
        self.sent.replayed += marks.len() as u64;
        // Without its mark a letter only stays in the list; the record itself is back.
        for result in self.producer.send_all(&marks).await {
            result?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Sent, Error> {
        self.send().await?;
        self.producer.close().await?;
        Ok(self.sent)
    }
}

fn bytes(record: &OutRecord) -> usize {
    let headers = record.headers.iter().map(|header| header.key.len() + header.value.as_ref().map_or(0, Vec::len));
    headers.sum::<usize>() + record.payload.as_ref().map_or(0, Vec::len) + record.key.as_ref().map_or(0, Vec::len)
}
