//! The archive worker against the embedded broker: what was acknowledged is in the archive, whoever crashes.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{path::Path, sync::Arc, time::Duration};

use mantis_broker::{Broker, Config};
use mantis_kafka::{Admin, ClientConfig, NewTopic, OutRecord, Producer, Reader};
use mantis_pipeline::{Limits, RecordBatch, Shutdown, Status, TopicPartition};
use mantis_schemas::{DecoderConfig, SeriesInterner, SeriesTable, topics};
use mantis_stores::archive::{
    ArchiveStore,
    chain::{self, ChainConfig},
    columns::{ArchiveRows, Decoded, Kind},
    folder::FolderArchive,
    gaps, key,
    object::{self, Digest, Head},
    scan::{self, Rows},
};
use mantis_workers::{
    WorkerError,
    archive::{ArchiveDecoder, Worker, Wrong, topics, verify},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{sleep, timeout},
};

const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const PARTITIONS: i32 = 2;
const LONG_MS: u64 = 600_000;

struct Plant {
    client: ClientConfig,
    cluster_id: String,
    folder: TempDir,
    stop: Shutdown,
}

impl Plant {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these settings of its topics.
    async fn with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(folder.path().join("broker"));
        (config.min_free_bytes, config.sweep_interval_ms) = (0, 50);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = ClientConfig::new(listener.local_addr().unwrap().to_string());
        let broker = Broker::open(config).await.unwrap();
        let (cluster_id, stop) = (broker.cluster_id().to_owned(), Shutdown::new());
        tokio::spawn(broker.serve(listener, stop.clone()));
        let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let topic = |name| NewTopic { name, partitions: PARTITIONS, settings: settings.clone() };
        Admin::new(&client).unwrap().create_topics(&topics().into_iter().map(topic).collect::<Vec<_>>()).await.unwrap();
        Self { client, cluster_id, folder, stop }
    }

    fn archive(&self) -> FolderArchive {
        FolderArchive::reader(self.folder.path().join("archive"))
    }

    /// Cuts at 300 rows, or after a while.
    fn worker(&self, stop: &Shutdown, age_ms_max: u64) -> JoinHandle<Result<(), WorkerError>> {
        let worker = Worker {
            client: self.client.clone(),
            store: FolderArchive::open(self.folder.path().join("archive")).unwrap(),
            chain: ChainConfig { rows_max: 300, age_ms_max, ..ChainConfig::new(self.cluster_id.clone()) },
            decoder: ArchiveDecoder::new(DecoderConfig::default()).unwrap(),
            limits: Limits { rows_max: 50, commit_interval_ms: 50, ..Limits::default() },
            status: Arc::new(Status::default()),
        };
        tokio::spawn(worker.run(stop.clone()))
    }

    /// Sends readings `numbers` to partition 0, every tenth of them broken, and each also as a dead letter.
    async fn produce(&self, numbers: std::ops::Range<i64>) {
        let mut client = self.client.clone();
        // What a segment holds is then foreseeable.
        client.properties.insert("compression.type".into(), "none".into());
        let producer = Producer::new(&client).unwrap();
        let reading = |number: i64| match number % 10 {
            9 => format!("broken {number}"),
            _ => format!(r#"{{"asset":"pump","sensor":"flow","time_ns":{},"value":{number}}}"#, time(number)),
        };
        let records = numbers.flat_map(|number| {
            [topics::READINGS.to_owned(), topics::dead_letter(topics::READINGS)].map(|topic| OutRecord {
                topic: topic.into(),
                partition: Some(0),
                key: Some(b"pump".to_vec()),
                payload: Some(reading(number).into_bytes()),
                ..OutRecord::default()
            })
        });
        for sent in producer.send_all(&records.collect::<Vec<_>>()).await {
            sent.unwrap();
        }
        producer.close().await.unwrap();
    }

    /// As retention does, in partition 0 of the readings.
    async fn remove_before(&self, offset: i64) {
        Admin::new(&self.client).unwrap().delete_records(&readings(), offset).await.unwrap();
    }

    /// Waits until compaction can take nothing more: what is left are `records` at most, without a gap. The offset of the first.
    async fn compacted_to(&self, records: usize, end: i64) -> i64 {
        let compacted = async {
            loop {
                let (mut offsets, mut reader) = (Vec::new(), Reader::open(&self.client, readings(), 0, end).unwrap());
                while let Some(batch) = reader.next().await.unwrap() {
                    offsets.extend((0..batch.len()).map(|index| batch.record(index).offset));
                }
                if offsets.len() <= records && offsets[0] + offsets.len() as i64 == end {
                    return offsets[0];
                }
            }
        };
        timeout(DEADLINE, compacted).await.unwrap()
    }

    /// Archives what there is and stops.
    async fn archive_up_to(&self, end: i64) {
        let stop = Shutdown::new();
        let worker = self.worker(&stop, 100);
        self.until_archived(end).await;
        stopped(worker, &stop).await.unwrap();
    }

    /// What `verify` finds wrong: what, where, and the sentence; and the positions that are missing in the readings.
    async fn findings(&self) -> (Vec<(Wrong, String, String)>, u64) {
        let report = verify(&self.archive(), Some(&self.client), 100).await.unwrap();
        assert_eq!(report.whole, report.findings.is_empty());
        let missing = report.partitions.iter().filter(|chain| chain.topic == topics::READINGS).map(|chain| chain.missing).sum();
        (report.findings.into_iter().map(|finding| (finding.what, finding.place, finding.detail)).collect(), missing)
    }

    async fn chain_end(&self, topic: &str) -> i64 {
        let partition = TopicPartition::new(topic, 0);
        chain::last(&self.archive(), &self.cluster_id, &partition).await.unwrap().map_or(0, |last| last.end)
    }

    async fn until_archived(&self, end: i64) {
        let arrived = async {
            while self.chain_end(topics::READINGS).await < end {
                sleep(POLL).await;
            }
        };
        timeout(DEADLINE, arrived).await.unwrap();
    }

    /// The values of the readings, and how many records were kept as they are.
    async fn archived(&self, topic: &str) -> (Vec<f64>, usize) {
        let (store, mut series) = (self.archive(), SeriesInterner::new(10));
        let mut rows = Rows::of(&store, &self.cluster_id, TopicPartition::new(topic, 0), 0..i64::MAX);
        let (mut values, mut kept) = (Vec::new(), 0);
        while let Some((_, rows)) = rows.next(&mut series).await.unwrap() {
            kept += rows.originals.len();
            if let Decoded::Readings(readings) = rows.decoded {
                values.extend(readings.value);
            }
        }
        (values, kept)
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn readings() -> TopicPartition {
    TopicPartition::new(topics::READINGS, 0)
}

fn time(number: i64) -> i64 {
    1_600_000_000_000_000_000 + number
}

async fn stopped(worker: JoinHandle<Result<(), WorkerError>>, stop: &Shutdown) -> Result<(), WorkerError> {
    stop.cancel();
    timeout(DEADLINE, worker).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_archived_once_over_crashes_and_a_clean_stop() {
    let plant = Plant::new().await;
    for round in 0..2 {
        plant.produce(round * 1_000..(round + 1) * 1_000).await;
        let worker = plant.worker(&Shutdown::new(), LONG_MS);
        plant.until_archived(round * 1_000 + 300).await;
        // A crash: what was gathered is gone.
        worker.abort();
        let _ = worker.await;
    }
    let stop = Shutdown::new();
    let worker = plant.worker(&stop, LONG_MS);
    plant.until_archived(1_800).await;
    let report = verify(&plant.archive(), Some(&plant.client), 100).await.unwrap();
    assert!(report.whole, "while it works: {report:#?}");
    stopped(worker, &stop).await.unwrap();

    plant.produce(2_000..2_001).await;
    let stop = Shutdown::new();
    let worker = plant.worker(&stop, 100);
    plant.until_archived(2_001).await;
    stopped(worker, &stop).await.unwrap();
    let (values, kept) = plant.archived(topics::READINGS).await;
    let expected: Vec<f64> = (0..2_001).filter(|number| number % 10 != 9).map(f64::from).collect();
    assert_eq!((values, kept), (expected, 200));
    let letters = topics::dead_letter(topics::READINGS);
    assert_eq!(plant.archived(&letters).await.1 as i64, plant.chain_end(&letters).await);
    let report = verify(&plant.archive(), Some(&plant.client), 100).await.unwrap();
    assert!(report.whole, "{report:#?}");
    let compared: u64 = report.partitions.iter().map(|chain| chain.log.as_ref().unwrap().compared).sum();
    assert_eq!(compared, report.partitions.iter().map(|chain| chain.objects).sum::<u64>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_names_what_is_missing_damaged_or_other_than_the_log() {
    let plant = Plant::new().await;
    plant.produce(0..2_000).await;
    let stop = Shutdown::new();
    let worker = plant.worker(&stop, LONG_MS);
    plant.until_archived(1_500).await;
    stopped(worker, &stop).await.unwrap();
    let folder = plant.folder.path().join("archive").join(&plant.cluster_id);
    let objects = files(&folder.join(topics::READINGS).join("0"));
    assert!(objects.len() >= 4, "{objects:?}");
    let found = async || {
        let report = verify(&plant.archive(), Some(&plant.client), 100).await.unwrap();
        assert_eq!(report.whole, report.findings.is_empty());
        report.findings.iter().map(|finding| finding.what).collect::<Vec<_>>()
    };
    assert_eq!(found().await, []);

    let second = std::fs::read(&objects[1]).unwrap();
    std::fs::remove_file(&objects[1]).unwrap();
    assert_eq!(found().await, [Wrong::Hole]);

    let mut damaged = second.clone();
    damaged[100] ^= 1;
    std::fs::write(&objects[1], &damaged).unwrap();
    assert_eq!(found().await, [Wrong::Damaged, Wrong::Hole]);

    std::fs::write(&objects[1], std::fs::read(&objects[2]).unwrap()).unwrap();
    assert!(found().await.contains(&Wrong::Misplaced));

    std::fs::write(&objects[1], &second).unwrap();
    std::fs::write(folder.join("notes.txt"), "hello").unwrap();
    assert_eq!(found().await, [Wrong::Stray]);
    std::fs::remove_file(folder.join("notes.txt")).unwrap();

    objects.iter().skip(1).for_each(|object| std::fs::remove_file(object).unwrap());
    assert_eq!(found().await, [Wrong::CommittedBeyond]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_lists_partitions_of_which_nothing_is_archived_yet() {
    let plant = Plant::new().await;
    plant.produce(0..100).await;
    let report = verify(&plant.archive(), Some(&plant.client), 100).await.unwrap();
    assert!(report.whole, "{report:?}");
    let ends = report.partitions.iter().map(|chain| (&*chain.topic, chain.objects, chain.end, chain.log.as_ref().unwrap().end));
    assert_eq!(ends.collect::<Vec<_>>(), [("mantis.readings", 0, 0, 100), ("mantis.readings.dlq", 0, 0, 100)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_end_of_the_chain_stops_the_worker() {
    let plant = Plant::new().await;
    plant.produce(0..1_000).await;
    let stop = Shutdown::new();
    let worker = plant.worker(&stop, LONG_MS);
    plant.until_archived(600).await;
    stopped(worker, &stop).await.unwrap();
    let folder = plant.folder.path().join("archive").join(&plant.cluster_id).join(topics::READINGS).join("0");
    for object in files(&folder) {
        let mut damaged = std::fs::read(&object).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        std::fs::write(&object, damaged).unwrap();
    }
    let worker = plant.worker(&Shutdown::new(), LONG_MS);
    let ended = timeout(DEADLINE, worker).await.unwrap().unwrap();
    assert!(ended.unwrap_err().to_string().contains("cannot be trusted"));
}

/// data-loss bug #22
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_takes_before_the_worker_reads_it_is_told_by_verify_from_then_on() {
    let plant = Plant::new().await;
    plant.produce(0..500).await;
    plant.archive_up_to(500).await;
    plant.produce(500..1_000).await;
    plant.remove_before(700).await;
    let (found, missing) = plant.findings().await;
    let [(Wrong::MissingRecords, place, detail)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((place.as_str(), missing), ("mantis.readings/0", 0));
    assert!(detail.contains("[500, 700)"), "{detail}");

    plant.archive_up_to(1_000).await;
    let (found, missing) = plant.findings().await;
    let [(Wrong::MissingRecords, place, detail)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((place, missing), (&key::key(&plant.cluster_id, &readings(), 500), 200));
    assert!(detail.contains("[500, 700)"), "{detail}");
    let offline = verify(&plant.archive(), None, 100).await.unwrap();
    assert_eq!(offline.findings.iter().map(|finding| finding.what).collect::<Vec<_>>(), [Wrong::MissingRecords]);
    let expected = (0..500).chain(700..1_000).filter(|number| number % 10 != 9).map(f64::from).collect();
    assert_eq!(plant.archived(topics::READINGS).await, (expected, 80));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_of_which_the_log_shows_that_they_hold_no_record_are_not_wrong_while_it_does() {
    let plant = Plant::with(&[("cleanup.policy", "compact"), ("segment.bytes", "65536")]).await;
    // One key: all goes but for the last segment, which the last batch fills, and the record in front of it.
    for from in (0..1_400).step_by(200) {
        plant.produce(from..from + 200).await;
    }
    plant.produce(1_400..2_000).await;
    let first = plant.compacted_to(601, 2_000).await;
    plant.archive_up_to(2_000).await;
    assert_eq!(plant.findings().await, (vec![], 0));
    let store = plant.archive();
    let object = scan::manifest(&store, &key::key(&plant.cluster_id, &readings(), 0)).await.unwrap();
    assert_eq!((object.missing(), gaps::positions(&object.gaps)), (first as u64, first as u64));

    plant.remove_before(10).await;
    let (found, missing) = plant.findings().await;
    let [(Wrong::MissingRecords, _, detail)] = &found[..] else { panic!("{found:?}") };
    assert!(missing == 10 && detail.contains("[0, 10)"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_the_log_where_an_object_has_none_are_told_though_the_log_has_lost_a_part_of_them() {
    let plant = Plant::new().await;
    plant.produce(0..100).await;
    let head =
        Head { cluster_id: plant.cluster_id.clone(), partition: readings(), start: 0, end: 100, digest: Digest::default() };
    let empty = object::encode(&head, &ArchiveRows::new(Kind::Readings), &SeriesTable::default()).unwrap();
    let store = FolderArchive::open(plant.folder.path().join("archive")).unwrap();
    store.create(&key::key(&plant.cluster_id, &readings(), 0), empty).await.unwrap();
    plant.remove_before(20).await;
    let (found, missing) = plant.findings().await;
    let [(Wrong::OtherRecords, ..), (Wrong::MissingRecords, _, detail)] = &found[..] else { panic!("{found:?}") };
    assert!(missing == 20 && detail.contains("[0, 20)"), "{detail}");
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
