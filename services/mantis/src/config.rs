//! `mantis.toml`: one file for every role. `MANTIS__SECTION__KEY` overrides a key.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use mantis_schemas::parse_window;
use mantis_workers::{features::WINDOWS_MAX, sensors::Declaration};
use serde::{Deserialize, Serialize};

use crate::servers::{Influxdb, Timescaledb};

const ENV_PREFIX: &str = "MANTIS__";
const FILE: &str = "mantis.toml";
const WINDOW_NS_MAX: i64 = 366 * 86_400 * 1_000_000_000;
const LATENESS_S_MAX: u64 = 31 * 86_400;
const STATE_BYTES: std::ops::RangeInclusive<usize> = 1 << 20..=1 << 40;
/// Windows of one length that a sensor may hold open.
const WINDOWS_KEPT_MAX: u64 = 100_000;

/// All settings. What a file leaves out has the default.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the embedded broker and stores.
    pub data_dir: PathBuf,
    pub broker: Broker,
    pub kafka: Kafka,
    pub http: Http,
    pub decode: Decode,
    /// Writer's schemas beyond our own, by the id that Confluent framing carries.
    pub schemas: Vec<Schema>,
    pub raw: Raw,
    /// The server that raw readings and frames go to; without it the embedded store.
    pub influxdb: Option<Influxdb>,
    /// The server that features and slow readings go to; without it the embedded store.
    pub timescaledb: Option<Timescaledb>,
    pub features: Features,
    pub timescale: Timescale,
    pub cache: Cache,
    pub archive: Archive,
    /// What is declared of sensors; of several that fit one the first counts.
    pub sensors: Vec<Declaration>,
}

/// The embedded broker of `mantis up`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Broker {
    pub listen: SocketAddr,
    /// `host:port` that clients are told to use, where it is not the address that the broker listens on.
    pub advertised: Option<String>,
    /// Partitions of each source topic when it is created.
    pub partitions: i32,
    /// Records older than this are removed once every registered group has committed them.
    pub retention_hours: u64,
    /// Bytes per partition above which the oldest records are removed, under the same condition.
    pub retention_bytes: u64,
    /// Free space on the disk below which records are refused for now.
    pub min_free_bytes: u64,
}

/// The Kafka cluster. Without `brokers`, the embedded broker of the data folder.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    pub brokers: Option<String>,
    /// librdkafka's own settings: TLS, SASL. A key with `_file` behind it names a file that holds the value.
    pub properties: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    pub listen: SocketAddr,
    /// Host names under which browsers reach the console, besides `localhost` and plain addresses.
    pub names: Vec<String>,
}

/// What decoders accept.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decode {
    /// Earliest source time.
    pub accepted_from: Timestamp,
    /// How far a source time may lie ahead of its record's timestamp.
    pub accepted_ahead_s: u64,
    /// Series (asset and sensor) that one process may know.
    pub series_max: usize,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    pub id: u32,
    /// The writer's schema, an `.avsc` file, relative to the configuration file.
    pub file: PathBuf,
}

/// The raw worker and its embedded store.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// Rows of a batch at most.
    pub batch_rows: usize,
    /// Time after which a batch is written though it is not full.
    pub linger_ms: u64,
    /// Bytes that readings and frames may take; then the oldest by source time are deleted.
    pub retention_bytes: u64,
    /// Days after which readings and frames are deleted, by their source time. Without it none is, however old.
    pub retention_days: Option<u32>,
}

/// The features worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Features {
    /// Lengths of the windows, such as `10s`, `1m`, `1d`.
    pub windows: Vec<String>,
    /// How far a reading may be behind its sensor's newest one.
    pub lateness_s: u64,
    /// Samples that a sensor's windows keep; of more they keep moments.
    pub samples_max: usize,
    /// Bytes that the state of all sensors may take; then no more readings are taken.
    pub state_bytes_max: usize,
    /// Silence of a sensor after which its open windows are published early.
    pub idle_ms: u64,
    /// Longest time between two snapshots of a partition's state.
    pub snapshot_s: u64,
}

/// The timescale worker and its store.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timescale {
    /// Days that features and readings are kept; absent: for ever.
    pub retention_days: Option<u64>,
}

/// The cache of latest values.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Time after which a value that was not renewed is forgotten.
    pub ttl_s: u64,
    /// Values that are kept at most.
    pub entries_max: usize,
}

