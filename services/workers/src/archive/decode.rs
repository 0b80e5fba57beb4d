//! Records of every topic into what the archive keeps. Nothing is refused: what cannot be decoded is kept as it is.

use std::fmt::Write;

use mantis_pipeline::{Decoder, Header, Reason, Record, RowReject};
use mantis_schemas::{ConfigError, DecoderConfig, EventBody, Reject, SeriesTable, encode::json};
use mantis_stores::archive::columns::{ArchiveColumns, ArchiveRows, Decoded, EventRow, Kind, Original};

use crate::decode::{Contract, rows_as_sent};

/// Refused rows of a record that are named; the record is kept whole, so all of them can be found again.
const ROWS_NAMED_MAX: usize = 1_000;

/// Decodes the records of a topic by what the topic holds, as the other workers do.
#[derive(Debug)]
pub struct ArchiveDecoder {
    contract: Contract,
    rejects: Vec<RowReject>,
    json: Vec<u8>,
}

impl ArchiveDecoder {
    /// A decoder with this configuration.
    ///
    /// # Errors
    /// A registered schema cannot be used.
    pub fn new(config: DecoderConfig) -> Result<Self, ConfigError> {
        Ok(Self { contract: Contract::new(config)?, rejects: Vec::new(), json: Vec::new() })
    }

    /// The names behind the series ids in the columns.
    pub fn series(&self) -> SeriesTable {
        self.contract.series()
    }

    /// Decodes the good rows; the error says why the record has to be kept as it is, whole or beside them.
    fn rows(&mut self, record: &Record<'_>, into: &mut ArchiveRows) -> Result<(), Reason> {
        let Self { contract, rejects, json: text } = self;
        rejects.clear();
        let before = into.decoded.len();
        let read = contract.decode(record, rejects, |decoder, meta, payload, rejects| match &mut into.decoded {
            Decoded::Readings(readings) => decoder.readings(meta, payload, readings, rejects),
            Decoded::Frames(frames) => decoder.frames(meta, payload, frames, rejects),
            Decoded::Features(features) => decoder.features(meta, payload, features, rejects),
            Decoded::Events(events) => decoder.event(meta, payload).map(|event| {
                text.clear();
                json::event(text, &event);
                events.push(EventRow {
                    asset: (&*event.asset).into(),
                    time_ns: event.time_ns,
                    kind: kind(&event.body).into(),
                    json: String::from_utf8_lossy(text).into(),
                });
            }),
            Decoded::Records => Err(Reject { code: "dead-letter", detail: "records of this topic are kept as they are".into() }),
        });
        read.inspect_err(|_| into.decoded.truncate(before))?;
        let decoded = into.decoded.len() - before;
        self.place(record.offset, decoded, into);
        match self.rejects.first() {
            Some(first) => Err(Reason::new(first.reason.code, self.refused())),
            None if decoded == 0 => Err(Reason::new("no-rows", "the record holds no row")),
            None => Ok(()),
        }
    }

    /// Gives the decoded rows the indexes that they have in the record, refused ones counted.
    fn place(&self, offset: i64, decoded: usize, into: &mut ArchiveRows) {
        for row in rows_as_sent(decoded, &self.rejects) {
            into.placed(offset, i32::try_from(row).unwrap_or(i32::MAX));
        }
    }

