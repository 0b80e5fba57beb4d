//! Sends dead letters to their topics again, in chunks, while they are read.

use std::collections::HashMap;

use mantis_pipeline::{RecordBatch, TopicPartition};

use super::{DeadLetterLog, Found};
use crate::{
    ClientConfig, Error, OutRecord,
    copier::Copier,
    dead_letter::{self, Origin},
};

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

/// Sends the records of the letters again, each once whoever refused it, followed by marks of `now_ms`, ms since the epoch.
///
/// # Errors
/// The letters cannot be read, or a mark could not be written; what was sent until then is in its topics.
pub async fn replay(client: &ClientConfig, found: &Found, now_ms: i64) -> Result<Sent, Error> {
    let mut sending = Sending::new(Copier::new(client)?);
    let places = found.places();
    let mut log = DeadLetterLog::of(client, &places);
    while let Some(batch) = log.next().await? {
        let Some(offsets) = places.get(batch.partition()) else { continue };
        for index in 0..batch.len() {
            let record = batch.record(index);
            if !offsets.contains(&record.offset) {
                continue;
            }
            let headers = batch.headers(index);
            let Some(origin) = dead_letter::origin(&headers) else { continue };
            let mark = dead_letter::replayed(&origin, &record, batch.partition().partition, now_ms);
            sending.take(&origin, dead_letter::replay(&origin, &record, headers), mark).await?;
        }
    }
    sending.finish().await
}

/// The chunk that is being gathered, and what became of those before.
struct Sending {
    producer: Copier,
    records: Vec<OutRecord>,
    /// The marks that follow each record once it is back in its topic: of every group that refused it.
    marks: Vec<Vec<OutRecord>>,
    /// Marks of groups whose letters came after their record was sent.
    marks_due: Vec<OutRecord>,
    bytes: usize,
    /// Each record by its position: one that several groups refused is sent once.
    known: HashMap<(TopicPartition, i64), Known>,
    sent: Sent,
}

#[derive(Clone, Copy)]
enum Known {
    /// In the chunk, at this place.
    Gathered(usize),
    Sent,
    Failed,
}

impl Sending {
    fn new(producer: Copier) -> Self {
        Self {
            producer,
            records: Vec::new(),
            marks: Vec::new(),
            marks_due: Vec::new(),
            bytes: 0,
            known: HashMap::new(),
            sent: Sent::default(),
        }
    }

    async fn take(&mut self, origin: &Origin, record: OutRecord, mark: OutRecord) -> Result<(), Error> {
        let position = (origin.partition.clone(), origin.offset);
        match self.known.get(&position) {
            Some(Known::Gathered(place)) => self.marks.get_mut(*place).into_iter().for_each(|marks| marks.push(mark.clone())),
            Some(Known::Sent) => self.marks_due.push(mark),
            Some(Known::Failed) => {}
            None => {
                self.known.insert(position, Known::Gathered(self.records.len()));
                self.bytes += bytes(&record);
                self.records.push(record);
                self.marks.push(vec![mark]);
            }
        }
        if self.records.len() + self.marks_due.len() >= CHUNK_LETTERS_MAX || self.bytes >= CHUNK_BYTES_MAX {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Error> {
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        let mut ends = Vec::new();
        let mut marks = std::mem::take(&mut self.marks_due);
        for (result, of_record) in self.producer.send_all(&records).await.into_iter().zip(self.marks.drain(..)) {
            ends.push(if result.is_ok() { Known::Sent } else { Known::Failed });
            match result {
                Ok(_) => {
                    self.sent.replayed += 1;
                    marks.extend(of_record);
                }
                Err(error) => {
                    self.sent.failed += 1;
                    if self.sent.failures.len() < FAILURES_TOLD_MAX {
                        self.sent.failures.push(error.to_string());
                    }
                }
            }
        }
        for known in self.known.values_mut() {
            if let Known::Gathered(place) = *known {
                *known = ends.get(place).copied().unwrap_or(Known::Failed);
            }
        }
        self.mark(&marks).await
    }

    /// Without its mark a letter only stays in the list; the record itself is back.
    async fn mark(&self, marks: &[OutRecord]) -> Result<(), Error> {
        for result in self.producer.send_all(marks).await {
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
