//! The topics of MANTIS, made where they are missing.

use std::time::Duration;

use anyhow::{Context, Result};
use mantis_kafka::{Admin, Error, NewTopic};
use mantis_schemas::topics::{
    DEAD_LETTER_MESSAGE_BYTES_MAX, FEATURE_STATE, FEATURES, SOURCE_MESSAGE_BYTES_MAX, SOURCES, dead_letter,
};

/// Dead letters wait longer than source records for somebody to look at them.
const DEAD_LETTER_RETENTION_MS: u64 = 30 * 24 * 3_600_000;
/// How long a client waits for a broker that is not there yet, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Makes the topics of MANTIS and their dead-letter topics; those that exist stay as they are, and what differs is logged.
pub async fn ensure(admin: &Admin, partitions: i32) -> Result<()> {
    try_ensure(admin, partitions).await.context("the topics of MANTIS cannot be made")
}

/// As [`ensure`], and waits for a broker that is away. Returns the cluster's id.
pub async fn ensure_patiently(admin: &Admin, partitions: i32) -> Result<String> {
    let waiting = async {
        loop {
            let ready = async {
                try_ensure(admin, partitions).await?;
                admin.cluster_id().await
            };
            match ready.await {
                Err(Error::Unavailable(reason)) => tracing::warn!(reason, "waits for the broker"),
                done => return done,
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .context("the broker did not come back within ten minutes")?
        .context("the topics of MANTIS cannot be made")
}

async fn try_ensure(admin: &Admin, partitions: i32) -> Result<(), Error> {
    let mut wanted = Vec::new();
    for source in SOURCES.into_iter().chain([FEATURES]) {
        wanted.push(topic(source.to_owned(), partitions, SOURCE_MESSAGE_BYTES_MAX, None));
        wanted.push(topic(dead_letter(source), 1, DEAD_LETTER_MESSAGE_BYTES_MAX, Some(DEAD_LETTER_RETENTION_MS)));
    }
    let mut state = topic(FEATURE_STATE.to_owned(), partitions, SOURCE_MESSAGE_BYTES_MAX, None);
    state.settings.push(("cleanup.policy".into(), "compact".into()));
    wanted.push(state);
    for created in admin.create_topics(&wanted).await? {
        for setting in created.differs {
            let (name, wanted, found) = (setting.name, setting.wanted, setting.found);
            tracing::warn!(topic = created.name, setting = name, wanted, ?found, "a topic that was there has another setting");
        }
    }
    Ok(())
}

fn topic(name: String, partitions: i32, message_bytes_max: usize, retention_ms: Option<u64>) -> NewTopic {
    let mut settings = vec![("max.message.bytes".into(), message_bytes_max.to_string())];
    settings.extend(retention_ms.map(|ms| ("retention.ms".into(), ms.to_string())));
    NewTopic { name, partitions, settings }
}
