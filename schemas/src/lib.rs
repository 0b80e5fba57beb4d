//! The contract between gateways, workers and stores: what a reading, a frame and an event are, how they look in
//! Avro and in JSON, which topics carry them, and decoders that borrow from the payload and write straight into columns.
//!
//! Pure: no I/O, no clock, no task.

mod columns;
pub mod encode;
mod event;
mod fingerprint;
mod framing;
mod known;
mod records;
mod reject;
mod schema;
mod series;
pub mod topics;

pub use columns::{Frame, FrameColumns, Quality, ReadingColumns, SampleFormat};
pub use event::{Event, EventBody, OrderPhase, State};
pub use records::{FrameRecord, Reading, ReadingBatch};
pub use reject::{Reject, RowReject};
pub use series::{Series, SeriesId, SeriesInterner, SeriesTable};
