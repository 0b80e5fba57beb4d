//! The broker: what it owns, how it starts, serves and stops.

use std::{
    collections::BTreeMap,
    fs::File,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{self, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::{future::FutureExt as _, sync::CancellationToken};
use uuid::Uuid;

use crate::{
    Config, Error,
    disk::{self, Room},
    groups::Groups,
    sweep,
    sync::lock,
    topics::{Refusal, Topic, Topics},
    wire::connection,
};

/// Requests with packed records that are looked at together.
const UNPACKING_MAX: usize = 2;

/// The id of the only node.
pub(crate) const NODE_ID: i32 = 1;
/// Producer ids that are taken from the file at once.
const PRODUCER_IDS_BLOCK: i64 = 1_000;
/// Pause after accepting failed (no file descriptors left), so that it does not spin.
const ACCEPT_RETRY_MS: u64 = 100;

/// The embedded broker. Make it with [`Broker::open`], run it with [`Broker::serve`].
#[derive(Debug)]
pub struct Broker {
    core: Arc<Core>,
}

/// What connections share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) cluster_id: String,
    /// Grows by one with every start, so that clients notice when a log came back shorter than they knew it.
    pub(crate) leader_epoch: i32,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) room: Arc<Room>,
    /// Bytes of requests under way.
    pub(crate) request_budget: Semaphore,
    /// Requests whose records may be unpacked at once: each takes up to 64 MiB that its bytes on the wire do not tell of.
    pub(crate) unpacking: Semaphore,
    /// Bytes of fetch answers under way.
    pub(crate) fetch_budget: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
    endpoint: OnceLock<(String, u16)>,
    producer_ids: Mutex<ProducerIds>,
    _owned: File,
}

#[derive(Debug)]
struct ProducerIds {
    next: i64,
    end: i64,
    identity: Identity,
}

/// `broker.json`: who this broker is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    cluster_id: String,
    leader_epoch: i32,
    next_producer_id: i64,
}

impl Broker {
    /// Takes the data folder, recovers what is in it and starts nothing yet. Needs a tokio runtime.
    pub async fn open(config: Config) -> Result<Broker, Error> {
        let opened = task::spawn_blocking(move || Core::open(config)).await;
        let core = opened.map_err(|panic| Error::Listen { source: std::io::Error::other(panic) })??;
        Ok(Broker { core: Arc::new(core) })
    }

    /// Accepts clients until `shutdown` is cancelled. Then nothing more is read, requests under way end within
    /// `Limits::shutdown_ms`, and the logs are synced and closed.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        let core = self.core;
        let address = listener.local_addr().map_err(|source| Error::Listen { source })?;
        let endpoint = core.config.advertised.clone().unwrap_or_else(|| endpoint(address));
        let _ = core.endpoint.set(endpoint);
        tracing::info!(%address, cluster_id = core.cluster_id, leader_epoch = core.leader_epoch, "broker is up");
        let background = tokio::spawn(sweep::run(Arc::clone(&core)));
        let mut connections = JoinSet::new();
        while let Some(accepted) = listener.accept().with_cancellation_token(&shutdown).await {
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer)) if connections.len() < core.config.limits.connections_max => {
                    connections.spawn(connection::serve(Arc::clone(&core), stream, peer));
                }
                Ok((_, peer)) => tracing::warn!(%peer, open = connections.len(), "too many connections: this one is closed"),
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                }
            }
        }
        drop(listener);
        core.shutdown.cancel();
        core.groups.shut_down();
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(Duration::from_millis(core.config.limits.shutdown_ms), ended).await.is_err() {
            tracing::warn!(open = connections.len(), "connections are cut at shutdown");
            connections.shutdown().await;
        }
        let _ = background.await;
        let closing = Arc::clone(&core);
        let _ = task::spawn_blocking(move || closing.topics.close()).await;
        tracing::info!("broker is down");
        Ok(())
    }

    /// Id of this cluster of one; it stays with the data folder.
    pub fn cluster_id(&self) -> &str {
        &self.core.cluster_id
    }

    /// Whether its disk has room, for whoever tells of it.
    pub fn room(&self) -> Arc<Room> {
        self.core.room.clone()
    }

    /// Leader epoch of every partition during this run.
    pub fn leader_epoch(&self) -> i32 {
        self.core.leader_epoch
    }
}

