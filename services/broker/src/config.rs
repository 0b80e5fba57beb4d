//! Settings and bounds of the broker. Every bound has a default that suits one edge box.

use std::path::PathBuf;

use crate::topics::TopicSettings;

/// Settings of a broker.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder that holds everything; made if absent, owned by one process.
    pub data_dir: PathBuf,
    /// Host and port that clients are told to use; by default the listener's own address.
    pub advertised: Option<(String, u16)>,
    /// Whether a topic that a client asks for with permission to create it comes into being.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator names no number.
    pub default_partitions: i32,
    /// Settings of topics that do not override them.
    pub topic_defaults: TopicSettings,
    /// Produce is refused with a retriable error while the disk has less room than this.
    pub min_free_bytes: u64,
    /// Time between two rounds of retention, compaction and expiry of groups.
    pub sweep_interval_ms: u64,
    /// Settings of consumer groups.
    pub groups: GroupConfig,
    /// Bounds.
    pub limits: Limits,
}

/// Settings of consumer groups.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay_ms: u64,
    /// Smallest session timeout that a member may ask for.
    pub session_timeout_min_ms: i32,
    /// Largest session timeout that a member may ask for.
    pub session_timeout_max_ms: i32,
    /// How long a group without members keeps its offsets, and with them its hold on retention.
    pub retention_ms: i64,
}

/// Bounds. What is beyond is refused, never queued without end.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; one more is closed at once.
    pub connections_max: usize,
    /// Bytes of one request.
    pub request_bytes_max: usize,
    /// Bytes of one request other than Produce.
    pub admin_request_bytes_max: usize,
    /// Bytes of requests that are being read and applied at once, over all connections.
    pub requests_in_flight_bytes_max: usize,
    /// Requests of one connection whose answers are outstanding; then nothing more is read from it.
    pub connection_requests_max: usize,
    /// Bytes of records in one fetch answer (one batch that is larger still goes out alone).
    pub fetch_bytes_max: usize,
    /// Bytes of fetch answers that are being built and sent at once, over all connections.
    pub fetches_in_flight_bytes_max: usize,
    /// Longest wait of a fetch for new records.
    pub fetch_wait_max_ms: u64,
    /// A connection that asks nothing for this long is closed.
    pub connection_idle_ms: u64,
    /// A request that began to arrive, or an answer that is being sent, must be through within this time.
    pub frame_timeout_ms: u64,
    /// Topics.
    pub topics_max: usize,
    /// Partitions of one topic.
    pub partitions_per_topic_max: i32,
    /// Partitions of all topics.
    pub partitions_max: usize,
    /// Groups.
    pub groups_max: usize,
    /// Members of one group.
    pub members_per_group_max: usize,
    /// Bytes of one member's subscriptions, and of one assignment.
    pub member_metadata_bytes_max: usize,
    /// Bytes of the text that a client may attach to a committed offset.
    pub offset_metadata_bytes_max: usize,
    /// Bytes of the table that compaction of one partition uses.
    pub compaction_table_bytes_max: usize,
    /// How long a shutdown waits for requests under way.
    pub shutdown_ms: u64,
}

impl Config {
    /// The default settings for the data folder `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Config {
        Config {
            data_dir: data_dir.into(),
            advertised: None,
            auto_create_topics: true,
            default_partitions: 1,
            topic_defaults: TopicSettings::default(),
            min_free_bytes: 256 << 20,
            sweep_interval_ms: 30_000,
            groups: GroupConfig::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for GroupConfig {
    fn default() -> GroupConfig {
        GroupConfig {
            initial_rebalance_delay_ms: 0,
            session_timeout_min_ms: 1_000,
            session_timeout_max_ms: 30 * 60_000,
            retention_ms: 7 * 24 * 3_600_000,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 512,
            request_bytes_max: 32 << 20,
            admin_request_bytes_max: 4 << 20,
            requests_in_flight_bytes_max: 96 << 20,
            connection_requests_max: 16,
            fetch_bytes_max: 8 << 20,
            fetches_in_flight_bytes_max: 96 << 20,
            fetch_wait_max_ms: 60_000,
            connection_idle_ms: 10 * 60_000,
            frame_timeout_ms: 60_000,
            topics_max: 1_000,
            partitions_per_topic_max: 256,
            partitions_max: 4_000,
            groups_max: 1_000,
            members_per_group_max: 256,
            member_metadata_bytes_max: 256 << 10,
            offset_metadata_bytes_max: 4 << 10,
            compaction_table_bytes_max: 64 << 20,
            shutdown_ms: 5_000,
        }
    }
}
