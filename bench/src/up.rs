//! A `mantis up`, or a `mantis worker`, in a process of its own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mantis_kafka::ClientConfig;

const READY_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

/// The process; killed when dropped.
pub struct Up {
    child: Child,
    http: String,
    pub client: ClientConfig,
    /// From the start of the process until every worker read its partitions.
    pub ready_after: Duration,
}

impl Up {
    /// Starts `mantis up` on free ports and waits until it is ready. Blocks.
    pub fn start(mantis: &Path, data_dir: &Path) -> Result<Self> {
        Self::run(mantis, data_dir, &["up", "--listen", "127.0.0.1:0"])
    }

    /// Starts one worker against a broker and waits until it is ready. Blocks.
    pub fn worker(mantis: &Path, data_dir: &Path, name: &str, brokers: &str) -> Result<Self> {
        Self::run(mantis, data_dir, &["worker", name, "--brokers", brokers])
    }

    fn run(mantis: &Path, data_dir: &Path, args: &[&str]) -> Result<Self> {
        let log = std::fs::File::options().create(true).append(true).open(data_dir.join("up.log"))?;
        let mut command = Command::new(mantis);
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("MANTIS__")) {
            command.env_remove(key);
        }
        command.current_dir(data_dir).arg("--data-dir").arg(data_dir).args(args);
        command.args(["--http", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", mantis.display()))?;
        let mut up = Self { child, http: String::new(), client: ClientConfig::new(""), ready_after: Duration::ZERO };
        while !up.is_ready(data_dir) {
            if up.child.try_wait()?.is_some() || began.elapsed() > READY_WAIT {
                bail!("`mantis {}` is not ready: see {}", args.join(" "), data_dir.join("up.log").display());
            }
            std::thread::sleep(POLL);
        }
        up.ready_after = began.elapsed();
        Ok(up)
    }

    fn is_ready(&mut self, data_dir: &Path) -> bool {
        if self.http.is_empty() {
            let Some(running) = self.running(&data_dir.join("run.json")) else { return false };
            (self.client.brokers, self.http) = running;
        }
        ureq::get(format!("http://{}/health/ready", self.http)).call().is_ok()
    }

    fn running(&self, path: &PathBuf) -> Option<(String, String)> {
        let running: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let text = |key: &str| running[key].as_str().map(str::to_owned);
        (running["pid"] == self.pid()).then(|| text("brokers").zip(text("http")))?
    }

    /// Records that each worker has not finished, by its topics. Blocks.
    pub fn lags(&self) -> Result<Vec<i64>> {
        let status: serde_json::Value = ureq::get(format!("http://{}/status", self.http)).call()?.body_mut().read_json()?;
        let topics = status["workers"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|worker| worker["topics"].as_array().into_iter().flatten());
        // A lag that Kafka does not tell yet is one.
        Ok(topics.map(|topic| topic["lag"].as_i64().unwrap_or(i64::MAX)).collect())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Up {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
