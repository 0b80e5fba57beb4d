//! From records to the columns of the features worker.

use mantis_pipeline::{Columns, Decoder, Reason, Record, RowReject};
use mantis_stores::raw::RawColumns;

use crate::raw::RecordDecoder;

/// Readings or frames, and the record that each came from.
#[derive(Clone, Debug)]
pub(super) struct FeatureInput {
    pub(super) rows: RawColumns,
    /// Offset of the record of each row.
    pub(super) offsets: Vec<i64>,
}

impl Columns for FeatureInput {
    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn truncate(&mut self, rows: usize) {
        self.rows.truncate(rows);
        self.offsets.truncate(rows);
    }

    fn bytes(&self) -> usize {
        self.rows.bytes() + self.offsets.len() * size_of::<i64>()
    }
}

/// Decodes as the raw worker does, and notes offsets.
#[derive(Debug)]
pub(super) struct FeatureDecoder(pub(super) RecordDecoder);

impl Decoder for FeatureDecoder {
    type Columns = FeatureInput;

    fn columns(&self, topic: &str) -> FeatureInput {
        FeatureInput { rows: self.0.columns(topic), offsets: Vec::new() }
    }

    fn decode(&mut self, record: &Record<'_>, into: &mut FeatureInput, rejects: &mut Vec<RowReject>) -> Result<(), Reason> {
        self.0.decode(record, &mut into.rows, rejects)?;
        into.offsets.resize(into.rows.rows(), record.offset);
        Ok(())
    }
}
