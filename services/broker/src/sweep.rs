//! What runs in the background: deadlines of groups, and every while retention, compaction and expiry.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task,
    time::{MissedTickBehavior, interval},
};

use crate::{
    broker::{Core, now_ms},
    topics::Topic,
};

/// How exact the deadlines of group members are.
const GROUP_TICK_MS: u64 = 100;

/// Runs until the broker shuts down.
pub(crate) async fn run(core: Arc<Core>) {
    let mut tick = interval(Duration::from_millis(GROUP_TICK_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sweep_interval = Duration::from_millis(core.config.sweep_interval_ms);
    let mut swept = Instant::now();
    loop {
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            _ = tick.tick() => core.groups.tick(Instant::now()),
        }
        if swept.elapsed() >= sweep_interval {
            let sweeping = Arc::clone(&core);
            if let Err(panic) = task::spawn_blocking(move || sweep(&sweeping)).await {
                tracing::error!(%panic, "sweep failed");
            }
            swept = Instant::now();
        }
    }
}

fn sweep(core: &Core) {
    core.groups.expire(now_ms());
    for topic in core.topics.all() {
        if core.shutdown.is_cancelled() {
            return;
        }
        sweep_topic(core, &topic);
    }
}

fn sweep_topic(core: &Core, topic: &Topic) {
    let settings = topic.settings();
    for (index, partition) in (0..).zip(topic.partitions().iter()) {
        partition.reopen_if_offline(&settings, now_ms());
        if settings.log.cleanup.deletes() {
            let floor = core.groups.floor(&topic.name, index);
            match partition.with_log(|log| log.retain(now_ms(), floor)) {
                Ok(removed) if removed.segments > 0 => {
                    tracing::info!(topic = topic.name, partition = index, ?removed, floor, "retention removed segments");
                }
                Ok(_) | Err(_) => {}
            }
        }
        if settings.log.cleanup.compacts() {
            let planned = partition.with_log(|log| Ok(log.compaction(now_ms())));
            let Ok(Some(compaction)) = planned else { continue };
            match compaction.run(core.config.limits.compaction_table_bytes_max) {
                Ok(compacted) => match partition.with_log(|log| log.install(compacted)) {
                    Ok(removed) => tracing::info!(topic = topic.name, partition = index, ?removed, "compacted"),
                    Err(error) => {
                        tracing::error!(topic = topic.name, partition = index, %error, "cannot install compacted segments")
                    }
                },
                Err(error) => tracing::error!(topic = topic.name, partition = index, %error, "cannot compact"),
            }
        }
    }
}
