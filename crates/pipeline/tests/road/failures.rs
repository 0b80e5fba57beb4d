//! Each known way of losing data that this road can have, by name, and the promises of its ends one by one.

use std::{sync::Arc, time::Duration};

use mantis_pipeline::{Limits, Reading, Snapshot, State as RoadState, TopicPartition};
use tokio::time::{Instant, sleep};

use crate::world::{Chances, Fate, Keeps, Plain, Row, Sent, Worker, World, small_limits};

/// One partition, one worker that is not started yet, and nothing that fails.
struct Scene {
    world: Arc<World>,
    a: TopicPartition,
}

impl Scene {
    fn new(keeps: Keeps) -> Self {
        Self::with(keeps, small_limits(1))
    }

    fn with(keeps: Keeps, limits: Limits) -> Self {
        let world = World::new(1, &[("a", 1), ("b", 1)], limits, keeps, Chances::default());
        Self { world, a: TopicPartition::new("a", 0) }
    }

    fn worker(&self) -> Worker {
        Worker::start(&self.world, Plain)
    }

    /// Sends `count` good records; keys and values count from `from`.
    fn produce(&self, from: u64, count: u64) {
        for number in from..from + count {
            self.world.produce(&self.a, Sent::stored(number, number), 0);
        }
    }

    fn committed(&self) -> Option<i64> {
        self.world.state().group.committed.get(&self.a).copied()
    }

    fn has(&self, key: u64) -> bool {
        self.world.state().store.contains_key(&key)
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !holds() {
            assert!(Instant::now() < deadline, "in 120 s it did not come to this: {what}");
            self.world.check_now().unwrap();
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_committed(&self, offset: i64) {
        self.until(&format!("{offset} is committed"), || self.committed() == Some(offset)).await;
    }

    async fn ends_well(&self, worker: Worker) {
        worker.stop().await.unwrap();
        sleep(Duration::from_secs(20)).await;
        self.world.check_at_rest(true).unwrap();
    }
}

fn partition(snapshot: &Snapshot) -> mantis_pipeline::PartitionStatus {
    snapshot.topics["a"].partitions[&0].clone()
}

fn row(key: u64, fate: Fate) -> Row {
    Row { key, value: key, fate }
}

/// data-loss bug #1, data-loss bug #15
#[tokio::test(start_paused = true)]
async fn an_offset_is_not_committed_while_its_write_is_under_way() {
    let scene = Scene::new(Keeps::Nothing);
    scene.world.state().chances.write_stall = 1_000;
    scene.produce(0, 5);
    let worker = scene.worker();
    scene.until("a write is under way", || !scene.world.state().writes.is_empty()).await;
    scene.until("it has landed", || scene.has(0)).await;
    let began = scene.world.state().writes[0].0;
    assert!(began.elapsed() > Duration::from_millis(500), "the write took no time, so nothing was shown");
    scene.until_committed(5).await;
    scene.ends_well(worker).await;
}

/// data-loss bug #2
#[tokio::test(start_paused = true)]
async fn nothing_behind_a_batch_that_fails_is_committed() {
    let scene = Scene::new(Keeps::Nothing);
    let worker = scene.worker();
    scene.until("it reads", || scene.committed() == Some(0)).await;
    scene.world.state().store_down_until = Some(Instant::now() + Duration::from_secs(30));
    scene.produce(0, 100);
    scene.until("writes fail", || worker.status.snapshot().state == RoadState::Retrying).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(scene.committed(), Some(0));
    scene.until_committed(100).await;
    scene.ends_well(worker).await;
}

/// data-loss bug #4
#[tokio::test(start_paused = true)]
async fn refused_credentials_pause_the_worker_and_nothing_is_treated_as_done() {
    let scene = Scene::new(Keeps::Nothing);
    let worker = scene.worker();
    scene.world.state().credentials_wrong = true;
    scene.produce(0, 50);
    // The start position needs the store too.
    scene.until("it says that it is paused", || worker.status.snapshot().state == RoadState::Paused).await;
    sleep(Duration::from_secs(60)).await;
    let snapshot = worker.status.snapshot();
    let trouble = snapshot.troubles.values().next().unwrap();
    assert!(trouble.error.contains("401") && trouble.attempts > 1, "{trouble:?}");
    assert_eq!(scene.committed().unwrap_or(0), 0);
    scene.world.state().credentials_wrong = false;
    scene.until_committed(50).await;
    assert_eq!(worker.status.snapshot().state, RoadState::Running);
    scene.ends_well(worker).await;
}

/// data-loss bug #5, data-loss bug #16
#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_decoded_is_dead_lettered_before_it_is_committed_and_its_batch_goes_on() {
    let scene = Scene::new(Keeps::Ledger);
    scene.produce(0, 1);
    let offset = scene.world.produce(&scene.a, Sent::unreadable(7), 0);
    scene.produce(10, 1);
    scene.world.state().letters_down_until = Some(Instant::now() + Duration::from_secs(20));
    let worker = scene.worker();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.committed(), Some(0), "the dead letter is not durable yet");
    scene.until_committed(3).await;
    assert!(scene.world.state().whole_letters.contains(&(scene.a.clone(), offset)));
    assert!(scene.has(0) && scene.has(10));
    let account = partition(&worker.status.snapshot());
    assert_eq!((account.records_rejected, account.dead_letters, account.rows_stored), (1, 1, 2));
    scene.ends_well(worker).await;
}

