//! A Kafka of the test's own, beside the stack that runs.

use std::{
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};

use mantis_testing::server;
use tempfile::TempDir;

/// Ports of a stack of its own lie this far above those of the stack that runs, and a process's own number of tens above that.
const PORTS_ABOVE: u32 = 11_000;
const STACKS: u32 = 2_000;

/// Stopped, and its data deleted, when dropped.
pub struct Kafka {
    folder: TempDir,
    offset: u32,
    pub brokers: String,
}

impl Kafka {
    /// A new one without topics.
    ///
    /// # Errors
    /// The stack's Kafka does not run: then it may not be installed either.
    pub fn start() -> Result<Self, String> {
        server("kafka")?;
        let offset = PORTS_ABOVE + std::process::id() % STACKS * 10;
        let kafka = Self {
            folder: tempfile::tempdir().map_err(|error| error.to_string())?,
            offset,
            brokers: format!("127.0.0.1:{}", 9092 + offset),
        };
        kafka.stack("up")?;
        Ok(kafka)
    }

    /// SIGKILL, as when its machine dies; returns when it is gone.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder().join("kafka/pid")).unwrap();
        let pid = pid.split(' ').next().unwrap();
        assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
        // Its threads end one after the other, and its port with the last.
        while TcpStream::connect(&self.brokers).is_ok() {
            std::thread::yield_now();
        }
    }

    /// Starts it again after a kill.
    pub fn start_again(&self) {
        self.stack("up").unwrap();
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn stack(&self, action: &str) -> Result<(), String> {
        let ran = Command::new(mantis_testing::repository().join("scripts/stack"))
            .args([action, "kafka"])
            .env("MANTIS_STACK_DIR", self.folder())
            .env("MANTIS_STACK_PORT_OFFSET", self.offset.to_string())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("scripts/stack: {error}"))?;
        let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
        if ran.status.success() { Ok(()) } else { Err(format!("scripts/stack {action} kafka: {said}")) }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.stack("wipe");
    }
}
