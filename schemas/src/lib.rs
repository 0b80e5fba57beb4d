//! The contract between gateways, workers and stores: what a reading, a frame, an event and a feature are, how they look in
//! Avro and in JSON, which topics carry them, and decoders that borrow from the payload and write straight into columns.
//!
//! Pure: no I/O, no clock, no task.

mod avro;
mod check;
mod columns;
mod decoder;
pub mod encode;
mod event;
mod events;
mod feature;
mod features;
mod fingerprint;
mod frames;
mod framing;
mod json;
mod known;
mod plan;
mod readings;
mod records;
mod reject;
mod schema;
mod series;
mod time;
pub mod topics;
mod value;

pub use check::{NAME_BYTES_MAX, is_name};
pub use columns::{Frame, FrameColumns, Quality, ReadingColumns, SampleFormat};
pub use decoder::{
    AcceptedTimes, ConfigError, Decoder, DecoderConfig, ROWS_PER_RECORD_MAX, RecordMeta, RegisteredSchema, SERIES_MAX,
};
pub use event::{Event, EventBody, OrderPhase, State};
pub use events::EVENT_TEXT_BYTES_MAX;
pub use feature::{Feature, FeatureColumns, Figure, Figures, parse_window, window_name};
pub use records::{FrameRecord, Reading, ReadingBatch};
pub use reject::{Reject, RowReject};
pub use series::{Series, SeriesId, SeriesInterner, SeriesTable};
