//! The workers, built from the configuration.

use std::{pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use mantis_broker::Room;
use mantis_kafka::ClientConfig;
use mantis_pipeline::Status;
use mantis_stores::{
    archive::{chain::ChainConfig, folder::FolderArchive},
    cache::memory::MemoryCache,
};
use mantis_workers::{
    archive::{self, ArchiveDecoder},
    cache::{self, ValueDecoder},
    features::{self, Watch},
    raw,
    timescale::{self, SlowDecoder},
};
use tokio_util::sync::CancellationToken;

use crate::{cli::WorkerName, config::Config, parts};

type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A worker that is ready to run.
pub struct Job {
    pub name: &'static str,
    pub group: &'static str,
    /// Whether all members of the group write to one place.
    pub shared: bool,
    pub status: Arc<Status>,
    pub run: Box<dyn FnOnce(CancellationToken) -> Running + Send>,
}

/// Where workers work.
pub struct Site {
    pub client: ClientConfig,
    pub cluster_id: String,
    /// The latest values, for whoever reads them in this process.
    pub cache: MemoryCache,
    /// A look into the features worker, for whoever tells of it.
    pub features: Watch,
    /// The room of the broker in this process, where there is one.
    pub room: Option<Arc<Room>>,
}

impl Site {
    /// Where nothing has run yet.
    pub fn new(config: &Config, client: ClientConfig, cluster_id: String, room: Option<Arc<Room>>) -> Self {
        let features = Watch::new(config.features.state_bytes_max);
        Self { client, cluster_id, cache: parts::cache(config), features, room }
    }
}

/// Every worker.
pub fn all(config: &Config, site: &Site) -> Result<Vec<Job>> {
    WorkerName::ALL.into_iter().map(|name| one(name, config, site)).collect()
}

/// One worker.
pub fn one(name: WorkerName, config: &Config, site: &Site) -> Result<Job> {
    let (client, cluster_id, status) = (site.client.clone(), site.cluster_id.clone(), Arc::new(Status::default()));
    let (sensors, limits) = (parts::sensors(config)?, parts::limits(config));
    Ok(match name {
        WorkerName::Raw => {
            let worker = raw::Worker {
                client,
                cluster_id,
                store: parts::raw_place(config)?,
                kept: parts::kept(config),
                decoder: parts::decoder(config)?,
                limits,
                status: status.clone(),
            };
            job("raw", raw::GROUP, config.influxdb.is_some(), status, |stop| worker.run(stop))
        }
        WorkerName::Features => {
            let worker = features::Worker {
                client,
                cluster_id,
                config: parts::features(config)?,
                sensors,
                watch: site.features.clone(),
                decoder: parts::decoder(config)?,
                limits,
                status: status.clone(),
            };
            job("features", features::GROUP, true, status, |stop| worker.run(stop))
        }
        WorkerName::Timescale => {
            let worker = timescale::Worker {
                client,
                cluster_id,
                store: parts::feature_place(config)?,
                keep_for: config.timescale.retention_days.map(|days| Duration::from_secs(days * 86_400)),
                decoder: SlowDecoder::new(parts::decoder_config(config)?, sensors)?,
                limits,
                status: status.clone(),
            };
            job("timescale", timescale::GROUP, config.timescaledb.is_some(), status, |stop| worker.run(stop))
        }
        WorkerName::Cache => {
            let worker = cache::Worker {
                client,
                cluster_id,
                cache: site.cache.clone(),
                raw: parts::raw_place(config)?,
                features: parts::feature_place(config)?,
                decoder: ValueDecoder::new(parts::decoder_config(config)?)?,
                limits: cache::limits(),
                status: status.clone(),
            };
            job("cache", cache::GROUP, false, status, |stop| worker.run(stop))
        }
        WorkerName::Archive => {
            let folder = parts::archive_path(config);
            let worker = archive::Worker {
                client,
                store: FolderArchive::open(&folder).with_context(|| format!("cannot open the archive {}", folder.display()))?,
                chain: ChainConfig { age_ms_max: config.archive.age_s * 1_000, ..ChainConfig::new(cluster_id) },
                decoder: ArchiveDecoder::new(parts::decoder_config(config)?)?,
                limits,
                status: status.clone(),
            };
            job("archive", archive::GROUP, false, status, |stop| worker.run(stop))
        }
    })
}

fn job<F, E>(
    name: &'static str,
    group: &'static str,
    shared: bool,
    status: Arc<Status>,
    run: impl FnOnce(CancellationToken) -> F + Send + 'static,
) -> Job
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let run = Box::new(move |stop| -> Running {
        let running = run(stop);
        Box::pin(async move { Ok(running.await?) })
    });
    Job { name, group, shared, status, run }
}
