//! The workers, built from the configuration.

use std::{pin::Pin, sync::Arc};

use anyhow::Result;
use mantis_kafka::ClientConfig;
use mantis_pipeline::Status;
use mantis_stores::raw::sqlite::Retention;
use mantis_workers::{WorkerError, features, raw};
use tokio_util::sync::CancellationToken;

use crate::{cli::WorkerName, config::Config, parts};

type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A worker that is ready to run.
pub struct Job {
    pub name: &'static str,
    pub group: &'static str,
    pub status: Arc<Status>,
    pub run: Box<dyn FnOnce(CancellationToken) -> Running + Send>,
}

/// Where workers work.
pub struct Site {
    pub client: ClientConfig,
    pub cluster_id: String,
}

/// Every worker.
pub fn all(config: &Config, site: &Site) -> Result<Vec<Job>> {
    WorkerName::ALL.into_iter().map(|name| one(name, config, site)).collect()
}

/// One worker.
pub fn one(name: WorkerName, config: &Config, site: &Site) -> Result<Job> {
    let (client, cluster_id, status) = (site.client.clone(), site.cluster_id.clone(), Arc::new(Status::default()));
    let (decoder, limits) = (parts::decoder(config)?, parts::limits(config));
    Ok(match name {
        WorkerName::Raw => {
            let worker = raw::Worker {
                client,
                cluster_id,
                store: parts::raw_path(config),
                retention: Retention { from_ns: None, bytes_max: Some(config.raw.retention_bytes) },
                decoder,
                limits,
                status: status.clone(),
            };
            job("raw", raw::GROUP, status, |stop| worker.run(stop))
        }
        WorkerName::Features => {
            let worker = features::Worker {
                client,
                cluster_id,
                config: parts::features(config)?,
                declarations: parts::declarations(config)?,
                decoder,
                limits,
                status: status.clone(),
            };
            job("features", features::GROUP, status, |stop| worker.run(stop))
        }
    })
}

fn job<F>(
    name: &'static str,
    group: &'static str,
    status: Arc<Status>,
    run: impl FnOnce(CancellationToken) -> F + Send + 'static,
) -> Job
where
    F: Future<Output = Result<(), WorkerError>> + Send + 'static,
{
    let run = Box::new(move |stop| -> Running {
        let running = run(stop);
        Box::pin(async move { Ok(running.await?) })
    });
    Job { name, group, status, run }
}