impl Core {
    fn open(config: Config) -> Result<Core, Error> {
        let owned = disk::own(&config.data_dir)?;
        let started = Instant::now();
        let identity = Identity::next_start(&config.data_dir)?;
        let topics =
            Topics::open(config.data_dir.join("topics"), config.topic_defaults.clone(), config.limits.clone(), now_ms())?;
        let groups = Groups::open(&config.data_dir.join("groups"), config.groups.clone(), config.limits.clone())?;
        tracing::debug!(topics = topics.all().len(), took = ?started.elapsed(), "data folder opened");
        let next = identity.next_producer_id;
        Ok(Core {
            cluster_id: identity.cluster_id.clone(),
            leader_epoch: identity.leader_epoch,
            topics,
            groups,
            room: Arc::new(Room::new(&config.data_dir, config.min_free_bytes)),
            unpacking: Semaphore::new(UNPACKING_MAX),
            request_budget: Semaphore::new(config.limits.requests_in_flight_bytes_max.max(config.limits.request_bytes_max)),
            fetch_budget: Arc::new(Semaphore::new(config.limits.fetches_in_flight_bytes_max)),
            shutdown: CancellationToken::new(),
            endpoint: OnceLock::new(),
            producer_ids: Mutex::new(ProducerIds { next, end: next, identity }),
            config,
            _owned: owned,
        })
    }

    /// Host and port that clients are told.
    pub(crate) fn endpoint(&self) -> (String, i32) {
        self.endpoint.get().map(|(host, port)| (host.clone(), i32::from(*port))).unwrap_or_default()
    }

    /// A producer id that was never given out before. Blocks.
    pub(crate) fn next_producer_id(&self) -> Result<i64, Error> {
        let mut ids = lock(&self.producer_ids);
        if ids.next >= ids.end {
            let end = ids.end.saturating_add(PRODUCER_IDS_BLOCK);
            let identity = Identity { next_producer_id: end, ..ids.identity.clone() };
            identity.store(&self.config.data_dir)?;
            ids.identity = identity;
            ids.end = end;
        }
        let id = ids.next;
        ids.next += 1;
        Ok(id)
    }

    /// The topic of that name; made with the default settings if it is missing and the caller may make it. Blocks then.
    pub(crate) fn topic_or_create(&self, name: &str, may_create: bool) -> Result<Arc<Topic>, Refusal> {
        if let Some(topic) = self.topics.by_name(name) {
            return Ok(topic);
        }
        if !(may_create && self.config.auto_create_topics) {
            return Err((ResponseError::UnknownTopicOrPartition, format!("there is no topic {name}")));
        }
        match self.topics.create(name, self.config.default_partitions, BTreeMap::new(), false, now_ms()) {
            Err((ResponseError::TopicAlreadyExists, _)) | Ok(None) => {}
            Ok(Some(topic)) => return Ok(topic),
            Err(refusal) => return Err(refusal),
        }
        self.topics.by_name(name).ok_or_else(|| (ResponseError::UnknownTopicOrPartition, format!("there is no topic {name}")))
    }
}

impl Identity {
    /// Reads who the broker is, or makes it up, and counts the start.
    fn next_start(data_dir: &Path) -> Result<Identity, Error> {
        let path = data_dir.join("broker.json");
        let mut identity = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Error::Damaged { path: path.clone(), reason: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if data_dir.join("topics").exists() {
                    let reason = "it is missing although there are topics".into();
                    return Err(Error::Damaged { path, reason });
                }
                Identity { cluster_id: Uuid::new_v4().simple().to_string(), leader_epoch: -1, next_producer_id: 1 }
            }
            Err(source) => return Err(Error::Io { action: "read", path, source }),
        };
        identity.leader_epoch = identity.leader_epoch.saturating_add(1);
        identity.store(data_dir)?;
        Ok(identity)
    }

    fn store(&self, data_dir: &Path) -> Result<(), Error> {
        let path = data_dir.join("broker.json");
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| Error::Io {
            action: "encode",
            path: path.clone(),
            source: std::io::Error::other(error),
        })?;
        disk::replace(&path, &bytes)
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What clients on the same machine can connect to when the listener takes any address.
fn endpoint(address: SocketAddr) -> (String, u16) {
    let host = if address.ip().is_unspecified() { "127.0.0.1".into() } else { address.ip().to_string() };
    (host, address.port())
}
