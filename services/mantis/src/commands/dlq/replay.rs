//! Sends dead letters to their topics again, in chunks, while they are read.

use std::{io::Write, time::SystemTime};

use anyhow::{Result, bail};
use mantis_kafka::{ClientConfig, OutRecord, Producer, dead_letter};
use mantis_pipeline::RecordBatch;
use serde_json::json;

use super::letters::{self, DeadLetterLog};
use crate::{
    cli::DlqFilter,
    exit::{Exit, Usage},
    output,
};

/// Letters that are sent again together, and so held at once.
const CHUNK_LETTERS_MAX: usize = 500;
/// Bytes of them. A chunk ends with the letter that reaches it.
const CHUNK_BYTES_MAX: usize = 8 << 20;
/// Failures that are told by their text.
const FAILURES_TOLD_MAX: usize = 20;

/// Sends what `filter` wants; exit code 3 when not all of it could be sent or looked at.
pub async fn replay(client: &ClientConfig, filter: &DlqFilter, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let found = letters::find(client, filter).await?;
    if let (Some(position), true) = (&filter.position, found.is_empty()) {
        bail!(Usage(anyhow::anyhow!("there is no open dead letter of {position}: `mantis dlq list --all` lists what there is")));
    }
    let now_ms = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?;
    let mut sending = Sending::new(Producer::new(client)?);
    let mut log = DeadLetterLog::of(client, &found);
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
    let Sent { replayed, failed, failures } = sending.finish().await?;
    if as_json {
        let more_from = found.more_from.as_ref().map(ToString::to_string);
        output::json_line(out, &json!({"replayed": replayed, "not_sent": failed, "failed": failures, "more_from": more_from}))?;
    } else {
        writeln!(out, "{replayed} records sent to their topics again; what is refused once more becomes a new dead letter")?;
        for failure in &failures {
            writeln!(out, "  not sent: {failure}")?;
        }
        if failed > failures.len() as u64 {
            writeln!(out, "  and {} more", failed - failures.len() as u64)?;
        }
        if let Some(more_from) = &found.more_from {
            writeln!(out, "{}", super::more(more_from))?;
        }
    }
    Ok(if failed == 0 && found.more_from.is_none() { Exit::Done } else { Exit::Attention })
}

/// What became of the letters.
#[derive(Debug, Default)]
struct Sent {
    replayed: u64,
    failed: u64,
    failures: Vec<String>,
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

    async fn take(&mut self, record: OutRecord, mark: OutRecord) -> Result<()> {
        self.bytes += bytes(&record);
        self.records.push(record);
        self.marks.push(mark);
        if self.records.len() >= CHUNK_LETTERS_MAX || self.bytes >= CHUNK_BYTES_MAX {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
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

    async fn finish(mut self) -> Result<Sent> {
        self.send().await?;
        self.producer.close().await?;
        Ok(self.sent)
    }
}

fn bytes(record: &OutRecord) -> usize {
    let headers = record.headers.iter().map(|header| header.key.len() + header.value.as_ref().map_or(0, Vec::len));
    headers.sum::<usize>() + record.payload.as_ref().map_or(0, Vec::len) + record.key.as_ref().map_or(0, Vec::len)
}
