//! The columns of each kind, and how they are encoded: measured on recordings, see docs/archive.md.

use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    schema::types::ColumnPath,
};

use super::ObjectError;
use crate::archive::columns::Kind;

pub(super) const OFFSET: &str = "offset";
pub(super) const ROW: &str = "row";
pub(super) const ASSET: &str = "asset";
pub(super) const SENSOR: &str = "sensor";
pub(super) const TIME: &str = "time";
pub(super) const VALUE: &str = "value";
pub(super) const QUALITY: &str = "quality";
pub(super) const ARRIVAL: &str = "arrival";
pub(super) const START: &str = "start";
pub(super) const RATE: &str = "sample_rate_hz";
pub(super) const FORMAT: &str = "format";
pub(super) const SCALE: &str = "scale";
pub(super) const SAMPLES: &str = "samples";
pub(super) const WINDOW: &str = "window_ns";
pub(super) const END: &str = "end";
pub(super) const VERSION: &str = "version";
pub(super) const COUNT: &str = "count";
pub(super) const UNCERTAIN: &str = "uncertain";
pub(super) const BAD: &str = "bad";
pub(super) const COVERAGE: &str = "coverage";
pub(super) const EXACT: &str = "exact";
pub(super) const PROVISIONAL: &str = "provisional";
pub(super) const REVISION: &str = "revision";
pub(super) const PROCESSED: &str = "processed";
pub(super) const EXTRAS: &str = "extras";
pub(super) const KIND: &str = "kind";
pub(super) const EVENT: &str = "event";
pub(super) const ORIGINAL_TIMESTAMP: &str = "original_timestamp_ms";
pub(super) const ORIGINAL_KEY: &str = "original_key";
pub(super) const ORIGINAL_PAYLOAD: &str = "original_payload";
pub(super) const ORIGINAL_HEADER_NAMES: &str = "original_header_names";
pub(super) const ORIGINAL_HEADER_VALUES: &str = "original_header_values";
pub(super) const ORIGINAL_CODE: &str = "original_code";
pub(super) const ORIGINAL_REASON: &str = "original_reason";

/// Above it the files hardly shrink, but writing takes longer.
const ZSTD_LEVEL: i32 = 9;
/// Bytes of a page, the unit of compression. Numbers with few decimals repeat over a long way only: with pages of a
/// customary size they take a third more.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Rows of a row group; what a reader of Parquet holds at a time.
const ROW_GROUP_ROWS_MAX: usize = 1 << 20;
/// Bytes of a row group in memory.
const ROW_GROUP_BYTES_MAX: usize = 64 << 20;
/// Values that are encoded between two looks at a page's size.
const WRITE_ROWS: usize = 1024;

/// Numbers that rise, or come in runs.
const DELTAS: [&str; 8] = [OFFSET, ROW, TIME, START, END, ARRIVAL, REVISION, PROCESSED];
/// What hardly repeats. Doubles with few decimals are smaller so than with their bytes split into streams, or as a dictionary.
const PLAIN: [&str; 3] = [VALUE, SAMPLES, ORIGINAL_PAYLOAD];

impl Kind {
    /// Version of the kind's columns: a column that is added raises it.
    pub(super) fn version(self) -> u32 {
        match self {
            Self::Readings | Self::Frames | Self::Features | Self::Events | Self::Records => 1,
        }
    }
}

/// How a file is written.
pub(super) fn properties() -> Result<WriterProperties, ObjectError> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(ObjectError::defect)?;
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_data_page_size_limit(PAGE_BYTES_MAX)
        .set_data_page_row_count_limit(ROW_GROUP_ROWS_MAX)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .set_write_batch_size(WRITE_ROWS);
    let builder =
        DELTAS.into_iter().fold(builder, |builder, name| without_dictionary(builder, name, Encoding::DELTA_BINARY_PACKED));
    let builder = PLAIN.into_iter().fold(builder, |builder, name| without_dictionary(builder, name, Encoding::PLAIN));
    Ok(builder.build())
}

fn without_dictionary(builder: WriterPropertiesBuilder, name: &str, encoding: Encoding) -> WriterPropertiesBuilder {
    let column = ColumnPath::from(name);
    builder.set_column_dictionary_enabled(column.clone(), false).set_column_encoding(column, encoding)
}
