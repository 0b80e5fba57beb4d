//! Settings of clients: what MANTIS depends on is fixed, everything else passes through to librdkafka.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Error, raw::NativeConfig};

/// Bytes of a file that holds a secret.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Ending of a key whose value is the name of a file that holds the real value.
const FILE_SUFFIX: &str = "_file";
/// Longest that a coordinator may wait for a member before it gives its partitions to others.
const SESSION_TIMEOUT_MS: u32 = 15_000;
const HEARTBEAT_MS: u32 = 3_000;
/// Longest time between two looks at the queue, and the longest that a revoked partition may be held on to.
const POLL_INTERVAL_MS: u32 = 300_000;
/// Bytes of records that are fetched ahead; what is on the wire at the moment comes on top.
const PREFETCH_BYTES_MAX: u32 = 8 << 20;

/// Largest record that librdkafka sends.
const MESSAGE_BYTES_LIMIT: &str = "1000000000";
/// KiB of copies that wait for their acknowledgement: one of the largest finds room.
const COPY_QUEUE_KBYTES: usize = 1 << 20;

/// Settings that nobody may change, because a promise of MANTIS depends on them. Of every kind of client, so that a
/// mistake is found wherever the settings are first used.
const FIXED: &[(&str, &str, &str)] = &[
    ("enable.auto.commit", "false", "offsets are committed after the store has the rows"),
    ("auto.commit.enable", "false", "offsets are committed after the store has the rows"),
    ("enable.auto.offset.store", "false", "offsets are committed after the store has the rows"),
    ("offset.store.method", "broker", "offsets are kept by the group"),
    ("auto.offset.reset", "error", "a position that is gone is reported, never reset in silence"),
    ("enable.partition.eof", "false", "the reader of ranges sets it itself"),
    ("group.protocol", "classic", "the rebalance is driven by the worker"),
    ("enable.idempotence", "true", "a retry must not write a record twice or out of order"),
    ("acks", "all", "a record is sent when it is durable"),
    ("request.required.acks", "all", "a record is sent when it is durable"),
    ("partitioner", "murmur2_random", "keys must land on the partition where other Kafka clients put them"),
];

/// Settings that have a place of their own.
const ELSEWHERE: &[(&str, &str)] = &[
    ("bootstrap.servers", "brokers"),
    ("metadata.broker.list", "brokers"),
    ("client.id", "client_id"),
    ("group.id", "the name of the worker"),
    ("group.instance.id", "the settings of the worker"),
    ("partition.assignment.strategy", "the settings of the worker"),
    ("transactional.id", "nothing: transactions are not used"),
];

/// How to reach Kafka.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// Settings of librdkafka (TLS, SASL and anything else), by its names. A value may come from a file: `<name>_file`
    /// holds the file's name. What MANTIS depends on cannot be changed here.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// How the client calls itself in the brokers' logs.
    #[serde(default = "client_id")]
    pub client_id: String,
}

fn client_id() -> String {
    "mantis".into()
}

