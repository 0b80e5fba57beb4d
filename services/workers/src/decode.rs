//! The contract's decoder as roads want it.

use mantis_pipeline::{Decoder, Reason, Record, RowReject};
use mantis_schemas::{ConfigError, DecoderConfig, FeatureColumns, ReadingColumns, RecordMeta, Reject, SeriesTable, topics};
use mantis_stores::ValueColumns;

const NO_VALUE: Reason = Reason {
    code: "empty-payload",
    detail: std::borrow::Cow::Borrowed("the record has no value: a reading, frame, feature or event needs one"),
};

/// What the decoders of all workers share.
#[derive(Debug)]
pub(crate) struct Contract {
    decoder: mantis_schemas::Decoder,
    rejects: Vec<mantis_schemas::RowReject>,
}

impl Contract {
    pub(crate) fn new(config: DecoderConfig) -> Result<Self, ConfigError> {
        Ok(Self { decoder: mantis_schemas::Decoder::new(config)?, rejects: Vec::new() })
    }

    /// The names behind the series ids that it gives out.
    pub(crate) fn series(&self) -> SeriesTable {
        self.decoder.series()
    }

    /// Reads a record's payload as `read` does.
    pub(crate) fn decode(
        &mut self,
        record: &Record<'_>,
        rejects: &mut Vec<RowReject>,
        read: impl FnOnce(
            &mut mantis_schemas::Decoder,
            RecordMeta<'_>,
            &[u8],
            &mut Vec<mantis_schemas::RowReject>,
        ) -> Result<(), Reject>,
    ) -> Result<(), Reason> {
        let payload = record.payload.ok_or(NO_VALUE)?;
        let meta = RecordMeta { key: record.key, timestamp_ms: record.timestamp_ms };
        self.rejects.clear();
        read(&mut self.decoder, meta, payload, &mut self.rejects).map_err(reason)?;
        rejects.extend(self.rejects.drain(..).map(|refused| RowReject { row: refused.row, reason: reason(refused.reject) }));
        Ok(())
    }
}

fn reason(reject: Reject) -> Reason {
    Reason { code: reject.code, detail: reject.detail }
}

/// Decodes features and readings; which of them a record must hold depends on its topic.
#[derive(Debug)]
pub struct ValueDecoder(Contract);

impl ValueDecoder {
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

impl Decoder for ValueDecoder {
    type Columns = ValueColumns;

    fn columns(&self, topic: &str) -> ValueColumns {
        if topic == topics::FEATURES {
            ValueColumns::Features(FeatureColumns::default())
        } else {
            ValueColumns::Readings(ReadingColumns::default())
        }
    }

    fn decode(&mut self, record: &Record<'_>, into: &mut ValueColumns, rejects: &mut Vec<RowReject>) -> Result<(), Reason> {
        self.0.decode(record, rejects, |decoder, meta, payload, rejects| match into {
            ValueColumns::Features(features) => decoder.features(meta, payload, features, rejects),
            ValueColumns::Readings(readings) => decoder.readings(meta, payload, readings, rejects),
        })
    }
}

/// The numbers that its sender gave to the `good` rows of a record: dead letters name rows by them. `rejects` are the others.
pub(crate) fn rows_as_sent(good: usize, rejects: &[RowReject]) -> impl Iterator<Item = u32> {
    let mut rejects = rejects.iter().map(|reject| reject.row).peekable();
    (0..=u32::MAX).filter(move |row| rejects.next_if_eq(row).is_none()).take(good)
}

#[cfg(test)]
mod tests {
    use mantis_pipeline::Reason;

    use super::*;

    #[test]
    fn good_rows_keep_the_numbers_of_their_record_around_the_refused_ones() {
        for (good, refused, expected) in
            [(3, vec![], vec![0, 1, 2]), (2, vec![0, 2], vec![1, 3]), (1, vec![1, 2], vec![0]), (0, vec![0], vec![])]
        {
            let reject = |row| RowReject { row, reason: Reason::new("not-finite", "") };
            let rejects: Vec<_> = refused.into_iter().map(reject).collect();
            assert_eq!(rows_as_sent(good, &rejects).collect::<Vec<u32>>(), expected);
        }
    }
}
