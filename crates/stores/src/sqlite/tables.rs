//! Tables that several stores have. Their texts are parts of steps of [`FileKind`](super::FileKind): never changed.
//!
//! Doubles lie in ANY columns, which take them bit for bit: a REAL column stores whole numbers as integers and so loses
//! the sign of -0.0.

/// The names behind ids of series.
pub(crate) const SERIES: &str = "
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        asset TEXT NOT NULL,
        sensor TEXT NOT NULL,
        UNIQUE (asset, sensor)
    ) STRICT;
";

/// Readings by series and source time.
pub(crate) const READINGS: &str = "
    CREATE TABLE readings (
        series INTEGER NOT NULL,
        time_ns INTEGER NOT NULL,
        value ANY NOT NULL,
        quality INTEGER NOT NULL,
        arrival_ms INTEGER NOT NULL,
        PRIMARY KEY (series, time_ns)
    ) STRICT, WITHOUT ROWID;
";

/// Where the file ends.
pub(crate) const LEDGER: &str = "
    CREATE TABLE ledger (
        cluster_id TEXT NOT NULL,
        consumer_group TEXT NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        next_offset INTEGER NOT NULL,
        PRIMARY KEY (cluster_id, consumer_group, topic, partition)
    ) STRICT, WITHOUT ROWID;
";

/// From where rows are kept.
pub(crate) const RETENTION: &str = "
    CREATE TABLE retention (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        retained_from_ns INTEGER NOT NULL
    ) STRICT;
";
