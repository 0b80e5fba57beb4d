//! The file of a feature store.

use crate::sqlite::{
    FileKind,
    tables::{LEDGER, READINGS, RETENTION, SERIES},
};

/// What tells a feature store's file from others, and its tables. The `application_id` is "MNTF".
///
/// A new figure takes a new step that adds its column: `ALTER TABLE features ADD COLUMN`.
pub(super) static KIND: FileKind = FileKind {
    name: "feature store",
    worker: "timescale",
    application_id: 0x4D4E_5446,
    steps: &[&[SERIES, FEATURES, READINGS, LEDGER, RETENTION, FEATURES_BY_NAME]],
};

/// The rows of a series and window lie together in order of start, which is how they are written and read.
const FEATURES: &str = r#"
    CREATE TABLE features (
        series INTEGER NOT NULL,
        window_ns INTEGER NOT NULL,
        start_ns INTEGER NOT NULL,
        end_ns INTEGER NOT NULL,
        version INTEGER NOT NULL,
        count INTEGER NOT NULL,
        uncertain INTEGER NOT NULL,
        bad INTEGER NOT NULL,
        coverage ANY,
        exact INTEGER NOT NULL,
        provisional INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        processed_ms INTEGER NOT NULL,
        extras TEXT NOT NULL,
        mean ANY,
        std ANY,
        min ANY,
        max ANY,
        "first" ANY,
        "last" ANY,
        rms ANY,
        peak ANY,
        peak_to_peak ANY,
        crest_factor ANY,
        shape_factor ANY,
        impulse_factor ANY,
        clearance_factor ANY,
        skewness ANY,
        kurtosis_excess ANY,
        zero_crossings ANY,
        rms_ac ANY,
        peak_ac ANY,
        crest_factor_ac ANY,
        sample_rate_hz ANY,
        dominant_frequency_hz ANY,
        dominant_amplitude ANY,
        centroid_hz ANY,
        PRIMARY KEY (series, window_ns, start_ns)
    ) STRICT, WITHOUT ROWID;
"#;

/// Features as people read them. The division rounds towards zero, so a start before 1970 takes a second less.
const FEATURES_BY_NAME: &str = r#"
    CREATE VIEW features_by_name AS SELECT
        asset,
        sensor,
        CASE
            WHEN window_ns = 0 THEN 'frame'
            WHEN window_ns % 86400000000000 = 0 THEN (window_ns / 86400000000000) || 'd'
            WHEN window_ns % 3600000000000 = 0 THEN (window_ns / 3600000000000) || 'h'
            WHEN window_ns % 60000000000 = 0 THEN (window_ns / 60000000000) || 'm'
            WHEN window_ns % 1000000000 = 0 THEN (window_ns / 1000000000) || 's'
            WHEN window_ns % 1000000 = 0 THEN (window_ns / 1000000) || 'ms'
            ELSE window_ns || 'ns'
        END AS "window",
        strftime('%Y-%m-%dT%H:%M:%S', start_ns / 1000000000 - (start_ns % 1000000000 < 0), 'unixepoch')
            || printf('.%09dZ', (start_ns % 1000000000 + 1000000000) % 1000000000) AS start,
        features.*
    FROM features JOIN series ON series.id = features.series;
"#;
