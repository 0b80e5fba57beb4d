//! The recording that comes with the program, played as a gateway would, at a pace that can be watched.

use anyhow::Result;
use mantis_gateway::{Format, KafkaPublisher, Pace, ReplayOptions, demo, replay};
use mantis_kafka::ClientConfig;
use mantis_pipeline::Shutdown;

const BATCH: usize = 50;
/// Two recorded hours in a minute.
const PACE: Pace = Pace::Times(120.0);

/// Plays the demo once.
pub async fn play(client: &ClientConfig, stop: &Shutdown) {
    if let Err(error) = try_play(client, stop).await {
        tracing::error!(%error, "the demo has ended");
    }
}

async fn try_play(client: &ClientConfig, stop: &Shutdown) -> Result<()> {
    let recording = demo(BATCH, Format::Avro)?;
    let options =
        ReplayOptions { pace: PACE, progress_folder: None, target: client.brokers.clone(), restart: true, wait_max: None };
    let publisher = KafkaPublisher::new(client)?;
    let account = replay(recording, &publisher, &options, stop, &mut |_| {}).await?;
    tracing::info!(messages = account.acknowledged, readings = account.acknowledged_readings, "the demo has been played");
    Ok(())
}