impl ClientConfig {
    /// Settings for the cluster at `brokers`, nothing else set.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), properties: BTreeMap::new(), client_id: client_id() }
    }

    /// Checks names, values, secret files and contradictions, without connecting.
    ///
    /// # Errors
    /// [`Error::Config`] names the key.
    pub fn check(&self) -> Result<(), Error> {
        NativeConfig::new(&self.client()?).map(drop)
    }

    /// The settings of a client of no special kind.
    pub(crate) fn client(&self) -> Result<Settings, Error> {
        self.with(&[])
    }

    /// The settings of a producer.
    pub(crate) fn producer(&self, queue_messages_max: usize, queue_kbytes_max: usize) -> Result<Settings, Error> {
        self.producer_with(queue_messages_max, queue_kbytes_max, "lz4")
    }

    /// The settings of a producer that waits for brokers without end.
    pub(crate) fn patient_producer(&self, queue_messages_max: usize, queue_kbytes_max: usize) -> Result<Settings, Error> {
        let mut settings = self.producer(queue_messages_max, queue_kbytes_max)?;
        settings.fix(&[("message.timeout.ms", "0")]);
        Ok(settings)
    }

    /// The settings of a producer of records that are in the log already and have to be written again, whatever their size: a
    /// topic bounds batches as they are sent, mostly compressed, and a client records before they are compressed.
    pub(crate) fn copier(&self, queue_messages_max: usize, codec: &str) -> Result<Settings, Error> {
        let mut settings = self.producer_with(queue_messages_max, COPY_QUEUE_KBYTES, codec)?;
        settings.fix(&[("message.max.bytes", MESSAGE_BYTES_LIMIT)]);
        Ok(settings)
    }

    fn producer_with(&self, queue_messages_max: usize, queue_kbytes_max: usize, codec: &str) -> Result<Settings, Error> {
        let messages = queue_messages_max.to_string();
        let kbytes = queue_kbytes_max.to_string();
        let mut settings = self.with(&[
            ("queue.buffering.max.messages", &messages),
            ("queue.buffering.max.kbytes", &kbytes),
            ("message.max.bytes", "5242880"),
            ("message.timeout.ms", "60000"),
            ("linger.ms", "5"),
            ("compression.type", codec),
        ])?;
        settings.fix(&[("enable.idempotence", "true"), ("acks", "all"), ("partitioner", "murmur2_random")]);
        Ok(settings)
    }

    /// The settings of a consumer that is no member of a group.
    pub(crate) fn reader(&self) -> Result<Settings, Error> {
        let mut settings = self.with(&[("check.crcs", "true")])?;
        settings.prefetch(PREFETCH_BYTES_MAX);
        settings.fix(&[("enable.partition.eof", "true"), ("auto.offset.reset", "error")]);
        Ok(settings)
    }

    /// Our defaults, overridden by the pass-through settings, with secrets read from their files.
    fn with(&self, defaults: &[(&str, &str)]) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        settings.fix(&[
            // A topic that is made while we wait for it is found soon.
            ("topic.metadata.refresh.interval.ms", "10000"),
            ("reconnect.backoff.ms", "50"),
            ("reconnect.backoff.max.ms", "2000"),
            ("socket.nagle.disable", "true"),
        ]);
        settings.fix(defaults);
        for (key, value) in &self.properties {
            let (key, value) = match key.strip_suffix(FILE_SUFFIX) {
                Some(name) if self.properties.contains_key(name) => {
                    return Err(Error::Config(format!("{name} and {key} are both set: keep one of them")));
                }
                Some(name) => (name, secret(key, value)?),
                None => (key.as_str(), value.clone()),
            };
            if let Some((_, ours, why)) = FIXED.iter().find(|(name, ours, _)| *name == key && !ours.eq_ignore_ascii_case(&value))
            {
                return Err(Error::Config(format!("{key} must be {ours}, because {why}: remove it")));
            }
            if let Some((_, place)) = ELSEWHERE.iter().find(|(name, _)| *name == key) {
                return Err(Error::Config(format!("{key} is not set here but by {place}: remove it")));
            }
            if !FIXED.iter().any(|(name, ..)| *name == key) {
                settings.0.insert(key.to_owned(), value);
            }
        }
        settings.fix(&[("bootstrap.servers", &self.brokers), ("client.id", &self.client_id)]);
        Ok(settings)
    }
}

/// Values may be secrets: only the names are shown.
impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("brokers", &self.brokers)
            .field("client_id", &self.client_id)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

fn secret(key: &str, path: &str) -> Result<String, Error> {
    let path = Path::new(path);
    let wrong = |why: String| Error::Config(format!("{key}: cannot use {}: {why}", path.display()));
    let size = fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > SECRET_BYTES_MAX {
        return Err(wrong(format!("it has {size} bytes, more than the {SECRET_BYTES_MAX} of a secret")));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// How a group shares its partitions out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assignor {
    /// Only the partitions that move are taken away; the others go on being read during a rebalance.
    #[default]
    CooperativeSticky,
    /// Everything is taken away and shared out again, topic by topic.
    Range,
    /// Everything is taken away and shared out again, one by one.
    RoundRobin,
}

/// A member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// The group's name.
    pub group: String,
    /// The topics to read.
    pub topics: Vec<String>,
    /// A name that stays over restarts: the member gets its partitions back without a rebalance.
    pub instance_id: Option<String>,
    /// How the group shares its partitions out; the same for all members.
    pub assignor: Assignor,
    /// Silence after which the coordinator gives the partitions to others.
    pub session_timeout_ms: u32,
    /// How often the member says that it lives; at most a third of the session timeout.
    pub heartbeat_ms: u32,
    /// The group's rebalance timeout: the longest that a revoked partition may be held on to.
    pub poll_interval_ms: u32,
    /// Bytes of records fetched ahead, over all partitions. What is on its way when the bound is reached comes on top (a
    /// quarter of it, counted as it was compressed), and librdkafka's own some hundred bytes per record.
    pub prefetch_bytes_max: u32,
}

impl ConsumerConfig {
    /// A member of `group` that reads `topics`, with the defaults for everything else.
    pub fn new(group: impl Into<String>, topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            group: group.into(),
            topics: topics.into_iter().map(Into::into).collect(),
            instance_id: None,
            assignor: Assignor::default(),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            heartbeat_ms: HEARTBEAT_MS,
            poll_interval_ms: POLL_INTERVAL_MS,
            prefetch_bytes_max: PREFETCH_BYTES_MAX,
        }
    }

    pub(crate) fn settings(&self, client: &ClientConfig) -> Result<Settings, Error> {
        let mut settings = client.with(&[("check.crcs", "true")])?;
        settings.prefetch(self.prefetch_bytes_max);
        let strategy = match self.assignor {
            Assignor::CooperativeSticky => "cooperative-sticky",
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
        };
        settings.fix(&[
            ("group.id", &self.group),
            ("group.protocol", "classic"),
            ("partition.assignment.strategy", strategy),
            ("session.timeout.ms", &self.session_timeout_ms.to_string()),
            ("heartbeat.interval.ms", &self.heartbeat_ms.to_string()),
            ("max.poll.interval.ms", &self.poll_interval_ms.max(self.session_timeout_ms).to_string()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "false"),
            ("auto.offset.reset", "error"),
        ]);
        if let Some(id) = &self.instance_id {
            settings.fix(&[("group.instance.id", id)]);
        }
        Ok(settings)
    }
}

