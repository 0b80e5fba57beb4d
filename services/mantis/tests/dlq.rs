//! Dead letters by the thousand and by the megabyte: what `mantis dlq` holds of them is bounded.

#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::HashSet, process::Stdio, sync::Arc, time::Duration};

use common::{Up, json, json_lines, mantis, publish};
use mantis_kafka::OutRecord;
use mantis_schemas::topics;
use serde_json::Value;

fn broken(bytes: usize) -> OutRecord {
    let payload = [vec![b'{'], vec![b'x'; bytes]].concat();
    OutRecord { topic: Arc::from(topics::READINGS), key: Some(b"press".to_vec()), payload: Some(payload), ..OutRecord::default() }
}

#[test]
fn a_replay_of_large_letters_holds_a_few_of_them_at_a_time_and_marks_them_all() {
    const LETTERS: usize = 300;
    const LETTER_BYTES: usize = 900 << 10;
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    publish(&up.brokers, &vec![broken(LETTER_BYTES); LETTERS]);
    let account = json(folder.path(), &["audit", "raw", "--wait", "60"], 0);
    assert_eq!(account["records_dead_lettered"], LETTERS);

    let mut replay = mantis(folder.path()).args(["dlq", "replay", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut peak_kib = 0;
    let ended = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", replay.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        peak_kib = peak_kib.max(peak.unwrap_or(0));
        if let Some(ended) = replay.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(ended.success(), "{ended}");
    let replayed: serde_json::Value = serde_json::from_reader(replay.stdout.take().unwrap()).unwrap();
    assert_eq!(replayed["replayed"], LETTERS);
    // What the Kafka client itself takes does not depend on their number.
    assert!(peak_kib << 10 < LETTERS * LETTER_BYTES * 3 / 4, "{peak_kib} KiB at the peak");
    json(folder.path(), &["audit", "raw", "--wait", "60"], 0);
    let all = json_lines(folder.path(), &["dlq", "list", "--all"], 3);
    let marked =
        all.iter().filter(|record| record["refusals"].as_array().unwrap().iter().any(|by| by["replayed_ms"].is_number()));
    assert_eq!(marked.count(), LETTERS);
    up.stop();
}

#[test]
fn a_list_goes_on_from_the_place_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path(), &[]);
    publish(&up.brokers, &vec![broken(10); 5]);
    json(folder.path(), &["audit", "raw", "--wait", "60"], 0);
    // A letter of each worker that decodes.
    let refusals = |records: &[Value]| records.iter().map(|record| record["refusals"].as_array().unwrap().len()).sum::<usize>();
    up.wait_until("refused by all", |up| refusals(&json_lines(&up.data_dir, &["dlq", "list"], 3)) == 5 * 4);
    let newest = json_lines(folder.path(), &["dlq", "list"], 3);
    let positions: HashSet<&str> = newest.iter().map(|record| record["position"].as_str().unwrap()).collect();
    assert_eq!((newest.len(), positions.len()), (5, 5), "a record is listed once, whoever refused it");
    let rest = json_lines(folder.path(), &["dlq", "list", "--from", "mantis.readings.dlq/0/3"], 3);
    assert_eq!(refusals(&rest), 5 * 4 - 3);
    let all = json_lines(folder.path(), &["dlq", "list", "--from", "mantis.readings.dlq/0/0"], 3);
    assert_eq!(all, newest.into_iter().rev().collect::<Vec<_>>(), "from a place on the oldest come first");
    common::run(folder.path(), &["dlq", "list", "--from", "mantis.readings.dlq/x"], 2);
    up.stop();
}
