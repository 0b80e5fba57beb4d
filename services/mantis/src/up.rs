//! `mantis up`: the whole road in one process. `mantis worker`: one worker of it by itself.

use std::{collections::HashMap, io::IsTerminal, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use jiff::Timestamp;
use mantis_broker::Broker;
use mantis_kafka::{Admin, ClientConfig};
use mantis_pipeline::{Status, TopicPartition};
use mantis_telemetry::{Readiness, Role};
use mantis_workers::raw;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cli,
    config::Config,
    demo,
    exit::{Exit, Usage},
    live::Live,
    metrics::Metrics,
    parts,
    report::{Watched, WorkerReport},
    run_file::{Held, Running},
    signals, topics,
};

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for Kafka's answer about the ends of the log on the status page.
const LAG_WAIT: Duration = Duration::from_secs(2);
/// Longest wait for each part at shutdown, beyond its own bound.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// What `/status` says.
#[derive(Debug, Serialize, Deserialize)]
pub struct StatusPage {
    pub started: Timestamp,
    pub workers: Vec<WorkerReport>,
}

/// Runs broker, workers and pages until a signal; with `--demo` also plays the recording that comes with the program.
pub async fn up(mut config: Config, args: cli::Up, as_json: bool) -> Result<Exit> {
    let signals = signals::first()?;
    signals::survive_file_limits()?;
    config.broker.listen = args.listen.unwrap_or(config.broker.listen);
    config.http.listen = args.http.unwrap_or(config.http.listen);
    let held = Held::take(&config.data_dir)?;
    let decoder = parts::decoder(&config).map_err(Usage)?;
    let listener = bind(config.broker.listen, "--listen", "broker.listen").await?;
    let pages = bind(config.http.listen, "--http", "http.listen").await?;
    let broker = Broker::open(parts::broker(&config)).await.context("the embedded broker cannot start")?;
    let cluster_id = broker.cluster_id().to_owned();
    let running = Running {
        pid: std::process::id(),
        brokers: listener.local_addr()?.to_string(),
        http: pages.local_addr()?,
        cluster_id: cluster_id.clone(),
    };

    let (stop_broker, stop_roles) = (CancellationToken::new(), CancellationToken::new());
    let mut broker = tokio::spawn(broker.serve(listener, stop_broker.clone()));
    let client = parts::client(&config, &running.brokers)?;
    topics::ensure(&Admin::new(&client)?, config.broker.partitions).await?;
    let roles = Roles::start(&config, &client, cluster_id, decoder, pages, &stop_roles)?;
    held.publish(&running)?;
    tracing::info!(brokers = %running.brokers, http = %running.http, data_dir = %config.data_dir.display(), "up");

    let demo = async {
        if args.demo {
            demo::play(&client, &stop_roles).await;
        }
        std::future::pending::<()>().await;
    };
    let mut live = Live::new(&running, &config.data_dir, as_json, std::io::stdout().is_terminal());
    let mut ticks = interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(signals, demo);
    let ended = loop {
        tokio::select! {
            () = &mut signals => break None,
            () = &mut demo => {}
            ended = &mut broker => break Some(ended),
            _ = ticks.tick() => {
                roles.state.sample();
                if let Err(error) = live.show(&roles.state.reports().await) {
                    tracing::warn!(%error, "the live view cannot be written");
                }
            }
        }
    };
    tracing::info!("stopping");
    stop_roles.cancel();
    roles.stop().await;
    stop_broker.cancel();
    match ended {
        Some(ended) => ended.context("the embedded broker ended")?.context("the embedded broker ended")?,
        None => timeout(STOP_WAIT, broker).await.context("the embedded broker did not stop in time")???,
    }
    Ok(Exit::Done)
}

