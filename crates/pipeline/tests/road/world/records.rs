//! Records of the simulation and their decoder. A row is a key, a value and what is to become of it.

use std::sync::Arc;

use mantis_pipeline::{Columns, Decoder, Header, Reason, Record, RecordBatch, RowReject, TopicPartition};

use super::World;

/// What is to become of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stored = 0,
    /// The decoder refuses it.
    BadRow = 1,
    /// The store refuses it and says so.
    Rejected = 2,
    /// The store refuses whatever it is in, and does not say because of which row.
    Poison = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: u64,
    pub value: u64,
    pub fate: Fate,
}

/// A record as its producer sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// `None`: it cannot be decoded.
    pub rows: Option<Vec<Row>>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub timestamp_ms: Option<i64>,
}

const ROW_BYTES: usize = 17;
const UNREADABLE: u8 = 0xFF;
const READABLE: u8 = 1;

impl Sent {
    pub fn rows(rows: Vec<Row>) -> Self {
        let mut payload = vec![READABLE];
        for row in &rows {
            payload.extend(row.key.to_le_bytes());
            payload.extend(row.value.to_le_bytes());
            payload.push(row.fate as u8);
        }
        Self::new(Some(rows), Some(payload))
    }

    pub fn stored(key: u64, value: u64) -> Self {
        Self::rows(vec![Row { key, value, fate: Fate::Stored }])
    }

    pub fn unreadable(id: u64) -> Self {
        let mut payload = vec![UNREADABLE];
        payload.extend(id.to_le_bytes());
        Self::new(None, Some(payload))
    }

    pub fn tombstone() -> Self {
        Self::new(Some(Vec::new()), None)
    }

    fn new(rows: Option<Vec<Row>>, payload: Option<Vec<u8>>) -> Self {
        let header = Header { key: "traceparent".to_owned(), value: payload.clone() };
        Self { rows, key: Some(b"asset".to_vec()), payload, headers: vec![header], timestamp_ms: Some(1_700_000_000_000) }
    }
}

/// Records of one partition that the source handed out.
pub struct Batch {
    pub world: Arc<World>,
    pub worker: usize,
    pub partition: TopicPartition,
    pub records: Vec<(i64, Arc<Sent>)>,
    pub bytes: usize,
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.world.state().workers[self.worker].held_bytes -= self.bytes;
    }
}

impl RecordBatch for Batch {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn len(&self) -> usize {
        self.records.len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        let (offset, sent) = &self.records[index];
        Record { offset: *offset, timestamp_ms: sent.timestamp_ms, key: sent.key.as_deref(), payload: sent.payload.as_deref() }
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        self.records[index].1.headers.clone()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[derive(Clone, Debug, Default)]
pub struct Rows(pub Vec<Row>);

impl Columns for Rows {
    fn rows(&self) -> usize {
        self.0.len()
    }

    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }

    fn bytes(&self) -> usize {
        self.0.len() * ROW_BYTES
    }
}

pub struct RowDecoder;

impl Decoder for RowDecoder {
    type Columns = Rows;

    fn columns(&self, _topic: &str) -> Rows {
        Rows::default()
    }

    fn decode(&mut self, record: &Record<'_>, into: &mut Rows, rejects: &mut Vec<RowReject>) -> Result<(), Reason> {
        let Some(payload) = record.payload else { return Ok(()) };
        let Some((&READABLE, rows)) = payload.split_first() else {
            // What was appended before the failure must not be seen by anyone.
            into.0.push(Row { key: u64::MAX, value: u64::MAX, fate: Fate::Stored });
            rejects.push(RowReject { row: 0, reason: Reason::new("half-read", "must not be seen") });
            return Err(Reason::new("unreadable", "the record cannot be read"));
        };
        for (number, row) in rows.chunks_exact(ROW_BYTES).enumerate() {
            let fate = match row[16] {
                0 => Fate::Stored,
                2 => Fate::Rejected,
                3 => Fate::Poison,
                _ => {
                    let reason = Reason::new("bad-row", "the row is bad");
                    rejects.push(RowReject { row: number as u32, reason });
                    continue;
                }
            };
            let number = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().unwrap());
            into.0.push(Row { key: number(0), value: number(8), fate });
        }
        Ok(())
    }
}
