//! What Linux tells about a process.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// Unit of CPU time in `/proc`: `USER_HZ`, the same on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds, user and system, of a process and all threads that it had.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    ticks(&stat).map(|ticks| ticks / TICKS_PER_S).with_context(|| format!("{path} is not as expected"))
}

/// Anonymous resident memory of a process, in bytes: its heap and stacks without mapped files.
pub fn rss_anon(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()).context("RssAnon is missing")?.parse()?;
    Ok(kib * 1024.0)
}

/// Bytes of the files below a folder.
pub fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(of) if of.is_dir() => bytes_below(&entry.path()),
            Ok(of) => of.len(),
            Err(_) => 0,
        })
        .sum()
}

/// utime and stime: fields 14 and 15, counted from behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?)
}
