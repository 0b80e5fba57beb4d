//! A broker that is nobody's `up`: the cluster that workers are pointed at.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    thread::JoinHandle,
};

use mantis_broker::{Broker, Config};
use tokio_util::sync::CancellationToken;

pub struct Cluster {
    pub address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    pub fn start(data_dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (stopped, config) = (stop.clone(), Config::new(data_dir));
        let thread = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let broker = Broker::open(config).await.unwrap();
                broker.serve(tokio::net::TcpListener::from_std(listener).unwrap(), stopped).await.unwrap();
            });
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
