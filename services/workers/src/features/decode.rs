//! From records to the columns of the features worker.

use mantis_pipeline::{Columns, Decoder, Header, Reason, Record, RowReject};
use mantis_stores::raw::RawColumns;

use super::traces::{self, Trace};
use crate::raw::RecordDecoder;

/// Readings or frames, and the record that each came from.
#[derive(Clone, Debug)]
pub(super) struct FeatureInput {
    pub(super) rows: RawColumns,
    /// Offset of the record of each row.
    pub(super) offsets: Vec<i64>,
    /// Trace contexts of records that have one, by offset.
    pub(super) traces: Vec<(i64, Trace)>,
}

impl Columns for FeatureInput {
    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn truncate(&mut self, rows: usize) {
        self.rows.truncate(rows);
        self.offsets.truncate(rows);
        let last = self.offsets.last().copied();
        while self.traces.last().is_some_and(|(offset, _)| last.is_none_or(|last| *offset > last)) {
            self.traces.pop();
        }
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
        FeatureInput { rows: self.0.columns(topic), offsets: Vec::new(), traces: Vec::new() }
    }

    fn decode(&mut self, record: &Record<'_>, into: &mut FeatureInput, rejects: &mut Vec<RowReject>) -> Result<(), Reason> {
        self.0.decode(record, &mut into.rows, rejects)?;
        into.offsets.resize(into.rows.rows(), record.offset);
        Ok(())
    }

    fn decode_with_headers(
        &mut self,
        record: &Record<'_>,
        headers: impl FnOnce() -> Vec<Header>,
        into: &mut FeatureInput,
        rejects: &mut Vec<RowReject>,
    ) -> Result<(), Reason> {
        self.decode(record, into, rejects)?;
        into.traces.extend(traces::of_headers(&headers()).map(|trace| (record.offset, trace)));
        Ok(())
    }
}
