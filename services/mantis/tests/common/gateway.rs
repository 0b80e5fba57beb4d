//! A gateway that can be held up, and the seeded choice of when.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::mantis;

/// Replays one recording after the other, through whatever happens to the broker.
pub struct Gateway {
    waiting: Vec<Command>,
    running: Option<Child>,
}

impl Gateway {
    pub fn new(data_dir: &Path, brokers: &str, batch: u32, replays: Vec<(PathBuf, PathBuf)>) -> Self {
        let command = |(mapping, recording): (PathBuf, PathBuf)| {
            let mut command = mantis(data_dir);
            command
                .args(["replay", "--brokers", brokers, "--batch", &batch.to_string(), "--mapping"])
                .arg(mapping)
                .arg(recording);
            command.stdout(Stdio::null()).stderr(Stdio::inherit());
            command
        };
        Self { waiting: replays.into_iter().rev().map(command).collect(), running: None }
    }

    /// Starts the next replay when the one before has ended well; true while there is one.
    pub fn go_on(&mut self) -> bool {
        if let Some(child) = &mut self.running {
            let Some(status) = child.try_wait().unwrap() else { return true };
            assert!(status.success(), "a replay ended with {status}");
        }
        self.running = self.waiting.pop().map(|mut command| command.spawn().unwrap());
        self.running.is_some()
    }

    pub fn signal(&self, signal: &str) {
        if let Some(child) = &self.running {
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        }
    }

    pub fn finish(&mut self) {
        while self.go_on() {
            if let Some(child) = &mut self.running {
                child.wait().unwrap();
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The next number of a small, fixed sequence (splitmix64).
pub fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