/// data-loss bug #6
#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_does_not_fit_makes_its_lane_wait_and_others_go_on() {
    let mut limits = small_limits(1);
    limits.held_bytes_max = 6_000;
    let scene = Scene::with(Keeps::Nothing, limits);
    scene.world.state().letters_down_until = Some(Instant::now() + Duration::from_secs(60));
    scene.world.produce(&scene.a, Sent::unreadable(7), 0);
    scene.produce(0, 200);
    let b = TopicPartition::new("b", 0);
    let worker = scene.worker();
    for number in 0..40 {
        scene.world.produce(&b, Sent::stored(1_000 + number, 1_000 + number), 0);
        sleep(Duration::from_millis(500)).await;
    }
    scene.until("the other topic is committed", || scene.world.state().group.committed.get(&b) == Some(&40)).await;
    assert_eq!(scene.committed(), Some(0));
    assert!(worker.status.snapshot().troubles.contains_key("a#0"));
    scene.until_committed(201).await;
    scene.ends_well(worker).await;
}

/// data-loss bug #7
#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_memory_is_bounded_nothing_is_dropped_and_rebalances_are_answered() {
    let scene = Scene::new(Keeps::Nothing);
    let worker = scene.worker();
    scene.until("it reads", || scene.committed() == Some(0)).await;
    scene.world.state().store_down_until = Some(Instant::now() + Duration::from_secs(90));
    scene.produce(0, 2_000);
    sleep(Duration::from_secs(30)).await;
    let held = worker.status.snapshot().held_bytes;
    assert!(held > 0 && held < 4 * scene.world.limits.held_bytes_max, "{held} bytes are held");
    let other = scene.worker();
    scene
        .until("the other worker is given a partition", || !scene.world.state().group.members[&other.number].owned.is_empty())
        .await;
    scene.until_committed(2_000).await;
    other.stop().await.unwrap();
    scene.ends_well(worker).await;
}

/// data-loss bug #8
#[tokio::test(start_paused = true)]
async fn a_write_that_outlives_a_revocation_commits_nothing_for_the_next_ownership() {
    let scene = Scene::new(Keeps::Nothing);
    let worker = scene.worker();
    scene.until("it reads", || scene.committed() == Some(0)).await;
    scene.world.state().chances.write_stall = 1_000;
    for from in 0..20 {
        scene.produce(from * 10, 10);
        scene.world.rebalance(true);
        sleep(Duration::from_millis(700)).await;
    }
    scene.world.heal();
    scene.until_committed(200).await;
    scene.ends_well(worker).await;
}

/// data-loss bug #9
#[tokio::test(start_paused = true)]
async fn a_write_under_way_at_a_revocation_is_waited_for_and_committed() {
    let mut limits = small_limits(1);
    (limits.release_wait_ms, limits.commit_interval_ms) = (10_000, 60_000);
    let scene = Scene::with(Keeps::Nothing, limits);
    scene.world.state().chances.write_stall = 1_000;
    scene.produce(0, 5);
    let worker = scene.worker();
    scene.until("a write is under way", || !scene.world.state().writes.is_empty()).await;
    scene.world.rebalance(true);
    scene.until_committed(5).await;
    assert_eq!(scene.world.state().writes.len(), 1, "nothing was written twice");
    scene.ends_well(worker).await;
}

