//! From records to payloads. Each function appends one payload to a buffer that the caller reuses.
//!
//! What is written is what was given: names, times and values are checked by the decoder, not here.

pub mod avro;
pub mod json;
