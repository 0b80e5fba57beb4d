//! Runs the broker alone: `cargo run -p mantis-broker --example serve -- DATA_DIR [ADDRESS]`, by default on 127.0.0.1:9092.
//! It prints the address it listens on and stops on SIGTERM or Ctrl-C.

use std::error::Error;

use mantis_broker::{Broker, Config};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let data_dir = arguments.next().ok_or("usage: serve DATA_DIR [ADDRESS]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9092".into());
    let shutdown = CancellationToken::new();
    let (stop, mut terminate) = (shutdown.clone(), signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    });
    let broker = Broker::open(Config::new(data_dir)).await?;
    let listener = TcpListener::bind(&address).await?;
    #[expect(clippy::print_stdout, reason = "whoever started it reads the address here")]
    {
        println!("{}", listener.local_addr()?);
    }
    Ok(broker.serve(listener, shutdown).await?)
}
