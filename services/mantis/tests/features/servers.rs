//! The road on real servers: Apache Kafka, InfluxDB and TimescaleDB, each worker a process of its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mantis_stores::raw::influx::{InfluxConfig, InfluxRawReader};
use mantis_testing::{Bucket, ORG, Schema, User, skipped};

use crate::{
    common::{
        Up,
        gateway::{Gateway, random},
        json,
        kafka::Kafka,
        recordings::replays,
        run, truth,
    },
    truth::{REGISTERED, SETTINGS, agree_with_the_truth, by_psql, has_every_reading, replay_all, slow_readings_agree},
};

const PARTITIONS: i32 = 12;

/// The servers, and settings that point at them.
struct Servers {
    kafka: Kafka,
    bucket: Bucket,
    schema: Schema,
}

impl Servers {
    fn start() -> Result<Self, String> {
        Ok(Self { bucket: Bucket::new(0)?, schema: Schema::new("timescaledb")?, kafka: Kafka::start()? })
    }

    /// A folder of a process, with its `mantis.toml`.
    fn folder(&self, within: &Path, name: &str) -> PathBuf {
        let folder = within.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let settings = format!(
            "[broker]\npartitions = {PARTITIONS}\n[kafka]\nbrokers = {:?}\n[influxdb]\nurl = {:?}\nbucket = {:?}\ntoken_file = {:?}\n{}{SETTINGS}{REGISTERED}",
            self.kafka.brokers,
            self.bucket.url(),
            self.bucket.name,
            self.bucket.token_file(),
            self.schema.settings(),
        );
        std::fs::write(folder.join("mantis.toml"), settings).unwrap();
        folder
    }

    /// The folder of a gateway; the tables are made.
    fn gateway(&self, within: &Path) -> PathBuf {
        let folder = self.folder(within, "gateway");
        let database = self.schema.database();
        let (owner, password) = (database.url(User::Owner), database.password_file(User::Owner));
        run(&folder, &["migrate", "--url", &owner, "--password-file", password.to_str().unwrap()], 0);
        folder
    }

    fn influx(&self) -> InfluxRawReader {
        let token = std::fs::read_to_string(self.bucket.token_file()).unwrap();
        let config = InfluxConfig::new(self.bucket.url(), ORG, self.bucket.name.as_str(), token);
        InfluxRawReader::new(&config).unwrap()
    }

    fn worker(&self, within: &Path, name: &str, copy: usize) -> Up {
        Up::run(&self.folder(within, &format!("{name}-{copy}")), &["worker", name], &[])
    }
}

#[test]
fn the_recordings_come_through_kafka_into_influxdb_and_timescaledb_and_agree_with_the_truth() {
    let Some(data) = mantis_testing::recordings() else { return };
    let servers = match Servers::start() {
        Ok(servers) => servers,
        Err(why) => return skipped(&why),
    };
    let folder = tempfile::tempdir().unwrap();
    let gateway = servers.gateway(folder.path());
    let copies = |name: &'static str| (0..2).map(move |copy| (name, copy));
    let workers = copies("raw").chain(copies("features")).chain(copies("timescale")).chain([("archive", 0)]);
    let mut workers: Vec<Up> = workers.map(|(name, copy)| servers.worker(folder.path(), name, copy)).collect();
    workers.iter_mut().for_each(Up::wait_until_ready);
    replay_all(&gateway, &data);
    audit(&gateway);
    truth::agree_with_the_truth(&servers.influx(), &data);
    workers[2].wait_until("every reading in its windows", |_| has_every_reading(&servers.schema));
    agree_with_the_truth(&by_psql(&servers.schema), &data);
    slow_readings_agree(&servers.schema, &data);
    workers.into_iter().for_each(Up::stop);
    run(&folder.path().join("archive-0"), &["audit", "archive"], 0);
}

fn audit(gateway: &Path) {
    for store in ["raw", "features", "timescale"] {
        let account = json(gateway, &["audit", store, "--wait", "120"], 0);
        assert_eq!(account["proved"], true, "{account}");
    }
}

const GROUPS: [&str; 3] = ["raw", "features", "timescale"];
const COPIES: usize = 3;
const KILLS: usize = 11;
const SEED: u64 = 0x7365_7276;
/// Unprocessed records above which the gateway is held up.
const BACKLOG_RECORDS_MAX: u64 = 3_000;
/// Sessions of killed workers run out meanwhile.
const WAIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// Records that the raw workers finish from one kill to the next, at most.
const STEP_RECORDS_MAX: u64 = 2_000;

/// Every fourth kill is Kafka's. The others hit any worker: its group goes on without it when its session has run out.
#[test]
#[ignore = "after the kills some partitions are not read on within two minutes; nothing is lost or wrong"]
fn kills_of_workers_and_of_kafka_change_no_stored_row() {
    let Some(data) = mantis_testing::recordings() else { return };
    let servers = match Servers::start() {
        Ok(servers) => servers,
        Err(why) => return skipped(&why),
    };
    let folder = tempfile::tempdir().unwrap();
    let gateway_dir = servers.gateway(folder.path());
    let start = |number: usize| servers.worker(folder.path(), GROUPS[number / COPIES], number % COPIES);
    let mut workers: Vec<Up> = (0..GROUPS.len() * COPIES).map(start).collect();
    workers.iter_mut().for_each(Up::wait_until_ready);
    let mut gateway = Gateway::new(&gateway_dir, &servers.kafka.brokers, 5, replays(&data));
    let (mut seed, mut at_work) = (SEED, 0);
    for kill in 0..KILLS {
        let goal = progress(&workers).0 + 1 + random(&mut seed) % STEP_RECORDS_MAX;
        wait_until("at the next kill", || {
            let sends = gateway.go_on();
            let (done, backlog) = progress(&workers);
            // The recordings should last for most kills.
            gateway.signal(if backlog > BACKLOG_RECORDS_MAX { "-STOP" } else { "-CONT" });
            at_work += usize::from(done >= goal);
            done >= goal || !sends
        });
        if kill % 4 == 3 {
            servers.kafka.kill();
            servers.kafka.start_again();
        } else {
            let number = random(&mut seed) as usize % workers.len();
            workers.remove(number).kill();
            workers.insert(number, start(number));
        }
    }
    assert!(at_work >= KILLS / 3, "{at_work} kills came while there was work");
    gateway.signal("-CONT");
    gateway.finish();
    audit(&gateway_dir);
    truth::agree_with_the_truth(&servers.influx(), &data);
    slow_readings_agree(&servers.schema, &data);
    workers.into_iter().for_each(Up::stop);
}

/// Records that the raw workers have finished, and those that wait, by the best that any of them knows of each partition.
fn progress(workers: &[Up]) -> (u64, u64) {
    let mut known: BTreeMap<(String, u64), (u64, u64)> = BTreeMap::new();
    for worker in &workers[..COPIES] {
        for topic in worker.status()["workers"][0]["topics"].as_array().unwrap() {
            for partition in topic["partitions"].as_array().unwrap() {
                let of = (topic["topic"].as_str().unwrap().to_owned(), partition["partition"].as_u64().unwrap());
                let done = partition["done"].as_u64().unwrap_or_default();
                let (best, end) = known.entry(of).or_default();
                *best = (*best).max(done);
                *end = (*end).max(done + partition["lag"].as_u64().unwrap_or_default());
            }
        }
    }
    let (done, ends) = known.values().fold((0, 0), |(done, ends), (best, end)| (done + best, ends + end));
    (done, ends - done)
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !reached() {
        assert!(Instant::now() < deadline, "not {what} within {WAIT:?}");
        std::thread::sleep(POLL);
    }
}
