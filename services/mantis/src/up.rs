//! `mantis up`: the whole road in one process. `mantis worker`: one worker of it by itself.

use std::{io::IsTerminal, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use mantis_broker::Broker;
use mantis_kafka::Admin;
use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cli,
    config::Config,
    console::Plant,
    demo,
    exit::{Exit, Usage},
    jobs::{self, Site},
    live::Live,
    parts,
    roles::{Roles, STOP_WAIT},
    run_file::{Held, Running},
    signals, topics,
};

const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Runs broker, workers and pages until a signal; with `--demo` also plays the recording that comes with the program.
pub async fn up(mut config: Config, args: cli::Up, as_json: bool) -> Result<Exit> {
    let signals = signals::first()?;
    signals::survive_file_limits()?;
    config.broker.listen = args.listen.unwrap_or(config.broker.listen);
    config.http.listen = args.http.unwrap_or(config.http.listen);
    let held = Held::take(&config.data_dir)?;
    parts::check(&config).map_err(Usage)?;
    let listener = bind(config.broker.listen, "--listen", "broker.listen").await?;
    let pages = bind(config.http.listen, "--http", "http.listen").await?;
    let broker = Broker::open(parts::broker(&config)).await.context("the embedded broker cannot start")?;
    let (cluster_id, room) = (broker.cluster_id().to_owned(), broker.room());
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
    let site = Site::new(&config, client.clone(), cluster_id, Some(room));
    let (sensors, stores) = (parts::sensors(&config)?, (parts::raw_place(&config)?, parts::feature_place(&config)?));
    let console = |state| mantis_console::routes(Arc::new(Plant::new(&config, &site, state, sensors, stores)));
    let roles = Roles::start(&site, jobs::all(&config, &site)?, pages, console, &stop_roles)?;
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
    config.http.listen = args.http.unwrap_or(config.http.listen);
    if args.brokers.is_none() && config.kafka.brokers.is_none() {
        anyhow::bail!(Usage(anyhow::anyhow!(
            "a worker by itself needs a cluster: give --brokers, or kafka.brokers in mantis.toml"
        )));
    }
    let client = parts::connect(&config, args.brokers.as_deref())?;
    let held = Held::take(&config.data_dir)?;
    parts::check(&config).map_err(Usage)?;
    let pages = bind(config.http.listen, "--http", "http.listen").await?;
    let http = pages.local_addr()?;
    tokio::pin!(signals);
    let admin = Admin::new(&client)?;
    let cluster_id = tokio::select! {
        id = topics::ensure_patiently(&admin, config.broker.partitions) => id?,
        () = &mut signals => return Ok(Exit::Done),
    };
    let stop = CancellationToken::new();
    let site = Site::new(&config, client.clone(), cluster_id.clone(), None);
    let job = jobs::one(args.name, &config, &site)?;
    let mut roles = Roles::start(&site, vec![job], pages, |_| axum::Router::new(), &stop)?;
    held.publish(&Running { pid: std::process::id(), brokers: client.brokers.clone(), http, cluster_id })?;
    let mut ticks = interval(SAMPLE_INTERVAL);
    loop {
        tokio::select! {
            () = &mut signals => break,
            ended = roles.ended() => return ended.map(|()| Exit::Done),
            _ = ticks.tick() => roles.state.sample(),
        }
    }
    stop.cancel();
    roles.stop().await;
    Ok(Exit::Done)
}

async fn bind(address: SocketAddr, flag: &str, key: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another address with {flag} or {key} in mantis.toml"))
}
