//! Records of every topic into what the archive keeps. Nothing is refused: what cannot be decoded is kept as it is.

use std::fmt::Write;

use mantis_pipeline::{Decoder, Header, Reason, Record, RowReject};
use mantis_schemas::{ConfigError, DecoderConfig, EventBody, RecordMeta, Reject, SeriesTable, encode::json};
use mantis_stores::archive::columns::{ArchiveColumns, ArchiveRows, Decoded, EventRow, Kind, Original};

/// Refused rows of a record that are named; the record is kept whole, so all of them can be found again.
const ROWS_NAMED_MAX: usize = 1_000;

/// Decodes the records of a topic by what the topic holds, as the other workers do.
#[derive(Debug)]
pub struct ArchiveDecoder {
    decoder: mantis_schemas::Decoder,
    rejects: Vec<mantis_schemas::RowReject>,
    json: Vec<u8>,
}

impl ArchiveDecoder {
    /// A decoder with this configuration.
    ///
    /// # Errors
    /// A registered schema cannot be used.
    pub fn new(config: DecoderConfig) -> Result<Self, ConfigError> {
        Ok(Self { decoder: mantis_schemas::Decoder::new(config)?, rejects: Vec::new(), json: Vec::new() })
    }

    /// The names behind the series ids in the columns.
    pub fn series(&self) -> SeriesTable {
        self.decoder.series()
    }

    /// Decodes the good rows; the error says why the record has to be kept as it is, whole or beside them.
    fn rows(&mut self, record: &Record<'_>, into: &mut ArchiveRows) -> Result<(), (&'static str, String)> {
        let payload = record.payload.ok_or(("empty-payload", "the record has no value".to_owned()))?;
        let meta = RecordMeta { key: record.key, timestamp_ms: record.timestamp_ms };
        self.rejects.clear();
        let before = into.decoded.len();
        match &mut into.decoded {
            Decoded::Readings(readings) => self.decoder.readings(meta, payload, readings, &mut self.rejects),
            Decoded::Frames(frames) => self.decoder.frames(meta, payload, frames, &mut self.rejects),
            Decoded::Features(features) => self.decoder.features(meta, payload, features, &mut self.rejects),
            Decoded::Events(events) => self.decoder.event(meta, payload).and_then(|event| {
                self.json.clear();
                json::event(&mut self.json, &event);
                events.push(EventRow {
                    asset: (&*event.asset).into(),
                    time_ns: event.time_ns,
                    kind: kind(&event.body).into(),
                    json: String::from_utf8_lossy(&self.json).into(),
                });
                Ok(())
            }),
            Decoded::Records => return Err(("dead-letter", "records of this topic are kept as they are".to_owned())),
        }
        .map_err(|reject| {
            into.decoded.truncate(before);
            whole(reject)
        })?;
        let decoded = into.decoded.len() - before;
        self.place(record.offset, decoded, into);
        match self.rejects.first() {
            Some(first) => Err((first.reject.code, self.refused())),
            None if decoded == 0 => Err(("no-rows", "the record holds no row".to_owned())),
            None => Ok(()),
        }
    }

    /// Gives the decoded rows the indexes that they have in the record, refused ones counted.
    fn place(&self, offset: i64, decoded: usize, into: &mut ArchiveRows) {
        let mut row = 0_u32;
        let mut rejects = self.rejects.iter().peekable();
        for _ in 0..decoded {
            while rejects.next_if(|reject| reject.row == row).is_some() {
                row += 1;
            }
            into.placed(offset, i32::try_from(row).unwrap_or(i32::MAX));
            row += 1;
        }
    }

    /// The refused rows with their reasons, rows of one reason together.
    fn refused(&self) -> String {
        let mut text = String::new();
        let named = self.rejects.get(..ROWS_NAMED_MAX).unwrap_or(&self.rejects);
        for rejects in named.chunk_by(|a, b| a.reject == b.reject) {
            let rows: Vec<String> = rejects.iter().map(|reject| reject.row.to_string()).collect();
            let reason = rejects.first().map(|reject| reject.reject.to_string()).unwrap_or_default();
            // Writing to memory cannot fail.
            let _ = write!(text, "{}row {}: {reason}", if text.is_empty() { "" } else { "; " }, rows.join(", "));
        }
        if self.rejects.len() > ROWS_NAMED_MAX {
            let _ = write!(text, "; and {} more", self.rejects.len() - ROWS_NAMED_MAX);
        }
        text
    }
}

impl Decoder for ArchiveDecoder {
    type Columns = ArchiveColumns;

    fn columns(&self, topic: &str) -> ArchiveColumns {
        ArchiveColumns::new(Kind::of_topic(topic))
    }

    fn decode(&mut self, record: &Record<'_>, into: &mut ArchiveColumns, rejects: &mut Vec<RowReject>) -> Result<(), Reason> {
        self.decode_with_headers(record, Vec::new, into, rejects)
    }

    fn decode_with_headers(
        &mut self,
        record: &Record<'_>,
        headers: impl FnOnce() -> Vec<Header>,
        into: &mut ArchiveColumns,
        _rejects: &mut Vec<RowReject>,
    ) -> Result<(), Reason> {
        into.begin(record);
        if let Err((code, reason)) = self.rows(record, &mut into.rows) {
            let original = Original {
                timestamp_ms: record.timestamp_ms,
                key: record.key.map(<[u8]>::to_vec),
                payload: record.payload.map(<[u8]>::to_vec),
                headers: headers(),
                code: code.to_owned(),
                reason,
            };
            into.rows.keep(record.offset, original);
        }
        Ok(())
    }
}

fn whole(reject: Reject) -> (&'static str, String) {
    (reject.code, reject.detail.into_owned())
}

fn kind(body: &EventBody<'_>) -> &'static str {
    match body {
        EventBody::MachineState { .. } => "machine_state",
        EventBody::ProductionCount { .. } => "production_count",
        EventBody::Alarm { .. } => "alarm",
        EventBody::WorkOrder { .. } => "work_order",
        _ => "event",
    }
}