/// data-loss bug #17
#[tokio::test(start_paused = true)]
async fn a_write_that_was_taken_in_part_loses_neither_the_good_rows_nor_the_refused_ones() {
    let scene = Scene::new(Keeps::Ledger);
    let fates = [Fate::BadRow, Fate::Stored, Fate::Rejected, Fate::BadRow, Fate::Poison, Fate::Stored];
    let rows = fates.iter().enumerate().map(|(number, fate)| row(number as u64, *fate)).collect();
    let offset = scene.world.produce(&scene.a, Sent::rows(rows), 0);
    let worker = scene.worker();
    scene.until_committed(1).await;
    let refused: Vec<u32> = scene.world.state().letters[&(scene.a.clone(), offset)].iter().copied().collect();
    assert_eq!(refused, [0, 2, 3, 4]);
    assert!(scene.has(1) && scene.has(5));
    let account = partition(&worker.status.snapshot());
    assert_eq!((account.rows_in, account.rows_stored, account.rows_rejected, account.dead_letters), (6, 2, 4, 1));
    assert_eq!(scene.world.state().ledger[&scene.a], 1);
    scene.ends_well(worker).await;
}

/// data-loss bug #18
#[tokio::test(start_paused = true)]
async fn a_row_that_the_store_never_takes_does_not_block_the_rows_behind_it_and_costs_few_writes() {
    let mut limits = small_limits(1);
    (limits.rows_max, limits.bytes_max, limits.linger_ms) = (64, 1 << 20, 1_000);
    limits.held_bytes_max = 1 << 20;
    let scene = Scene::with(Keeps::Nothing, limits);
    let rows = (0..64).map(|key| row(key, if key == 37 { Fate::Poison } else { Fate::Stored })).collect();
    scene.world.produce(&scene.a, Sent::rows(rows), 0);
    scene.produce(100, 1);
    let worker = scene.worker();
    scene.until_committed(2).await;
    assert!((0..64).all(|key| scene.has(key) == (key != 37)));
    let writes = scene.world.state().writes.iter().filter(|(_, _, rows)| rows.end <= 64).count();
    // 64 rows, then twice each of log2(64) = 6 halvings; and the record behind them.
    assert!(writes <= 2 * 6 + 1 + 1, "{writes} writes");
    scene.ends_well(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_throttles_is_left_alone_as_long_as_it_asks() {
    let scene = Scene::new(Keeps::Nothing);
    let worker = scene.worker();
    scene.until("it reads", || scene.committed() == Some(0)).await;
    scene.world.state().chances.throttle = 1_000;
    // The poison row makes the road halve its batch between the refusals to serve.
    let rows = (0..8).map(|key| row(key, if key == 3 { Fate::Poison } else { Fate::Stored })).collect();
    scene.world.produce(&scene.a, Sent::rows(rows), 0);
    scene.until("it was throttled ten times", || scene.world.state().writes.len() == 10).await;
    for pair in scene.world.state().writes.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= Duration::from_millis(700), "it asked for 700 ms");
    }
    scene.world.heal();
    scene.until_committed(1).await;
    scene.ends_well(worker).await;
}

/// data-loss bug #19
#[tokio::test(start_paused = true)]
async fn of_two_readings_with_one_identity_the_last_by_offset_is_kept_and_both_are_counted() {
    let scene = Scene::new(Keeps::FencedLedger);
    for value in [5, 5, 9, 7] {
        scene.world.produce(&scene.a, Sent::stored(1, value), 0);
    }
    let worker = scene.worker();
    scene.until_committed(4).await;
    assert_eq!(scene.world.state().store[&1], 7);
    let topic = worker.status.snapshot().topics["a"].clone();
    assert_eq!((topic.written, topic.duplicates, topic.conflicts), (1, 1, 2));
    scene.ends_well(worker).await;
}