/// The archive worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Archive {
    /// How long rows wait at most for their object to be written.
    pub age_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "mantis-data".into(),
            broker: Broker::default(),
            kafka: Kafka::default(),
            http: Http::default(),
            decode: Decode::default(),
            schemas: Vec::new(),
            raw: Raw::default(),
            influxdb: None,
            timescaledb: None,
            features: Features::default(),
            timescale: Timescale::default(),
            cache: Cache::default(),
            archive: Archive::default(),
            sensors: Vec::new(),
        }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            advertised: None,
            partitions: 4,
            retention_hours: 7 * 24,
            retention_bytes: 4 << 30,
            min_free_bytes: 256 << 20,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)), names: Vec::new() }
    }
}

impl Default for Decode {
    fn default() -> Self {
        // 2000-01-01T00:00:00Z, the default of the accepted range.
        Self { accepted_from: Timestamp::constant(946_684_800, 0), accepted_ahead_s: 600, series_max: 1_000_000 }
    }
}

impl Default for Features {
    fn default() -> Self {
        let windows = ["10s", "1m"].map(str::to_owned).to_vec();
        Self { windows, lateness_s: 120, samples_max: 16_384, state_bytes_max: 1 << 30, idle_ms: 2_000, snapshot_s: 30 }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self { ttl_s: 86_400, entries_max: 1_000_000 }
    }
}

impl Default for Archive {
    fn default() -> Self {
        Self { age_s: 600 }
    }
}

impl Default for Raw {
    fn default() -> Self {
        Self { batch_rows: 20_000, linger_ms: 20, retention_bytes: 64 << 30, retention_days: None }
    }
}

impl Config {
    /// Reads `file`, or `mantis.toml` in the current folder where there is one, then applies the environment.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let path = match file {
            Some(path) => Some(path),
            None => Some(Path::new(FILE)).filter(|path| path.exists()),
        };
        let text = match path {
            Some(path) => {
                std::fs::read_to_string(path).with_context(|| format!("cannot read the configuration {}", path.display()))?
            }
            None => String::new(),
        };
        let name = path.map_or("the environment".into(), |path| path.display().to_string());
        let mut config = parse(&text, environment()).with_context(|| format!("{name} is not a valid configuration"))?;
        let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
        for schema in &mut config.schemas {
            schema.file = folder.join(&schema.file);
        }
        if let Some(influx) = &mut config.influxdb {
            influx.resolve(folder);
        }
        if let Some(timescale) = &mut config.timescaledb {
            timescale.resolve(folder);
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if !(1..=256).contains(&self.broker.partitions) {
            bail!("broker.partitions = {} is out of range: use 1 to 256", self.broker.partitions);
        }
        if self.broker.advertised.as_deref().is_some_and(|address| host_and_port(address).is_none()) {
            bail!("broker.advertised is not host:port: use an address that gateways reach, such as edge-1:9092");
        }
        if !(1..=1_000_000).contains(&self.raw.batch_rows) {
            bail!("raw.batch_rows = {} is out of range: use 1 to 1000000", self.raw.batch_rows);
        }
        if self.raw.linger_ms > 60_000 {
            bail!("raw.linger_ms = {} is out of range: use 0 to 60000", self.raw.linger_ms);
        }
        if let Some(days) = self.raw.retention_days.filter(|days| !(1..=36_500).contains(days)) {
            bail!("raw.retention_days = {days} is out of range: use 1 to 36500, or leave it out to keep everything");
        }
        if self.timescale.retention_days.is_some_and(|days| !(1..=36_500).contains(&days)) {
            bail!("timescale.retention_days is out of range: use 1 to 36500, or leave it out to keep everything");
        }
        if !(1..=31_536_000).contains(&self.cache.ttl_s) || !(1_000..=100_000_000).contains(&self.cache.entries_max) {
            bail!("cache.ttl_s or cache.entries_max is out of range: use 1 to 31536000 seconds and 1000 to 100000000 entries");
        }
        self.influxdb.as_ref().map_or(Ok(()), Influxdb::check)?;
        self.timescaledb.as_ref().map_or(Ok(()), Timescaledb::check)?;
        if !(1..=86_400).contains(&self.archive.age_s) {
            bail!("archive.age_s = {} is out of range: use 1 to 86400", self.archive.age_s);
        }
        self.features.check()
    }
}

