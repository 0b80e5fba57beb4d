//! Processes of their own that meet at a broker: a worker away from it, the demo, an address that is told, an interrupted replay.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use common::{Up, cluster::Cluster, json, json_lines, mantis, publish};
use mantis_kafka::OutRecord;
use mantis_schemas::topics;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

#[test]
fn a_worker_by_itself_reads_from_another_process_into_its_own_folder_and_is_audited_there() {
    let (broker, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cluster = Cluster::start(broker.path());
    let brokers = cluster.address.to_string();
    let mut worker = Up::run(folder.path(), &["worker", "raw", "--brokers", &brokers], &[]);
    worker.wait_until_ready();
    let records = (0..100).map(|second| OutRecord {
        topic: Arc::from(topics::READINGS),
        key: Some(format!("pump-{}", second % 3).into_bytes()),
        payload: Some(
            format!(
                r#"{{"asset":"pump-{}","sensor":"flow","time":"2026-01-01T00:{:02}:{:02}Z","value":{second}}}"#,
                second % 3,
                second / 60,
                second % 60
            )
            .into_bytes(),
        ),
        ..OutRecord::default()
    });
    let records: Vec<_> = records
        .chain([OutRecord { topic: Arc::from(topics::READINGS), payload: Some(b"{".to_vec()), ..OutRecord::default() }])
        .collect();
    publish(&brokers, &records);
    let account = json(folder.path(), &["audit", "raw", "--brokers", &brokers, "--wait", "30"], 0);
    assert_eq!(
        (&account["records"], &account["stored"], &account["records_dead_lettered"]),
        (&101.into(), &100.into(), &1.into())
    );
    let stored = json_lines(folder.path(), &["query", "readings", "pump-1", "flow"], 0);
    assert_eq!(
        stored.iter().map(|reading| reading["value"].as_f64().unwrap()).sum::<f64>(),
        (0..100).filter(|n| n % 3 == 1).map(f64::from).sum::<f64>()
    );
    // Commands on the folder find the cluster through the worker that runs there.
    assert_eq!(json_lines(folder.path(), &["dlq", "list"], 3).len(), 1);
    worker.stop();
    assert!(!broker.path().join("raw.db").exists());
}

#[test]
fn the_demo_plays_on_an_empty_folder_and_tells_json_lines_until_it_is_asked_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::run(folder.path(), &["up", "--demo", "--json", "--listen", "127.0.0.1:0"], &[]);
    up.wait_until_ready();
    up.wait_until("playing the demo", |_| {
        let stored = mantis(folder.path()).args(["query", "readings", "pump-7", "temperature", "--json"]).output().unwrap();
        String::from_utf8(stored.stdout).unwrap().lines().count() >= 50
    });
    let told = || std::fs::read_to_string(folder.path().join("up.out")).unwrap();
    up.wait_until("telling of the rows", |_| told().contains(r#""written":"#) && told().lines().count() >= 3);
    up.stop();
    let lines: Vec<Value> = told().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = |line: &Value| -> u64 {
        let topics = line["workers"][0]["topics"].as_array().unwrap();
        topics.iter().map(|topic| topic["rows"].as_u64().unwrap()).sum()
    };
    assert!(lines.last().is_some_and(|line| rows(line) >= 50), "{lines:?}");
    assert!(lines.iter().map(rows).is_sorted(), "{lines:?}");
}

#[test]
fn a_client_that_comes_by_the_listeners_address_is_told_the_advertised_one() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (listen, advertised) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let up = Up::start_at(folder.path(), &listen, &[("MANTIS__BROKER__ADVERTISED", &advertised)]);
    let client: BaseConsumer = rdkafka::ClientConfig::new().set("bootstrap.servers", &listen).create().unwrap();
    let metadata = client.fetch_metadata(None, Duration::from_secs(30)).unwrap();
    let brokers: Vec<_> = metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())).collect();
    assert_eq!(brokers, [advertised]);
    up.stop();
}

/// The second half of the recording is an hour after the first, so that a replay at the recorded speed surely waits there.
#[test]
fn a_replay_that_was_terminated_sends_only_the_rest_when_it_is_run_again() {
    const NEW_YEAR_MS: u64 = 1_767_225_600_000;
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    let (mapping, recording) = (folder.path().join("press.toml"), folder.path().join("press.csv"));
    std::fs::write(&mapping, "asset = \"press\"\n[time]\nvalue = \"{at}\"\nformat = \"ms\"\n[sensors]\nforce = {}\n").unwrap();
    let times = (0..20).chain(3_600_000..3_600_030).map(|ms| NEW_YEAR_MS + ms);
    let rows: String = times.map(|ms| format!("{ms},{}.5\n", ms % 97)).collect();
    std::fs::write(&recording, format!("at,force\n{rows}")).unwrap();
    let replay = |speed: &str| {
        let mut command = mantis(folder.path());
        command.args(["replay", "--json", "--batch", "1", "--speed", speed, "--mapping"]).args([&mapping, &recording]);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };

    let first = replay("recorded");
    let stored = |up: &mut Up| {
        up.status()["workers"][0]["topics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|topic| topic["written"].as_u64().unwrap())
            .sum::<u64>()
    };
    up.wait_until("in the middle of the recording", |up| stored(up) == 20);
    assert!(Command::new("kill").arg(first.id().to_string()).status().unwrap().success());
    let first = first.wait_with_output().unwrap();
    let account: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!((first.status.code(), &account["interrupted"], &account["acknowledged"]), (Some(3), &true.into(), &20.into()));

    let second = replay("max").wait_with_output().unwrap();
    let account: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!((second.status.code(), &account["interrupted"]), (Some(0), &false.into()));
    assert_eq!((&account["resumed_messages"], &account["acknowledged"]), (&20.into(), &30.into()), "{account}");
    let account = json(folder.path(), &["audit", "raw", "--wait", "30"], 0);
    assert_eq!((&account["records"], &account["stored"], &account["duplicates"]), (&50.into(), &50.into(), &0.into()));
    up.stop();
}
