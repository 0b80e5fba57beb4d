//! The broker as kcat sees it, with the older librdkafka of a distribution.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use common::TestBroker;
use mantis_broker::Config;

fn kcat(kcat: &Path, broker: &TestBroker, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(kcat)
        .args(["-b", &broker.servers()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn kcat_lists_produces_with_every_codec_and_consumes_alone_and_in_a_group() {
    let Some(program) = mantis_testing::program("kcat") else { return };
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    let lines: String = (0..1_000).map(|number| format!("line {number}\n")).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("kcat-{codec}");
        kcat(&program, &broker, &["-P", "-t", &topic, "-z", codec, "-X", "acks=all"], &lines);
        assert_eq!(kcat(&program, &broker, &["-C", "-t", &topic, "-e", "-q", "-o", "beginning"], ""), lines);
    }
    let listed = kcat(&program, &broker, &["-L"], "");
    assert!(listed.contains("topic \"kcat-zstd\" with 1 partitions"), "{listed}");
    let group = ["-G", "readers", "-e", "-q", "-X", "auto.offset.reset=earliest", "kcat-gzip", "kcat-none"];
    let mut grouped: Vec<_> = kcat(&program, &broker, &group, "").lines().map(str::to_owned).collect();
    let mut expected: Vec<_> = lines.lines().chain(lines.lines()).map(str::to_owned).collect();
    grouped.sort();
    expected.sort();
    assert_eq!(grouped, expected);
    let at = kcat(&program, &broker, &["-Q", "-t", "kcat-none:0:-1", "-t", "kcat-gzip:0:-2"], "");
    assert!(at.contains("kcat-none [0] offset 1000") && at.contains("kcat-gzip [0] offset 0"), "{at}");
}