    /// The refused rows with their reasons, rows of one reason together.
    fn refused(&self) -> String {
        let mut text = String::new();
        let named = self.rejects.get(..ROWS_NAMED_MAX).unwrap_or(&self.rejects);
        for rejects in named.chunk_by(|a, b| a.reason == b.reason) {
            let rows: Vec<String> = rejects.iter().map(|reject| reject.row.to_string()).collect();
            let reason = rejects.first().map(|reject| reject.reason.to_string()).unwrap_or_default();
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
        if let Err(Reason { code, detail }) = self.rows(record, &mut into.rows) {
            let original = Original {
                timestamp_ms: record.timestamp_ms,
                key: record.key.map(<[u8]>::to_vec),
                payload: record.payload.map(<[u8]>::to_vec),
                headers: headers(),
                code: code.to_owned(),
                reason: detail.into_owned(),
            };
            into.rows.keep(record.offset, original);
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use mantis_pipeline::Columns;
    use mantis_schemas::topics;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn decode(topic: &str, payloads: &[Option<&str>]) -> ArchiveColumns {
        let mut decoder = ArchiveDecoder::new(DecoderConfig::default()).unwrap();
        let mut columns = decoder.columns(topic);
        for (offset, payload) in (10..).zip(payloads) {
            let payload = payload.map(str::as_bytes);
            let record = Record { offset, timestamp_ms: Some(NOW_MS), key: Some(b"pump"), payload };
            let headers = || vec![Header { key: "trace".into(), value: Some(vec![0, 255]) }];
            decoder.decode_with_headers(&record, headers, &mut columns, &mut Vec::new()).unwrap();
        }
        columns
    }

    const GOOD: &str = r#"{"asset":"pump","sensor":"flow","time_ns":1600000000000000000,"value":1.5}"#;

    #[test]
    fn what_cannot_be_decoded_is_kept_whole_with_its_headers_and_the_reason() {
        let columns = decode(topics::READINGS, &[Some(GOOD), Some("{broken"), None, Some(GOOD)]);
        assert_eq!((&columns.rows.offset[..], &columns.rows.row[..]), (&[10, 11, 12, 13][..], &[0, -1, -1, 0][..]));
        let [broken, empty] = &columns.rows.originals[..] else { panic!("two records are kept") };
        assert_eq!((broken.code.as_str(), empty.code.as_str()), ("broken-json", "empty-payload"));
        assert_eq!((broken.payload.as_deref(), empty.payload.as_deref()), (Some(&b"{broken"[..]), None));
        assert_eq!((broken.key.as_deref(), broken.timestamp_ms), (Some(&b"pump"[..]), Some(NOW_MS)));
        assert_eq!(broken.headers, [Header { key: "trace".into(), value: Some(vec![0, 255]) }]);
    }

    #[test]
    fn a_record_with_refused_rows_is_kept_whole_beside_its_good_rows_which_keep_their_indexes() {
        let row = |time: i64| format!(r#"{{"sensor":"flow","time_ns":{time},"value":1}}"#);
        let (good, late) = (row(1_600_000_000_000_000_000), row(i64::MAX));
        let mixed = format!(r#"{{"asset":"pump","readings":[{late},{good},{late},{good}]}}"#);
        let columns = decode(topics::READINGS, &[Some(&mixed)]);
        assert_eq!(columns.rows.row, [1, 3, ArchiveRows::ORIGINAL]);
        let original = &columns.rows.originals[0];
        assert_eq!(original.payload.as_deref(), Some(mixed.as_bytes()));
        assert!(original.reason.starts_with("row 0, 2: time-out-of-range: "), "{}", original.reason);
    }

    #[test]
    fn every_record_has_a_row_so_that_none_is_forgotten() {
        let columns = decode(topics::READINGS, &[Some(r#"{"asset":"pump","readings":[]}"#)]);
        assert_eq!((columns.rows(), columns.marks().len()), (1, 1));
        assert_eq!(columns.rows.originals[0].code, "no-rows");
    }

    #[test]
    fn events_are_decoded_and_dead_letters_are_kept_as_they_are() {
        let event = r#"{"asset":"pump","time_ns":1600000000000000000,"kind":"machine_state","state":"running"}"#;
        let columns = decode(topics::EVENTS, &[Some(event), Some(GOOD)]);
        let Decoded::Events(events) = &columns.rows.decoded else { panic!("{columns:?}") };
        assert_eq!((events.rows()[0].json.as_ref(), columns.rows.originals.len()), (event, 1));
        assert_eq!(events.rows()[0].kind.as_ref(), "machine_state");

        let columns = decode(&topics::dead_letter(topics::READINGS), &[Some(GOOD), None]);
        assert_eq!((columns.rows.row, columns.rows.originals.len()), (vec![-1, -1], 2));
    }
}
