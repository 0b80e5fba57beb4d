//! The parts that commands are built from, made out of the configuration.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use mantis_kafka::ClientConfig;
use mantis_pipeline::Limits;
use mantis_schemas::{AcceptedTimes, DecoderConfig, RegisteredSchema, parse_window};
use mantis_stores::{
    archive::folder::FolderArchive,
    cache::memory::{CacheConfig, MemoryCache},
    features::{AnyFeatureReader, FeaturePlace, timescale::TimescaleReader},
    raw::{AnyRawReader, RawPlace, influx::InfluxRawReader, sqlite::SqliteRawReader},
};
use mantis_workers::{
    features::FeatureConfig,
    raw::{Kept, RecordDecoder},
    sensors::SensorRegistry,
};

use crate::{
    config::{self, Config},
    exit::Usage,
    run_file,
};

/// Where the embedded raw store lies.
pub fn raw_path(config: &Config) -> PathBuf {
    config.data_dir.join("raw.db")
}

/// Where raw readings and frames are.
pub fn raw_place(config: &Config) -> Result<RawPlace> {
    Ok(match &config.influxdb {
        Some(influx) => RawPlace::Influx(influx.connection()?),
        None => RawPlace::Sqlite(raw_path(config)),
    })
}

/// The raw store, to be read.
pub fn raw_reader(config: &Config) -> Result<AnyRawReader> {
    match raw_place(config)? {
        // Opened as such, it says why where there is none.
        RawPlace::Sqlite(path) => Ok(AnyRawReader::Sqlite(SqliteRawReader::open(path)?)),
        RawPlace::Influx(config) => Ok(AnyRawReader::Influx(InfluxRawReader::new(&config)?)),
    }
}

/// The embedded archive, to be read.
pub fn archive_reader(config: &Config) -> FolderArchive {
    FolderArchive::reader(archive_path(config))
}

/// How Kafka is reached: the command's own `--brokers`, the configuration's, or the `up` that runs on the data folder.
pub fn connect(config: &Config, brokers: Option<&str>) -> Result<ClientConfig> {
    let brokers = match brokers.or(config.kafka.brokers.as_deref()) {
        Some(brokers) => brokers.to_owned(),
        None => run_file::find(&config.data_dir)?.brokers,
    };
    client(config, &brokers).map_err(|error| Usage(error).into())
}

/// A client of the cluster at `brokers`.
pub fn client(config: &Config, brokers: &str) -> Result<ClientConfig> {
    let client =
        ClientConfig { brokers: brokers.to_owned(), properties: config.kafka.properties.clone(), client_id: "mantis".into() };
    client.check().context("[kafka] properties")?;
    Ok(client)
}

/// Where the embedded feature store lies.
pub fn features_path(config: &Config) -> PathBuf {
    config.data_dir.join("features.db")
}

/// Where features and slow readings are.
pub fn feature_place(config: &Config) -> Result<FeaturePlace> {
    Ok(match &config.timescaledb {
        Some(timescale) => FeaturePlace::Timescale(timescale.connection()?),
        None => FeaturePlace::Sqlite(features_path(config)),
    })
}

/// The feature store, to be read.
pub fn features_reader(config: &Config) -> Result<AnyFeatureReader> {
    Ok(feature_place(config)?.open()?)
}

/// Where the embedded archive lies.
pub fn archive_path(config: &Config) -> PathBuf {
    config.data_dir.join("archive")
}

/// The decoder of the raw topics.
pub fn decoder(config: &Config) -> Result<RecordDecoder> {
    RecordDecoder::new(decoder_config(config)?).context("[[schemas]]")
}

/// What decoders are told.
pub fn decoder_config(config: &Config) -> Result<DecoderConfig> {
    let mut registered = Vec::new();
    for schema in &config.schemas {
        let avsc = std::fs::read_to_string(&schema.file)
            .with_context(|| format!("cannot read {}, the schema with id {}", schema.file.display(), schema.id))?;
        registered.push(RegisteredSchema { id: schema.id, avsc });
    }
    let from_ns = i64::try_from(config.decode.accepted_from.as_nanosecond())
        .context("decode.accepted_from is out of range: use a year from 1678 to 2261")?;
    let ahead_ms = i64::try_from(config.decode.accepted_ahead_s).ok().and_then(|s| s.checked_mul(1000));
    let ahead_ms = ahead_ms.context("decode.accepted_ahead_s is out of range")?;
    Ok(DecoderConfig {
        accepted_times: AcceptedTimes { from_ns, ahead_ms },
        series_max: config.decode.series_max,
        registered,
        ..DecoderConfig::default()
    })
}

/// What the features worker computes.
pub fn features(config: &Config) -> Result<FeatureConfig> {
    let features = &config.features;
    let windows: Option<Vec<i64>> = features.windows.iter().map(|window| parse_window(window)).collect();
    let mut windows_ns = windows.context("features.windows has a length that is none")?;
    windows_ns.sort_unstable();
    windows_ns.dedup();
    Ok(FeatureConfig {
        windows_ns,
        lateness_ns: i64::try_from(features.lateness_s)
            .ok()
            .and_then(|s| s.checked_mul(1_000_000_000))
            .context("features.lateness_s")?,
        samples_max: features.samples_max,
        idle: Duration::from_millis(features.idle_ms),
        snapshot_interval: Duration::from_secs(features.snapshot_s),
    })
}

/// What is declared of sensors.
pub fn sensors(config: &Config) -> Result<SensorRegistry> {
    SensorRegistry::new(config.sensors.clone()).context("[[sensors]]")
}

/// Checks what the workers are built from, before anything is started.
pub fn check(config: &Config) -> Result<()> {
    decoder(config)?;
    features(config)?;
    // The file of an embedded store is brought up to date by its writer.
    if let RawPlace::Influx(influx) = raw_place(config)? {
        InfluxRawReader::new(&influx)?;
    }
    if let FeaturePlace::Timescale(timescale) = feature_place(config)? {
        TimescaleReader::new(&timescale)?;
    }
    sensors(config).map(drop)
}

/// An empty cache of latest values.
pub fn cache(config: &Config) -> MemoryCache {
    MemoryCache::new(CacheConfig { ttl: Duration::from_secs(config.cache.ttl_s), entries_max: config.cache.entries_max })
}

/// The road's bounds.
pub fn limits(config: &Config) -> Limits {
    Limits { rows_max: config.raw.batch_rows, linger_ms: config.raw.linger_ms, ..Limits::default() }
}

/// What the raw store keeps.
pub fn kept(config: &Config) -> Kept {
    let age_max = config.raw.retention_days.map(|days| Duration::from_secs(u64::from(days) * 86_400));
    Kept { age_max, bytes_max: Some(config.raw.retention_bytes) }
}

/// The embedded broker's settings.
pub fn broker(config: &Config) -> mantis_broker::Config {
    let mut broker = mantis_broker::Config::new(config.data_dir.join("broker"));
    broker.advertised = config.broker.advertised.as_deref().and_then(config::host_and_port);
    broker.default_partitions = config.broker.partitions;
    broker.min_free_bytes = config.broker.min_free_bytes;
    broker.topic_defaults.log.retention_bytes = Some(config.broker.retention_bytes);
    broker.topic_defaults.log.retention_ms = i64::try_from(config.broker.retention_hours.saturating_mul(3_600_000)).ok();
    broker
}
