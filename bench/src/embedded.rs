//! The embedded broker in this process, set up as `mantis up` does, and a producer that fills its topics.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use mantis_broker::Broker;
use mantis_kafka::{Admin, ClientConfig, NewTopic, OutRecord, Producer};
use mantis_schemas::topics;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::workload::{Messages, Packing};

/// Partitions of a source topic by default.
pub const PARTITIONS: i32 = 4;
/// Messages of one call to the producer.
const CALL_MESSAGES: usize = 8_192;
/// Calls under way: the next is filled while one is acknowledged.
const CALLS: usize = 3;

/// A broker that serves.
pub struct Embedded {
    pub client: ClientConfig,
    pub cluster_id: String,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), mantis_broker::Error>>,
}

impl Embedded {
    /// Opens a broker on the folder, with the raw worker's topics.
    pub async fn start(data_dir: &Path) -> Result<Self> {
        let mut config = mantis_broker::Config::new(data_dir.join("broker"));
        config.default_partitions = PARTITIONS;
        let broker = Broker::open(config).await?;
        let cluster_id = broker.cluster_id().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = ClientConfig::new(listener.local_addr()?.to_string());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(broker.serve(listener, stop.clone()));
        let topic = |name: &str| NewTopic { name: name.to_owned(), partitions: PARTITIONS, settings: Vec::new() };
        let wanted = [topics::READINGS, topics::WAVEFORMS, topics::FEATURES].map(topic);
        Admin::new(&client)?.create_topics(&wanted).await?;
        Ok(Self { client, cluster_id, stop, serving })
    }

    /// Stops it in order.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.serving.await.context("the broker ended")?.context("the broker ended")
    }
}

/// Sends messages as fast as they are acknowledged.
pub async fn fill(client: &ClientConfig, packing: Packing, messages: u64) -> Result<()> {
    let producer = Arc::new(Producer::new(client)?);
    let mut workload = Messages::new(packing);
    let mut calls = tokio::task::JoinSet::new();
    let mut left = usize::try_from(messages)?;
    while left > 0 {
        let call = records(&mut workload, left.min(CALL_MESSAGES));
        left -= call.len();
        let producer = producer.clone();
        calls.spawn(async move { send(&producer, &call).await });
        if calls.len() >= CALLS {
            calls.join_next().await.transpose()?.transpose()?;
        }
    }
    while let Some(sent) = calls.join_next().await {
        sent??;
    }
    Ok(())
}

/// The next messages of the workload, for the topic of readings.
pub fn records(workload: &mut Messages, count: usize) -> Vec<OutRecord> {
    let topic: Arc<str> = topics::READINGS.into();
    let record = |_| {
        let (key, payload) = workload.message();
        let (key, payload) = (Some(key.as_bytes().to_vec()), Some(payload.to_vec()));
        OutRecord { topic: topic.clone(), key, payload, ..OutRecord::default() }
    };
    (0..count).map(record).collect()
}

/// Sends records and waits until all of them are acknowledged.
pub async fn send(producer: &Producer, records: &[OutRecord]) -> Result<()> {
    for sent in producer.send_all(records).await {
        sent?;
    }
    Ok(())
}
