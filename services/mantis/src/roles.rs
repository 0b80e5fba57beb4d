//! The workers and pages of a process.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Result;
use axum::Router;
use jiff::Timestamp;
use mantis_broker::Room;
use mantis_kafka::Admin;
use mantis_pipeline::TopicPartition;
use mantis_telemetry::{Readiness, Role};
use mantis_workers::features::{GROUP, Watch};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    jobs::{Job, Site},
    metrics::Metrics,
    report::{Watched, WorkerReport},
};

/// Longest wait for Kafka's answer about the ends of the log on the status page.
const LAG_WAIT: Duration = Duration::from_secs(2);
/// Longest wait for each part at shutdown, beyond its own bound.
pub const STOP_WAIT: Duration = Duration::from_secs(20);

/// What `/status` says.
#[derive(Debug, Serialize, Deserialize)]
pub struct StatusPage {
    pub started: Timestamp,
    /// Why the broker in this process takes no records for now, if it does not.
    #[serde(default)]
    pub refusal: Option<String>,
    pub workers: Vec<WorkerReport>,
}

/// The workers and pages of this process.
pub struct Roles {
    workers: Vec<(&'static str, JoinHandle<Result<()>>)>,
    pages: JoinHandle<std::io::Result<()>>,
    pub state: Arc<State>,
}

impl Roles {
    /// Starts the jobs, and the pages that tell of them; `more` makes those beside them.
    pub fn start(
        site: &Site,
        jobs: Vec<Job>,
        pages: TcpListener,
        more: impl FnOnce(Arc<State>) -> Router,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let watched = jobs.iter().map(|job| Watched::new(job.name, job.group, job.shared, job.status.clone())).collect();
        let state = Arc::new(State {
            watched,
            admin: Admin::new(&site.client)?,
            metrics: Metrics::new()?,
            started: Timestamp::now(),
            features: site.features.clone(),
            room: site.room.clone(),
        });
        let workers = jobs.into_iter().map(|job| (job.name, tokio::spawn(watch(job, state.clone(), stop.clone())))).collect();
        let pages =
            tokio::spawn(mantis_telemetry::serve(pages, state.clone(), more(state.clone()), stop.clone().cancelled_owned()));
        Ok(Self { workers, pages, state })
    }

    /// Waits until a worker has ended by itself, and says how.
    pub async fn ended(&mut self) -> Result<()> {
        let Some((_, first)) = self.workers.first_mut() else { return std::future::pending().await };
        first.await?
    }

    /// Waits until all have stopped, within their bound.
    pub async fn stop(self) {
        for (name, worker) in self.workers {
            if timeout(STOP_WAIT, worker).await.is_err() {
                tracing::warn!(name, "a worker did not stop in time; what it had not committed is read again");
            }
        }
        // A client that keeps its connection open must not hold the stop up.
        self.pages.abort();
    }
}

/// Runs a job and notes how it ended. One that ends takes no other with it.
async fn watch(job: Job, seen_by: Arc<State>, stop: CancellationToken) -> Result<()> {
    let name = job.name;
    // In a task of its own, so that a panic is seen and told like any other end.
    let ended = tokio::spawn((job.run)(stop)).await;
    let ended = ended.map_err(anyhow::Error::from).and_then(|ended| ended);
    if let Err(error) = &ended {
        tracing::error!(name, error = format!("{error:#}"), "a worker has stopped");
        seen_by.watched.iter().filter(|worker| worker.name == name).for_each(|worker| worker.ended(format!("{error:#}")));
    }
    ended
}

/// What the pages and the live view tell.
pub struct State {
    watched: Vec<Watched>,
    admin: Admin,
    metrics: Metrics,
    started: Timestamp,
    features: Watch,
    room: Option<Arc<Room>>,
}

impl State {
    pub fn sample(&self) {
        self.watched.iter().for_each(Watched::sample);
    }

    fn refusal(&self) -> Option<String> {
        self.room.as_ref()?.refusal()
    }

    pub async fn reports(&self) -> Vec<WorkerReport> {
        let mut partitions: Vec<_> = self.watched.iter().flat_map(Watched::partitions).collect();
        partitions.sort_unstable();
        partitions.dedup();
        let ends = timeout(LAG_WAIT, self.admin.log_ends(&partitions)).await;
        let ends: HashMap<TopicPartition, i64> = ends.ok().and_then(Result::ok).unwrap_or_default().into_iter().collect();
        let mut reports: Vec<_> = self.watched.iter().map(|worker| worker.report(&ends)).collect();
        for report in reports.iter_mut().filter(|report| report.group == GROUP) {
            report.feature_state = Some(self.features.state());
        }
        reports
    }
}

impl Role for State {
    fn readiness(&self) -> Readiness {
        let missing: Vec<String> = self.refusal().into_iter().chain(self.watched.iter().filter_map(Watched::missing)).collect();
        Readiness { ready: missing.is_empty(), missing }
    }

    async fn status(&self) -> serde_json::Value {
        let page = StatusPage { started: self.started, refusal: self.refusal(), workers: self.reports().await };
        serde_json::to_value(page).unwrap_or_default()
    }

    async fn sensors(&self, asset: Option<String>) -> serde_json::Value {
        serde_json::to_value(self.features.sensors(asset.as_deref()).await).unwrap_or_default()
    }

    fn metrics(&self) -> String {
        self.metrics.text(&self.watched, &self.features.counts(), &self.features.state())
    }
}
