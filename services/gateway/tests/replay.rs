//! Replays to a producer in memory: deliveries, resumption, trouble, pace.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    future::{Future, pending, ready},
    path::PathBuf,
    pin::Pin,
    sync::Mutex,
    time::Duration,
};

use mantis_gateway::{
    Account, Error, Format, Mapping, Message, Pace, Progress, Publish, PublishError, Recording, ReplayOptions, replay,
};
use mantis_schemas::topics;
use proptest::prelude::*;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const MAPPING: &str = "asset = 'm{machine}'\n[time]\nvalue = '{t}'\nformat = 's'\n[sensors]\nx = {}\ny = {}\n";

/// What becomes of the message with this number.
#[derive(Clone, Copy)]
enum Fate {
    Delivered,
    GivenUp,
    Refused,
    Silence,
    /// The replay is told to stop, and the message is not acknowledged.
    Stop,
}

struct Memory<F> {
    taken: Mutex<Vec<Message>>,
    fate: F,
    stop: CancellationToken,
}

impl<F: Fn(usize) -> Fate + Send + Sync> Memory<F> {
    fn new(fate: F) -> Self {
        Self { taken: Mutex::default(), fate, stop: CancellationToken::new() }
    }

    fn payloads(&self) -> Vec<Vec<u8>> {
        self.taken.lock().unwrap().iter().map(|message| message.payload.clone()).collect()
    }
}

impl<F: Fn(usize) -> Fate + Send + Sync> Publish for Memory<F> {
    type Delivery = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send>>;

    async fn publish(&self, message: &Message) -> Result<Self::Delivery, PublishError> {
        let mut taken = self.taken.lock().unwrap();
        let fate = (self.fate)(taken.len());
        taken.push(message.clone());
        Ok(match fate {
            Fate::Delivered => Box::pin(ready(Ok(()))),
            Fate::GivenUp => Box::pin(ready(Err(PublishError::Retry("timed out".into())))),
            Fate::Refused => Box::pin(ready(Err(PublishError::Fatal("too large".into())))),
            Fate::Silence => Box::pin(pending()),
            Fate::Stop => {
                self.stop.cancel();
                Box::pin(pending())
            }
        })
    }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new(rows: usize) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write(&(0..rows).map(|row| format!("{},{},{row},0.5\n", row % 3, row * 10)).collect::<String>());
        place
    }

    fn write(&self, rows: &str) {
        std::fs::write(self.file(), format!("machine,t,x,y\n{rows}")).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("a.csv")
    }

    fn progress_folder(&self) -> PathBuf {
        self.0.path().join("replay")
    }

    fn options(&self) -> ReplayOptions {
        ReplayOptions {
            pace: Pace::Fast,
            progress_folder: Some(self.progress_folder()),
            target: "cluster".into(),
            restart: false,
            wait_max: Some(Duration::from_secs(30)),
        }
    }

    fn recording(&self, batch: usize) -> Recording {
        Recording::open(Mapping::parse(MAPPING, "m.toml").unwrap(), &[self.file()], batch, Format::Json).unwrap()
    }

    async fn replay<F: Fn(usize) -> Fate + Send + Sync>(&self, batch: usize, memory: &Memory<F>) -> Result<Account, Error> {
        replay(self.recording(batch), memory, &self.options(), &memory.stop, &mut |_| {}).await
    }
}

