//! The file of a raw store.

use crate::sqlite::{
    FileKind,
    tables::{LEDGER, READINGS, RETENTION, SERIES},
};

/// What tells a raw store's file from others, and its tables. The `application_id` is "MNTR".
pub(super) static KIND: FileKind = FileKind {
    name: "raw store",
    worker: "raw",
    application_id: 0x4D4E_5452,
    steps: &[&[SERIES, READINGS, FRAMES, LEDGER, RETENTION]],
};

const FRAMES: &str = "
    CREATE TABLE frames (
        series INTEGER NOT NULL,
        start_ns INTEGER NOT NULL,
        sample_rate_hz ANY NOT NULL,
        format INTEGER NOT NULL,
        scale ANY NOT NULL,
        quality INTEGER NOT NULL,
        arrival_ms INTEGER NOT NULL,
        samples BLOB NOT NULL,
        UNIQUE (series, start_ns)
    ) STRICT;
";