/// Runs one worker until a signal, or until it stops by itself.
pub async fn worker(mut config: Config, args: cli::Worker) -> Result<Exit> {
    let signals = signals::first()?;
    signals::survive_file_limits()?;
    let cli::WorkerName::Raw = args.name;
    config.http.listen = args.http.unwrap_or(config.http.listen);
    if args.brokers.is_none() && config.kafka.brokers.is_none() {
        anyhow::bail!(Usage(anyhow::anyhow!(
            "a worker by itself needs a cluster: give --brokers, or kafka.brokers in mantis.toml"
        )));
    }
    let client = parts::connect(&config, args.brokers.as_deref())?;
    let held = Held::take(&config.data_dir)?;
    let decoder = parts::decoder(&config).map_err(Usage)?;
    let pages = bind(config.http.listen, "--http", "http.listen").await?;
    let http = pages.local_addr()?;
    tokio::pin!(signals);
    let admin = Admin::new(&client)?;
    let cluster_id = tokio::select! {
        id = topics::ensure_patiently(&admin, config.broker.partitions) => id?,
        () = &mut signals => return Ok(Exit::Done),
    };
    let stop = CancellationToken::new();
    let mut roles = Roles::start(&config, &client, cluster_id.clone(), decoder, pages, &stop)?;
    held.publish(&Running { pid: std::process::id(), brokers: client.brokers.clone(), http, cluster_id })?;
    let mut ticks = interval(SAMPLE_INTERVAL);
    loop {
        tokio::select! {
            () = &mut signals => break,
            ended = &mut roles.raw => return ended.context("the raw worker ended")?.map(|()| Exit::Done),
            _ = ticks.tick() => roles.state.sample(),
        }
    }
    stop.cancel();
    roles.stop().await;
    Ok(Exit::Done)
}

/// The workers and pages of this process.
struct Roles {
    raw: JoinHandle<Result<()>>,
    pages: JoinHandle<std::io::Result<()>>,
    state: Arc<State>,
}

impl Roles {
    fn start(
        config: &Config,
        client: &ClientConfig,
        cluster_id: String,
        decoder: raw::RecordDecoder,
        pages: TcpListener,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let status = Arc::new(Status::default());
        let worker = raw::Worker {
            client: client.clone(),
            cluster_id,
            store: parts::raw_path(config),
            kept: parts::kept(config),
            decoder,
            limits: parts::limits(config),
            status: status.clone(),
        };
        let watched = vec![Watched::new("raw", raw::GROUP, status)];
        let state = Arc::new(State { watched, admin: Admin::new(client)?, metrics: Metrics::new()?, started: Timestamp::now() });
        let (stopped, seen_by) = (stop.clone(), state.clone());
        let raw = tokio::spawn(async move {
            // In a task of its own, so that a panic is seen and told like any other end.
            let ended = tokio::spawn(worker.run(stopped)).await;
            let ended = ended.map_err(anyhow::Error::from).and_then(|ended| ended.map_err(anyhow::Error::from));
            if let Err(error) = &ended {
                tracing::error!(%error, "the raw worker has stopped");
                seen_by.watched.iter().filter(|worker| worker.name == "raw").for_each(|worker| worker.ended(error.to_string()));
            }
            ended
        });
        let pages = tokio::spawn(mantis_telemetry::serve(pages, state.clone(), stop.clone().cancelled_owned()));
        Ok(Self { raw, pages, state })
    }

    async fn stop(self) {
        if timeout(STOP_WAIT, self.raw).await.is_err() {
            tracing::warn!("the raw worker did not stop in time; what it had not committed is read again");
        }
        // A client that keeps its connection open must not hold the stop up.
        self.pages.abort();
    }
}

/// What the pages and the live view tell.
struct State {
    watched: Vec<Watched>,
    admin: Admin,
    metrics: Metrics,
    started: Timestamp,
}

impl State {
    fn sample(&self) {
        self.watched.iter().for_each(Watched::sample);
    }

    async fn reports(&self) -> Vec<WorkerReport> {
        let mut reports = Vec::new();
        for worker in &self.watched {
            let ends = timeout(LAG_WAIT, self.log_ends(worker)).await.unwrap_or_default();
            reports.push(worker.report(&ends));
        }
        reports
    }

    async fn log_ends(&self, worker: &Watched) -> HashMap<TopicPartition, i64> {
        let partitions = worker.partitions();
        self.admin.log_ends(&partitions).await.unwrap_or_default().into_iter().collect()
    }
}

impl Role for State {
    fn readiness(&self) -> Readiness {
        let missing: Vec<String> = self.watched.iter().filter_map(Watched::missing).collect();
        Readiness { ready: missing.is_empty(), missing }
    }

    async fn status(&self) -> serde_json::Value {
        let page = StatusPage { started: self.started, workers: self.reports().await };
        serde_json::to_value(page).unwrap_or_default()
    }

    fn metrics(&self) -> String {
        self.metrics.text(&self.watched)
    }
}

async fn bind(address: SocketAddr, flag: &str, key: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another address with {flag} or {key} in mantis.toml"))
}