/// data-loss bug #20
#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_not_applied_twice_by_a_store_with_a_ledger() {
    let scene = Scene::new(Keeps::Ledger);
    let worker = scene.worker();
    scene.until("it reads", || scene.committed() == Some(0)).await;
    scene.world.state().chances.write_ambiguous = 1_000;
    scene.produce(0, 5);
    scene.until("the ledger is ahead", || scene.world.state().ledger[&scene.a] == 5).await;
    scene.world.heal();
    scene.until_committed(5).await;
    assert_eq!(scene.world.state().rows_applied, 5);
    scene.ends_well(worker).await;
}

/// data-loss bug #21
#[tokio::test(start_paused = true)]
async fn a_shutdown_writes_and_commits_what_was_read() {
    let mut limits = small_limits(1);
    (limits.linger_ms, limits.commit_interval_ms) = (3_600_000, 3_600_000);
    let scene = Scene::with(Keeps::Nothing, limits);
    scene.produce(0, 5);
    scene.world.produce(&scene.a, Sent::unreadable(1), 0);
    let worker = scene.worker();
    scene
        .until("all of it is read", || worker.status.snapshot().topics.get("a").is_some_and(|a| a.partitions[&0].records_in == 6))
        .await;
    assert!(!scene.has(0), "it waits for company");
    scene.ends_well(worker).await;
    assert_eq!(scene.committed(), Some(6));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_while_the_store_is_down_keeps_to_its_bound_and_commits_nothing_that_is_not_stored() {
    let scene = Scene::new(Keeps::Nothing);
    let worker = scene.worker();
    scene.until("it reads", || scene.committed() == Some(0)).await;
    scene.world.state().store_down_until = Some(Instant::now() + Duration::from_secs(3_600));
    scene.produce(0, 100);
    scene.until("writes fail", || worker.status.snapshot().state == RoadState::Retrying).await;
    let began = Instant::now();
    worker.stop().await.unwrap();
    assert!(began.elapsed() <= Duration::from_millis(scene.world.limits.shutdown_wait_ms + 100), "{:?}", began.elapsed());
    assert_eq!(scene.committed(), Some(0));
    scene.world.heal();
    let next = scene.worker();
    scene.until_committed(100).await;
    scene.ends_well(next).await;
}

/// data-loss bug #22
#[tokio::test(start_paused = true)]
async fn records_that_were_removed_unread_are_a_counted_gap_and_reading_goes_on_behind_it() {
    for keeps in [Keeps::Nothing, Keeps::Ledger] {
        let scene = Scene::new(keeps);
        scene.produce(0, 50);
        scene.world.remove_before(&scene.a, 30);
        scene.world.state().group.committed.insert(scene.a.clone(), 10);
        scene.world.state().ledger.insert(scene.a.clone(), 10);
        let worker = scene.worker();
        scene.until_committed(50).await;
        let account = partition(&worker.status.snapshot());
        assert_eq!((account.gap_offsets, account.last_gap), (20, Some((10, 30))), "{keeps:?}");
        assert!(!scene.has(29) && scene.has(30));
        worker.stop().await.unwrap();
    }
}

/// data-loss bug #22
#[tokio::test(start_paused = true)]
async fn a_partition_whose_position_lies_behind_the_logs_end_is_not_read_and_says_why() {
    for keeps in [Keeps::Nothing, Keeps::Ledger] {
        let scene = Scene::new(keeps);
        scene.produce(0, 5);
        scene.world.state().group.committed.insert(scene.a.clone(), 900);
        scene.world.state().ledger.insert(scene.a.clone(), 900);
        let worker = scene.worker();
        let b = TopicPartition::new("b", 0);
        scene.world.produce(&b, Sent::stored(77, 77), 0);
        scene.until("the other partition is read", || scene.has(77)).await;
        let Reading::Stopped(reason) = partition(&worker.status.snapshot()).reading else { panic!("{keeps:?}: it is read") };
        assert!(reason.contains("900") && reason.contains("ends at 5"), "{reason}");
        assert!(!scene.has(0));
        assert_eq!(scene.committed(), Some(900), "nobody touched it");
        worker.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_cannot_be_read_for_now_is_a_trouble_by_its_name_until_it_is_read_or_given_up() {
    let scene = Scene::new(Keeps::Nothing);
    let damage = |damaged: bool| {
        let mut state = scene.world.state();
        let log = state.logs.get_mut(&scene.a).unwrap();
        (log.damaged, log.damage_told) = (damaged, false);
        drop(state);
        scene.world.changed.notify_waiters();
    };
    damage(true);
    scene.produce(0, 5);
    let worker = scene.worker();
    let trouble = || worker.status.snapshot().troubles.get("a/0").map(|trouble| trouble.error.clone());
    scene.until("it is told", || trouble().is_some()).await;
    assert_eq!(trouble().as_deref(), Some("a/0 is damaged"));
    assert_eq!(worker.status.snapshot().state, RoadState::Retrying);
    let b = TopicPartition::new("b", 0);
    scene.world.produce(&b, Sent::stored(77, 77), 0);
    scene.until("the other partition is read", || scene.has(77)).await;
    assert!(trouble().is_some() && !scene.has(0));
    damage(false);
    scene.until_committed(5).await;
    assert_eq!((trouble(), worker.status.snapshot().state), (None, RoadState::Running));

    damage(true);
    scene.until("it is told again", || trouble().is_some()).await;
    scene.world.state().group.members.values_mut().for_each(|member| member.lost_untold.push(scene.a.clone()));
    scene.world.changed.notify_waiters();
    scene.until("it is given up", || trouble().is_none()).await;
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_takes_over_for_an_ownership_that_has_ended_meanwhile_is_released_before_the_next_one() {
    let scene = Scene::new(Keeps::Nothing);
    // The sink takes its time.
    scene.world.state().chances.write_stall = 1_000;
    let worker = scene.worker();
    let reads = |reading: Reading| {
        let status = worker.status.snapshot();
        status.topics.contains_key("a") && partition(&status).reading == reading
    };
    scene.until("the sink is asked", || reads(Reading::Starting)).await;
    scene.world.fence(worker.number);
    scene.until("it is owned again and read", || reads(Reading::Reading)).await;
    assert_eq!(scene.world.state().taken_over[&(worker.number, scene.a.clone())], 1);
    scene.world.heal();
    scene.ends_well(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_ahead_of_the_commit_is_where_reading_starts_and_the_commit_follows() {
    let scene = Scene::new(Keeps::Ledger);
    scene.produce(0, 20);
    scene.world.state().group.committed.insert(scene.a.clone(), 5);
    scene.world.state().ledger.insert(scene.a.clone(), 20);
    scene.world.state().store.extend((0..20).map(|number| (number, number)));
    let worker = scene.worker();
    scene.until_committed(20).await;
    assert_eq!(scene.world.state().rows_applied, 0);
    scene.ends_well(worker).await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_behind_the_commit_is_where_reading_starts_and_nothing_is_missing_afterwards() {
    let scene = Scene::new(Keeps::Ledger);
    scene.produce(0, 20);
    scene.world.state().group.committed.insert(scene.a.clone(), 15);
    scene.world.state().ledger.insert(scene.a.clone(), 5);
    scene.world.state().store.extend((0..5).map(|number| (number, number)));
    let worker = scene.worker();
    scene.until_committed(20).await;
    assert_eq!(scene.world.state().rows_applied, 15);
    scene.ends_well(worker).await;
}

/// data-loss bug #24
#[tokio::test(start_paused = true)]
async fn offsets_without_records_do_not_stall_progress() {
    for keeps in [Keeps::Nothing, Keeps::Ledger] {
        let scene = Scene::new(keeps);
        for number in 0..30 {
            scene.world.produce(&scene.a, Sent::stored(number, number), (number % 4) as i64);
        }
        scene.world.produce(&scene.a, Sent::tombstone(), 3);
        let end = scene.world.state().logs[&scene.a].end;
        let worker = scene.worker();
        scene.until_committed(end).await;
        scene.ends_well(worker).await;
    }
}

/// data-loss bug #25
#[tokio::test(start_paused = true)]
async fn a_row_that_the_decoder_refuses_is_dead_lettered_and_its_record_goes_on() {
    let scene = Scene::new(Keeps::Nothing);
    let offset =
        scene.world.produce(&scene.a, Sent::rows(vec![row(1, Fate::Stored), row(2, Fate::BadRow), row(3, Fate::Stored)]), 0);
    let worker = scene.worker();
    scene.until_committed(1).await;
    assert!(scene.world.state().letters[&(scene.a.clone(), offset)].contains(&1));
    assert!(scene.has(1) && scene.has(3) && !scene.has(2));
    scene.ends_well(worker).await;
}
