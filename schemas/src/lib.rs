//! The contract: Reading, Frame and Event, their Avro and JSON forms, and decoders that write straight into columns.
