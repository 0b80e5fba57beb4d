//! The contract's decoder as the road wants it: records of the raw topics into columns.

use mantis_pipeline::{Decoder, Reason, Record, RowReject};
use mantis_schemas::{ConfigError, DecoderConfig, FrameColumns, ReadingColumns, SeriesTable, topics};
use mantis_stores::raw::RawColumns;

use crate::decode::Contract;

/// Decodes readings and frames; which of them a record must hold depends on its topic.
#[derive(Debug)]
pub struct RecordDecoder(Contract);

impl RecordDecoder {
    /// A decoder with this configuration.
    ///
    /// # Errors
    /// A registered schema cannot be used.
    pub fn new(config: DecoderConfig) -> Result<Self, ConfigError> {
        Ok(Self(Contract::new(config)?))
    }

    /// The names behind the series ids in the columns.
    pub fn series(&self) -> SeriesTable {
        self.0.series()
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
        self.0.decode(record, rejects, |decoder, meta, payload, rejects| match into {
            RawColumns::Readings(readings) => decoder.readings(meta, payload, readings, rejects),
            RawColumns::Frames(frames) => decoder.frames(meta, payload, frames, rejects),
        })
    }
}
