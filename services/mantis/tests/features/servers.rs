//! The road on real servers: Apache Kafka, InfluxDB and TimescaleDB, each worker a process of its own.

use std::path::{Path, PathBuf};

use mantis_stores::raw::influx::{InfluxConfig, InfluxRawReader};
use mantis_testing::{Bucket, ORG, Schema, User, skipped};

use crate::{
    common::{Up, json, kafka::Kafka, run, truth},
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
    let gateway = servers.folder(folder.path(), "gateway");
    let database = servers.schema.database();
    let (owner, password) = (database.url(User::Owner), database.password_file(User::Owner));
    run(&gateway, &["migrate", "--url", &owner, "--password-file", password.to_str().unwrap()], 0);
    let copies = |name: &'static str| (0..2).map(move |copy| (name, copy));
    let workers = copies("raw").chain(copies("features")).chain(copies("timescale")).chain([("archive", 0)]);
    let mut workers: Vec<Up> = workers.map(|(name, copy)| servers.worker(folder.path(), name, copy)).collect();
    workers.iter_mut().for_each(Up::wait_until_ready);
    replay_all(&gateway, &data);
    for store in ["raw", "features", "timescale"] {
        let account = json(&gateway, &["audit", store, "--wait", "120"], 0);
        assert_eq!(account["proved"], true, "{account}");
    }
    let token = std::fs::read_to_string(servers.bucket.token_file()).unwrap();
    let influx = InfluxConfig::new(servers.bucket.url(), ORG, servers.bucket.name.as_str(), token);
    truth::agree_with_the_truth(&InfluxRawReader::new(&influx).unwrap(), &data);
    workers[2].wait_until("every reading in its windows", |_| has_every_reading(&servers.schema));
    agree_with_the_truth(&by_psql(&servers.schema), &data);
    slow_readings_agree(&servers.schema, &data);
    workers.into_iter().for_each(Up::stop);
    run(&folder.path().join("archive-0"), &["audit", "archive"], 0);
}