/// librdkafka's settings, complete.
#[derive(Clone, Default)]
pub(crate) struct Settings(pub(crate) BTreeMap<String, String>);

impl Settings {
    fn fix(&mut self, settings: &[(&str, &str)]) {
        self.0.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    }

    fn default_to(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// Bounds what is fetched ahead, unless the pass-through settings say otherwise.
    fn prefetch(&mut self, bytes_max: u32) {
        // What is on its way is counted as it is sent, compressed; it must stay small beside the bound.
        let fetch_bytes = (bytes_max / 4).max(1 << 20);
        self.default_to("queued.max.messages.kbytes", &(bytes_max / 1024).max(1).to_string());
        // Small records weigh more in librdkafka's own structures than in bytes.
        self.default_to("queued.min.messages", "20000");
        self.default_to("fetch.max.bytes", &fetch_bytes.to_string());
        self.default_to("max.partition.fetch.bytes", "262144");
        // By default a full queue is looked at again only after a second.
        self.default_to("fetch.queue.backoff.ms", "5");
    }

    /// The settings for rdkafka's own clients.
    pub(crate) fn rdkafka(&self) -> rdkafka::ClientConfig {
        self.0.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> ClientConfig {
        let mut config = ClientConfig::new("localhost:1");
        config.properties.insert(key.into(), value.into());
        config
    }

    #[test]
    fn a_property_that_contradicts_a_promise_is_an_error_that_names_it() {
        for (key, value) in [
            ("enable.auto.commit", "true"),
            ("enable.auto.offset.store", "true"),
            ("auto.offset.reset", "latest"),
            ("enable.idempotence", "false"),
            ("acks", "1"),
            ("request.required.acks", "1"),
            ("partitioner", "consistent_random"),
            ("group.id", "other"),
            ("bootstrap.servers", "other:9092"),
            ("transactional.id", "t"),
        ] {
            let error = with(key, value).check().unwrap_err();
            assert!(matches!(&error, Error::Config(text) if text.contains(key)), "{key}: {error}");
        }
    }

    #[test]
    fn a_property_that_says_what_is_fixed_anyway_is_accepted() {
        with("enable.auto.commit", "False").check().unwrap();
        with("acks", "all").check().unwrap();
    }

    #[test]
    fn an_unknown_name_or_a_wrong_value_is_an_error_that_names_it() {
        for (key, value) in [("fetch.max.bites", "1"), ("security.protocol", "carrier-pigeon")] {
            let error = with(key, value).check().unwrap_err();
            assert!(matches!(&error, Error::Config(text) if text.contains(key)), "{key}: {error}");
        }
    }

    #[test]
    fn a_pass_through_property_overrides_our_default_but_not_our_rules() {
        let config = with("queued.max.messages.kbytes", "123");
        let settings = ConsumerConfig::new("g", ["t"]).settings(&config).unwrap().0;
        assert_eq!(settings["queued.max.messages.kbytes"], "123");
        assert_eq!(settings["enable.auto.commit"], "false");
        assert_eq!(settings["auto.offset.reset"], "error");
        let producer = config.producer(10, 10).unwrap().0;
        assert_eq!((producer["acks"].as_str(), producer["enable.idempotence"].as_str()), ("all", "true"));
    }

    #[test]
    fn a_secret_is_read_from_its_file_and_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "hunter2\n").unwrap();
        let config = with("sasl.password_file", file.to_str().unwrap());
        assert_eq!(config.client().unwrap().0["sasl.password"], "hunter2");
        assert!(!format!("{config:?} {:?}", with("sasl.password", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_secret_given_twice_or_missing_is_an_error_without_the_secret() {
        let mut twice = with("sasl.password", "hunter2");
        twice.properties.insert("sasl.password_file".into(), "/none".into());
        for config in [twice, with("sasl.password_file", "/none")] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains("sasl.password_file") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn prefetch_is_bounded_and_small_by_default() {
        let settings = ConsumerConfig::new("g", ["t"]).settings(&ClientConfig::new("b:1")).unwrap().0;
        let number = |key: &str| settings[key].parse::<u64>().unwrap();
        assert!(number("queued.max.messages.kbytes") * 1024 + number("fetch.max.bytes") <= 16 << 20);
    }
}