#[tokio::test(start_paused = true)]
async fn every_reading_is_published_once_in_order_under_its_asset_and_counted() {
    let place = Place::new(1_000);
    let memory = Memory::new(|_| Fate::Delivered);
    let account = place.replay(1, &memory).await.unwrap();
    assert_eq!((account.read.rows, account.read.readings, account.messages), (1_000, 2_000, 2_000));
    assert_eq!((account.acknowledged, account.acknowledged_readings, account.repeated), (2_000, 2_000, 0));
    assert_eq!((account.bytes_read, account.interrupted), (account.bytes, false));
    let taken = memory.taken.lock().unwrap();
    let first = String::from_utf8(taken[0].payload.clone()).unwrap();
    assert_eq!(first, r#"{"asset":"m0","sensor":"x","time_ns":0,"value":0.0,"seq":0}"#);
    assert_eq!((taken[0].topic, &*taken[0].key), (topics::READINGS, "m0"));
    assert!(taken[0].source.ends_with("/a.csv:2"), "{}", taken[0].source);
    let last = String::from_utf8(taken[1_999].payload.clone()).unwrap();
    assert_eq!(last, r#"{"asset":"m0","sensor":"y","time_ns":9990000000000,"value":0.5,"seq":333}"#);
    assert!(taken.is_sorted_by_key(|message| message.due_ns));
    assert_eq!(std::fs::read_dir(place.progress_folder()).unwrap().count(), 0, "a finished replay keeps no progress");
}

/// data-loss bug #21: a delivery report is never ignored.
#[tokio::test(start_paused = true)]
async fn a_message_whose_delivery_was_given_up_is_sent_again() {
    let place = Place::new(50);
    let memory = Memory::new(|number| if number % 7 == 3 { Fate::GivenUp } else { Fate::Delivered });
    let started = Instant::now();
    let account = place.replay(1, &memory).await.unwrap();
    assert_eq!((account.messages, account.acknowledged), (100, 100));
    assert!(account.repeated > 10);
    assert!(started.elapsed() < Duration::from_secs(1), "they do not wait one by one: {:?}", started.elapsed());
    let mut payloads = memory.payloads();
    assert_eq!(payloads.len() as u64, 100 + account.repeated);
    payloads.sort();
    payloads.dedup();
    assert_eq!(payloads.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_broker_refuses_stops_the_replay_by_name_and_the_next_goes_on_with_it() {
    let place = Place::new(50);
    let refusing = Memory::new(|number| if number == 20 { Fate::Refused } else { Fate::Delivered });
    let error = place.replay(1, &refusing).await.unwrap_err().to_string();
    assert!(error.contains("a.csv:12") && error.contains("too large"), "{error}");
    let memory = Memory::new(|_| Fate::Delivered);
    let account = place.replay(1, &memory).await.unwrap();
    assert_eq!((account.resumed_messages, account.acknowledged, account.read.readings), (20, 80, 100));
    assert!(account.resumed_from.unwrap().ends_with("a.csv:12"));
    assert_eq!(memory.payloads()[0], refusing.payloads()[20]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_waited_for_and_told_of_up_to_the_bound() {
    let place = Place::new(10);
    let memory = Memory::new(|number| if number < 3 { Fate::Delivered } else { Fate::Silence });
    let mut waits = Vec::new();
    let started = Instant::now();
    let told = &mut |progress: Progress<'_>| {
        if let Progress::Waiting { waited, .. } = progress {
            waits.push(waited.as_secs());
        }
    };
    let error = replay(place.recording(1), &memory, &place.options(), &memory.stop, told).await.unwrap_err();
    assert!(matches!(error, Error::Stalled { waited_s: 30, .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(40));
    assert_eq!(waits, [2, 12, 22]);
    let account = place.replay(1, &Memory::new(|_| Fate::Delivered)).await.unwrap();
    assert_eq!((account.resumed_messages, account.acknowledged), (3, 17));
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_changed_is_not_resumed_unless_it_is_restarted() {
    let place = Place::new(50);
    let memory = Memory::new(|number| if number == 20 { Fate::Stop } else { Fate::Delivered });
    assert!(place.replay(1, &memory).await.unwrap().interrupted);
    place.write("0,1,2,3\n");
    let error = place.replay(1, &Memory::new(|_| Fate::Delivered)).await.unwrap_err();
    assert!(matches!(&error, Error::Changed { what, .. } if what.ends_with("a.csv")), "{error}");
    let options = ReplayOptions { restart: true, ..place.options() };
    let memory = Memory::new(|_| Fate::Delivered);
    let account = replay(place.recording(1), &memory, &options, &memory.stop, &mut |_| {}).await.unwrap();
    assert_eq!((account.resumed_messages, account.acknowledged), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_that_of_the_recording_times_the_speed() {
    let place = Place::new(31);
    let options = ReplayOptions { pace: Pace::Times(2.0), wait_max: None, ..place.options() };
    let memory = Memory::new(|_| Fate::Delivered);
    let started = Instant::now();
    let account = replay(place.recording(1), &memory, &options, &memory.stop, &mut |_| {}).await.unwrap();
    assert_eq!(account.acknowledged, 62);
    // 31 rows, 10 s from one to the next, at twice the speed.
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(150) && took < Duration::from_secs(151), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn assets_that_follow_one_another_in_a_file_are_each_played_at_their_pace() {
    let place = Place::new(0);
    place.write("0,0,1,\n0,100,2,\n1,0,1,\n1,100,2,\n");
    let options = ReplayOptions { pace: Pace::Times(1.0), ..place.options() };
    let memory = Memory::new(|_| Fate::Delivered);
    let started = Instant::now();
    replay(place.recording(1), &memory, &options, &memory.stop, &mut |_| {}).await.unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(200) && took < Duration::from_secs(201), "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Stopped at any message, any number of times, with any batch size: the messages that were acknowledged before it
    /// are left out, all others come, and each is byte for byte what an undisturbed replay sends.
    #[test]
    fn a_replay_that_is_stopped_anywhere_goes_on_without_a_gap(rows in 1usize..80, batch in 1usize..9, steps in prop::collection::vec(0usize..40, 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let place = Place::new(rows);
            let whole = Memory::new(|_| Fate::Delivered);
            place.replay(batch, &whole).await.unwrap();
            let whole = whole.payloads();
            let mut acknowledged = 0;
            for step in steps {
                let memory = Memory::new(|number| if number == step { Fate::Stop } else { Fate::Delivered });
                let account = place.replay(batch, &memory).await.unwrap();
                prop_assert_eq!(account.resumed_messages as usize, acknowledged);
                prop_assert_eq!(memory.payloads(), whole[acknowledged..(acknowledged + step + 1).min(whole.len())].to_vec());
                if !account.interrupted {
                    prop_assert_eq!(acknowledged + account.acknowledged as usize, whole.len());
                    return Ok(());
                }
                prop_assert_eq!(account.acknowledged as usize, step);
                acknowledged += step;
            }
            let memory = Memory::new(|_| Fate::Delivered);
            let account = place.replay(batch, &memory).await.unwrap();
            prop_assert_eq!(memory.payloads(), whole[acknowledged..].to_vec());
            prop_assert_eq!(account.read.readings as usize, 2 * rows);
            Ok(())
        })?;
    }
}
