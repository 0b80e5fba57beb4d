//! Topic names and the limits that belong to them.

/// Scalar readings; key = asset.
pub const READINGS: &str = "mantis.readings";
/// Waveform frames; key = asset.
pub const WAVEFORMS: &str = "mantis.waveforms";
/// Machine states, production counts, alarms and work orders; key = asset.
pub const EVENTS: &str = "mantis.events";
/// Condition features; key = asset. Written by the features worker.
pub const FEATURES: &str = "mantis.features";
/// Snapshots of the features worker's state; compacted.
pub const FEATURE_STATE: &str = "mantis.feature-state";
/// Topics that gateways publish to.
pub const SOURCES: [&str; 3] = [READINGS, WAVEFORMS, EVENTS];

/// Largest record batch of a source topic (`max.message.bytes`).
pub const SOURCE_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Largest record batch of a dead-letter topic: room for the largest source record and the reasons.
pub const DEAD_LETTER_MESSAGE_BYTES_MAX: usize = 4 << 20;

const DEAD_LETTER_SUFFIX: &str = ".dlq";

/// The dead-letter topic of a source topic.
pub fn dead_letter(topic: &str) -> String {
    format!("{topic}{DEAD_LETTER_SUFFIX}")
}

/// The source topic of a dead-letter topic, or `None` if `topic` is not one.
pub fn source_of_dead_letter(topic: &str) -> Option<&str> {
    topic.strip_suffix(DEAD_LETTER_SUFFIX).filter(|source| !source.is_empty())
}
