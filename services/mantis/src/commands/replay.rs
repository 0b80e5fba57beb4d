//! `mantis replay`: recordings to Kafka, as a gateway would publish them.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use mantis_gateway::{Account, Format, KafkaPublisher, Mapping, Pace, Progress, Recording, ReplayOptions, replay as play};
use mantis_kafka::Admin;
use mantis_pipeline::Shutdown;

use crate::{
    cli,
    config::Config,
    exit::{Exit, Usage},
    output::{self, grouped},
    parts, signals, topics,
};

/// Plays the recordings; exit code 3 when something of them could not be published, a sensor was not found, or the
/// replay was interrupted.
pub async fn replay(config: &Config, args: &cli::Replay, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let signals = signals::first()?;
    let mapping = Mapping::read(&args.mapping).map_err(|error| Usage(error.into()))?;
    let format = match args.format {
        cli::Format::Avro => Format::Avro,
        cli::Format::Json => Format::Json,
    };
    let paths = args.recordings.clone();
    let batch = args.batch as usize;
    // Finding and checking the files reads them.
    let recording = tokio::task::spawn_blocking(move || Recording::open(mapping, &paths, batch, format))
        .await?
        .map_err(|error| Usage(error.into()))?;
    let client = parts::connect(config, args.brokers.as_deref())?;
    let stop = Shutdown::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        signals.await;
        stopped.cancel();
    });
    let admin = Admin::new(&client)?;
    let cluster_id = tokio::select! {
        id = topics::ensure_patiently(&admin, config.broker.partitions) => id?,
        () = stop.cancelled() => return Ok(Exit::Attention),
    };
    let options = ReplayOptions {
        pace: match args.speed {
            cli::Speed::Max => Pace::Fast,
            cli::Speed::Times(times) => Pace::Times(times),
        },
        progress_folder: Some(config.data_dir.join("replay")),
        target: cluster_id,
        restart: args.restart,
        wait_max: None,
    };
    let publisher = KafkaPublisher::new(&client)?;
    let bar = bar(as_json);
    let account = play(recording, &publisher, &options, &stop, &mut |progress| tell(&bar, progress)).await;
    bar.finish_and_clear();
    let account = account?;
    if as_json {
        output::json_line(out, &account)?;
    } else {
        show(&account, out)?;
    }
    let whole = account.read.refused == 0 && account.read.absent_sensors.is_empty() && !account.interrupted;
    Ok(if whole { Exit::Done } else { Exit::Attention })
}

fn bar(as_json: bool) -> ProgressBar {
    if as_json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    // The template is constant and tested by its first use.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn tell(bar: &ProgressBar, progress: Progress<'_>) {
    match progress {
        Progress::Account(account) => {
            bar.set_length(account.bytes);
            bar.set_position(account.bytes_read);
            bar.set_message(format!("{} messages, {} readings/s", grouped(account.acknowledged), grouped(account.rate() as u64)));
        }
        Progress::Resuming(messages) => {
            bar.println(format!("goes on after {} messages that were acknowledged before", grouped(messages)));
        }
        Progress::Waiting { waited, reason } => {
            let text = format!("no acknowledgement for {} s: {reason}", waited.as_secs());
            if bar.is_hidden() {
                tracing::warn!("{text}");
            } else {
                bar.println(text);
            }
        }
    }
}

fn show(account: &Account, out: &mut impl Write) -> Result<()> {
    let (read, n) = (&account.read, grouped);
    writeln!(
        out,
        "read          {} files, {} rows: {} readings, {} frames ({} samples), {} blanks, {} ignored, {} refused",
        n(read.files),
        n(read.rows),
        n(read.readings),
        n(read.frames),
        n(read.samples),
        n(read.blanks),
        n(read.ignored),
        n(read.refused)
    )?;
    writeln!(
        out,
        "acknowledged  {} messages: {} readings, {} frames, in {:.1} s ({} per second)",
        n(account.acknowledged),
        n(account.acknowledged_readings),
        n(account.acknowledged_frames),
        account.elapsed_s,
        n(account.rate() as u64)
    )?;
    if account.resumed_messages > 0 {
        let from = account.resumed_from.as_deref().unwrap_or("the end");
        writeln!(out, "resumed       after {} messages, at {from}", n(account.resumed_messages))?;
    }
    if account.interrupted {
        writeln!(out, "interrupted   the same command goes on from here")?;
    }
    if !read.absent_sensors.is_empty() && !account.interrupted {
        writeln!(out, "absent        no row has had a sensor called {}", read.absent_sensors.join(", "))?;
    }
    for refusal in &read.refusals {
        writeln!(out, "  {refusal}")?;
    }
    let unnamed = read.refused.saturating_sub(read.refusals.len() as u64);
    if unnamed > 0 {
        writeln!(out, "  and {} more", n(unnamed))?;
    }
    Ok(())
}