impl Features {
    fn check(&self) -> Result<()> {
        if !(1..=WINDOWS_MAX).contains(&self.windows.len()) {
            bail!("features.windows has {} lengths: give 1 to {WINDOWS_MAX}", self.windows.len());
        }
        for window in &self.windows {
            if !parse_window(window).is_some_and(|window_ns| (1_000_000..=WINDOW_NS_MAX).contains(&window_ns)) {
                bail!("features.windows: {window:?} is no length from 1ms to 366d: write it like 10s, 1m, 8h or 1d");
            }
        }
        if self.lateness_s > LATENESS_S_MAX {
            bail!("features.lateness_s = {} is out of range: use 0 to {LATENESS_S_MAX}", self.lateness_s);
        }
        let kept =
            |window: &str| parse_window(window).map_or(0, |ns| self.lateness_s.saturating_mul(1_000_000_000) / ns.unsigned_abs());
        if let Some(window) = self.windows.iter().find(|window| kept(window) > WINDOWS_KEPT_MAX) {
            bail!(
                "features.lateness_s = {} keeps more than {WINDOWS_KEPT_MAX} windows of {window} per sensor: lower it, or leave the window out",
                self.lateness_s
            );
        }
        if !(64..=1 << 20).contains(&self.samples_max) {
            bail!("features.samples_max = {} is out of range: use 64 to {}", self.samples_max, 1 << 20);
        }
        if !STATE_BYTES.contains(&self.state_bytes_max) {
            let (least, most) = (STATE_BYTES.start(), STATE_BYTES.end());
            bail!("features.state_bytes_max = {} is out of range: use {least} to {most}", self.state_bytes_max);
        }
        if !(100..=3_600_000).contains(&self.idle_ms) {
            bail!("features.idle_ms = {} is out of range: use 100 to 3600000", self.idle_ms);
        }
        if !(1..=3_600).contains(&self.snapshot_s) {
            bail!("features.snapshot_s = {} is out of range: use 1 to 3600", self.snapshot_s);
        }
        Ok(())
    }
}

/// `host:port`, taken apart.
pub fn host_and_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

/// The environment's variables that are text.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

/// The text first and by itself, so that its errors name line and column; then with the environment's keys over it.
fn parse(text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Config> {
    let config: Config = toml::from_str(text).map_err(|error| anyhow::anyhow!(with_nearest(&error)))?;
    let mut table: toml::Table = text.parse()?;
    let mut overridden = false;
    for (key, value) in env {
        if let Some(path) = key.strip_prefix(ENV_PREFIX) {
            set(&mut table, &path.to_lowercase(), &value).with_context(|| format!("the environment's {key}"))?;
            overridden = true;
        }
    }
    if !overridden {
        return Ok(config);
    }
    table
        .try_into()
        .map_err(|error| anyhow::anyhow!("with the {ENV_PREFIX}... keys of the environment: {}", with_nearest(&error)))
}

fn set(table: &mut toml::Table, path: &str, value: &str) -> Result<()> {
    match path.split_once("__") {
        Some((section, rest)) => match table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new())) {
            toml::Value::Table(inner) => set(inner, rest, value),
            _ => bail!("{section} is not a section"),
        },
        None => {
            // A value that reads as TOML is one (numbers, booleans, arrays); anything else is a string.
            let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
            table.insert(path.to_owned(), parsed.unwrap_or_else(|| toml::Value::String(value.to_owned())));
            Ok(())
        }
    }
}

/// serde's "unknown field" error lists the known ones between backticks: name the nearest.
fn with_nearest(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let names: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
    match names.split_first() {
        Some((unknown, known)) if error.message().starts_with("unknown field") => {
            let nearest =
                known.iter().max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)));
            match nearest {
                Some(nearest) => format!("{}\ndid you mean `{nearest}`?", text.trim_end()),
                None => text,
            }
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = parse("", env(&[])).unwrap();
        assert_eq!(config.broker.listen.port(), 9092);
        assert_eq!(config.decode.accepted_from.to_string(), "2000-01-01T00:00:00Z");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_line_and_nearest_known_key() {
        let error = parse("[broker]\npartitons = 3\n", env(&[])).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(error.contains("did you mean `partitions`?"), "{error}");
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let vars = [("MANTIS__BROKER__PARTITIONS", "8"), ("MANTIS__KAFKA__BROKERS", "kafka-1:9092"), ("HOME", "x")];
        let config = parse("[broker]\npartitions = 3", env(&vars)).unwrap();
        assert_eq!(config.broker.partitions, 8);
        assert_eq!(config.kafka.brokers.as_deref(), Some("kafka-1:9092"));
        let error = parse("", env(&[("MANTIS__BROKER__PARTITION", "8")])).unwrap_err().to_string();
        assert!(error.contains("did you mean `partitions`?"), "{error}");
    }
}
