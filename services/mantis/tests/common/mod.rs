//! A running `mantis up` and commands against it.

// Each test file uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod chromium;
pub mod cluster;
pub mod gateway;
pub mod kafka;
pub mod recordings;
pub mod truth;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use mantis_kafka::{ClientConfig, OutRecord, Producer};
use serde_json::Value;

const READY_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// `mantis` with a data folder, without the developer's own configuration.
pub fn mantis(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mantis"));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("MANTIS__")) {
        command.env_remove(key);
    }
    command.current_dir(data_dir).arg("--data-dir").arg(data_dir).stdin(Stdio::null());
    command
}

/// Runs a command to its end; panics with its output unless it ends with `code`.
pub fn run(data_dir: &Path, args: &[&str], code: i32) -> Output {
    let output = mantis(data_dir).args(args).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "mantis {args:?}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What a command prints as one JSON object.
pub fn json(data_dir: &Path, args: &[&str], code: i32) -> Value {
    let output = run(data_dir, &[args, &["--json"]].concat(), code);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// Sends records, each of which has to be acknowledged.
pub fn publish(brokers: &str, records: &[OutRecord]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let producer = Producer::new(&ClientConfig::new(brokers)).unwrap();
        for delivered in producer.send_all(records).await {
            delivered.unwrap();
        }
    });
}

/// What a command prints as JSON lines.
pub fn json_lines(data_dir: &Path, args: &[&str], code: i32) -> Vec<Value> {
    let output = run(data_dir, &[args, &["--json"]].concat(), code);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A `mantis up` in a process of its own; killed when dropped.
pub struct Up {
    child: Child,
    pub data_dir: PathBuf,
    pub brokers: String,
    pub http: SocketAddr,
}

impl Up {
    /// Starts on free ports and waits until every worker has its partitions.
    pub fn start(data_dir: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_at(data_dir, "127.0.0.1:0", settings)
    }

    /// Starts with the broker at a given address, so that clients of a killed one find it again.
    pub fn start_at(data_dir: &Path, listen: &str, settings: &[(&str, &str)]) -> Self {
        let mut up = Self::launch(data_dir, listen, settings);
        up.wait_until_ready();
        up
    }

    /// Until every worker has its partitions and lacks nothing.
    pub fn wait_until_ready(&mut self) {
        self.wait_until("ready", |up| up.http_get("/health/ready").is_some_and(|(code, _)| code == 200));
    }

    /// Starts and waits until its pages are there, whether its workers can work or not.
    pub fn launch(data_dir: &Path, listen: &str, settings: &[(&str, &str)]) -> Self {
        Self::run(data_dir, &["up", "--listen", listen], settings)
    }

    /// A long-running command. What it prints goes to `up.out`, its log to `up.log`.
    pub fn run(data_dir: &Path, args: &[&str], settings: &[(&str, &str)]) -> Self {
        let file = |name: &str| std::fs::File::options().create(true).append(true).open(data_dir.join(name)).unwrap();
        let mut command = mantis(data_dir);
        command.args(args).args(["--http", "127.0.0.1:0"]).envs(settings.iter().copied());
        let child = command.stdout(file("up.out")).stderr(file("up.log")).spawn().unwrap();
        let mut up =
            Self { child, data_dir: data_dir.to_owned(), brokers: String::new(), http: SocketAddr::from(([127, 0, 0, 1], 0)) };
        up.wait_until("up", Self::find_addresses);
        up
    }

    fn find_addresses(&mut self) -> bool {
        let Ok(text) = std::fs::read(self.data_dir.join("run.json")) else { return false };
        let Ok(running) = serde_json::from_slice::<Value>(&text) else { return false };
        if running["pid"] != self.child.id() {
            return false;
        }
        self.brokers = running["brokers"].as_str().unwrap().to_owned();
        self.http = running["http"].as_str().unwrap().parse().unwrap();
        true
    }

    /// Polls `condition` until it holds; panics with the log's end when `up` ends or time runs out.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + READY_WAIT;
        while !condition(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "not {what} (ended: {ended:?})\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    /// A page of its HTTP server: status code and body.
    pub fn http_get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(5)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// `/status`, parsed.
    pub fn status(&self) -> Value {
        let (_, body) = self.http_get("/status").expect("the status page answers");
        serde_json::from_str(&body).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and asserts that it ends by itself with exit code 0.
    pub fn stop(mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        let deadline = Instant::now() + READY_WAIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0), "{}", self.log());
                return;
            }
            assert!(Instant::now() < deadline, "did not stop\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.data_dir.join("up.log")).unwrap_or_default();
        let skip = text.lines().count().saturating_sub(40);
        text.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
