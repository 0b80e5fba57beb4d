//! The contract's decoder as the road wants it: records of the raw topics into columns.

use mantis_pipeline::{Decoder, Reason, Record, RowReject};
use mantis_schemas::{ConfigError, DecoderConfig, FrameColumns, ReadingColumns, RecordMeta, Reject, SeriesTable, topics};
use mantis_stores::raw::RawColumns;

const NO_VALUE: Reason =
    Reason { code: "empty-payload", detail: std::borrow::Cow::Borrowed("the record has no value: a reading or frame needs one") };

/// Decodes readings and frames; which of them a record must hold depends on its topic.
#[derive(Debug)]
pub struct RecordDecoder {
    decoder: mantis_schemas::Decoder,
    rejects: Vec<mantis_schemas::RowReject>,
}

impl RecordDecoder {
    /// A decoder with this configuration.
    ///
    /// # Errors
    /// A registered schema cannot be used.
    pub fn new(config: DecoderConfig) -> Result<Self, ConfigError> {
        Ok(Self { decoder: mantis_schemas::Decoder::new(config)?, rejects: Vec::new() })
    }

    /// The names behind the series ids in the columns.
    pub fn series(&self) -> SeriesTable {
        self.decoder.series()
    }
}

impl Decoder for RecordDecoder {
    type Columns = RawColumns;

    fn columns(&self, topic: &str) -> RawColumns {
        if topic == topics::WAVEFORMS {
            RawColumns::Frames(FrameColumns::default())
        } else {
            RawColumns::Readings(ReadingColumns::default())
        }
    }

    fn decode(&mut self, record: &Record<'_>, into: &mut RawColumns, rejects: &mut Vec<RowReject>) -> Result<(), Reason> {
        let payload = record.payload.ok_or(NO_VALUE)?;
        let meta = RecordMeta { key: record.key, timestamp_ms: record.timestamp_ms };
        self.rejects.clear();
        match into {
            RawColumns::Readings(readings) => self.decoder.readings(meta, payload, readings, &mut self.rejects),
            RawColumns::Frames(frames) => self.decoder.frames(meta, payload, frames, &mut self.rejects),
        }
        .map_err(reason)?;
        rejects.extend(self.rejects.drain(..).map(|refused| RowReject { row: refused.row, reason: reason(refused.reject) }));
        Ok(())
    }
}

fn reason(reject: Reject) -> Reason {
    Reason { code: reject.code, detail: reject.detail }
}
