//! One failure at a time.

use std::time::Duration;

use mantis_pipeline::{Fault, Outcome, Part, Shutdown, Sink, Span, TopicPartition};
use mantis_stores::archive::{
    chain::ChainConfig,
    columns::{ArchiveColumns, Kind},
};

use super::world::{Fate, Log, Memory, Worker, partition, wide};

fn log() -> Log {
    Log::new(100, |_| false)
}

/// data-loss bug #14: the zombie's object would have fewer records than the one that is there.
#[tokio::test]
async fn a_zombie_with_less_data_changes_no_object() {
    let (store, log) = (Memory::new(), log());
    let mut zombie = Worker::start(&store, wide()).await;
    zombie.read(&log, 10).await.unwrap();
    let mut owner = Worker::start(&store, wide()).await;
    owner.read(&log, 40).await.unwrap();
    owner.flush().await.unwrap();
    let before = store.objects.lock().unwrap().clone();
    zombie.flush().await.unwrap();
    assert_eq!(*store.objects.lock().unwrap(), before);
    assert_eq!(zombie.durable(), 0, "the zombie has not seen that the records are the same");
    owner.read(&log, 60).await.unwrap();
    owner.flush().await.unwrap();
    assert_eq!(store.records().await, log.records[..60]);
}

/// data-loss bug #14: it goes on behind what is there, once it has read all of it and found it to be the same.
#[tokio::test]
async fn a_worker_that_finds_more_than_it_read_goes_on_behind_it() {
    let (store, log) = (Memory::new(), log());
    let mut late = Worker::start(&store, wide()).await;
    late.read(&log, 10).await.unwrap();
    let mut early = Worker::start(&store, wide()).await;
    early.read(&log, 40).await.unwrap();
    early.flush().await.unwrap();
    for (to, durable) in [(30, 0), (40, 40), (45, 40)] {
        late.flush().await.unwrap();
        late.read(&log, to).await.unwrap();
        assert_eq!(late.durable(), durable, "read up to {to}");
    }
    late.flush().await.unwrap();
    assert_eq!((late.durable(), store.count()), (45, 2));
    assert_eq!(store.records().await, log.records[..45]);
}

/// data-loss bug #14
#[tokio::test]
async fn a_worker_that_finds_less_than_it_read_goes_on_behind_it() {
    let (store, log) = (Memory::new(), log());
    let mut big = Worker::start(&store, wide()).await;
    big.read(&log, 50).await.unwrap();
    for to in [10, 20, 30] {
        let mut small = Worker::start(&store, wide()).await;
        small.read(&log, to).await.unwrap();
        small.flush().await.unwrap();
    }
    big.flush().await.unwrap();
    assert_eq!((big.durable(), store.count()), (50, 4));
    assert_eq!(store.records().await, log.records[..50]);
}

/// data-loss bug #15
#[tokio::test]
async fn no_position_may_be_committed_before_its_object_is_there() {
    let (store, log) = (Memory::new(), log());
    let mut worker = Worker::start(&store, wide()).await;
    worker.read(&log, 20).await.unwrap();
    assert_eq!(worker.durable(), 0, "nothing was uploaded");
    let closed = store.gate.clone().acquire_many_owned(1_000).await.unwrap();
    let chain = worker.chain.clone();
    let mut flush = tokio::spawn(async move { chain.flush(&[partition()]).await });
    let under_way = tokio::time::timeout(Duration::from_millis(50), &mut flush).await;
    assert!(under_way.is_err(), "the upload is under way");
    assert_eq!(worker.durable(), 0, "the upload is not complete");
    drop(closed);
    flush.await.unwrap().unwrap();
    assert_eq!((worker.durable(), store.end().await), (20, 20));
}

/// data-loss bug #15
#[tokio::test]
async fn an_upload_that_fails_moves_no_position_and_is_done_again() {
    let (store, log) = (Memory::new(), log());
    let mut worker = Worker::start(&store, wide()).await;
    worker.read(&log, 20).await.unwrap();
    for fate in [Fate::Fails, Fate::LandsAndFails] {
        store.set(fate);
        assert!(matches!(worker.flush().await, Err(Fault::Retry { .. })));
        assert_eq!(worker.durable(), 0);
    }
    store.set(Fate::Good);
    worker.flush().await.unwrap();
    assert_eq!((worker.durable(), store.count()), (20, 1));
    assert_eq!(store.records().await, log.records[..20]);
}

#[tokio::test]
async fn other_records_in_the_way_stop_the_worker_and_are_named() {
    let (store, log) = (Memory::new(), log());
    let mut worker = Worker::start(&store, wide()).await;
    let mut others = Worker::start(&store, wide()).await;
    let mut other_log = log.clone();
    other_log.records[3].1 = b"another".to_vec();
    others.read(&other_log, 10).await.unwrap();
    others.flush().await.unwrap();
    for to in [10, 20] {
        // As many, then more than there are.
        worker.read(&log, to).await.ok();
        let Err(Fault::Fatal { reason }) = worker.flush().await else { panic!("the worker went on") };
        assert!(reason.contains("cluster/anything.dlq/0/00000000000000000000.parquet"), "{reason}");
        assert_eq!(worker.durable(), 0);
    }
    assert!(matches!(worker.read(&log, 30).await, Err(Fault::Fatal { .. })), "nothing more is taken");
    assert_eq!(store.count(), 1);
}

#[tokio::test]
async fn other_records_that_reach_further_stop_the_worker_when_it_has_read_as_far() {
    let (store, log) = (Memory::new(), log());
    let mut worker = Worker::start(&store, wide()).await;
    let mut others = Worker::start(&store, wide()).await;
    let mut other_log = log.clone();
    other_log.records[15].1 = b"another".to_vec();
    others.read(&other_log, 20).await.unwrap();
    others.flush().await.unwrap();
    worker.read(&log, 10).await.unwrap();
    worker.flush().await.unwrap();
    assert!(matches!(worker.read(&log, 20).await, Err(Fault::Fatal { .. })));
    assert_eq!(worker.durable(), 0);
}

#[tokio::test]
async fn a_write_that_is_repeated_adds_no_row_twice() {
    let (store, log) = (Memory::new(), log());
    let mut worker = Worker::start(&store, wide()).await;
    for next in [0, 0, 10, 5] {
        worker.next = next;
        worker.read(&log, 20).await.unwrap();
    }
    worker.next = 30;
    worker.read(&log, 40).await.unwrap();
    assert_eq!(worker.next, 20, "what lies between was not read");
    worker.flush().await.unwrap();
    assert_eq!(store.records().await, log.records[..20]);
}

#[tokio::test]
async fn a_worker_that_was_released_drops_what_it_held_and_starts_at_the_chains_end() {
    let (store, log) = (Memory::new(), log());
    let mut worker = Worker::start(&store, wide()).await;
    worker.read(&log, 10).await.unwrap();
    worker.flush().await.unwrap();
    worker.read(&log, 20).await.unwrap();
    worker.chain.release(&[partition()]);
    assert_eq!(worker.chain.held_bytes(), 0);
    assert!(matches!(worker.read(&log, 30).await, Err(Fault::Retry { .. })), "it is not owned");
    worker.assigned().await;
    assert_eq!(worker.next, 10);
    worker.read(&log, 30).await.unwrap();
    worker.flush().await.unwrap();
    assert_eq!(store.records().await, log.records[..30]);
}

#[tokio::test]
async fn positions_without_records_are_covered_too() {
    let (store, log) = (Memory::new(), Log::new(100, |offset| offset % 10 >= 3));
    let mut worker = Worker::start(&store, wide()).await;
    for to in [10, 15, 20, 37, 100] {
        worker.read(&log, to).await.unwrap();
        worker.flush().await.unwrap();
        assert_eq!(store.end().await, to);
    }
    assert_eq!(store.records().await, log.records);
}

#[tokio::test]
async fn while_the_store_is_away_what_is_held_is_bounded_and_nothing_is_dropped() {
    let (store, log) = (Memory::new(), Log::new(2_000, |_| false));
    let mut worker = Worker::start(&store, ChainConfig { rows_max: 10, ..wide() }).await;
    store.set(Fate::Fails);
    let mut refused = 0;
    for _ in 0..1_000 {
        let to = worker.next + 5;
        refused += usize::from(worker.read(&log, to).await.is_err());
    }
    assert!(refused > 900, "{refused}");
    assert!(worker.next <= 30, "{} rows were taken", worker.next);
    store.set(Fate::Good);
    while worker.next < log.end {
        let to = worker.next + 5;
        worker.read(&log, to).await.unwrap();
    }
    worker.flush().await.unwrap();
    assert_eq!(store.records().await, log.records);
}

#[tokio::test]
async fn the_largest_partition_is_cut_when_all_together_hold_too_much() {
    let (store, log) = (Memory::new(), log());
    let one = log.columns(&(0..1)).rows.bytes();
    let mut worker = Worker::start(&store, ChainConfig { held_bytes_max: 20 * one, ..wide() }).await;
    worker.read(&log, 15).await.unwrap();
    assert_eq!(store.count(), 0);
    worker.read(&log, 30).await.unwrap();
    assert_eq!((worker.durable(), worker.chain.held_bytes()), (30, 0));
}

#[tokio::test(start_paused = true)]
async fn a_row_waits_no_longer_than_its_age_and_a_failure_is_tried_again() {
    let (store, log) = (Memory::new(), log());
    let mut worker = Worker::start(&store, ChainConfig { age_ms_max: 60_000, ..wide() }).await;
    let (chain, stop) = (worker.chain.clone(), Shutdown::new());
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { chain.run(stop).await }
    });
    worker.read(&log, 10).await.unwrap();
    tokio::time::sleep(Duration::from_secs(58)).await;
    assert_eq!(worker.durable(), 0);
    store.set(Fate::Fails);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(worker.durable(), 0);
    store.set(Fate::Good);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((worker.durable(), store.count()), (10, 1));
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_batch_of_several_partitions_is_a_defect_and_stops_the_worker() {
    let (store, log) = (Memory::new(), log());
    let worker = Worker::start(&store, wide()).await;
    let columns = log.columns(&(0..4));
    let span = |partition: i32| Span { partition: TopicPartition::new("anything.dlq", partition), from: 0, next: 4 };
    for (spans, rows, last) in [(vec![span(0), span(1)], 0..4, true), (vec![span(0)], 0..2, false), (vec![span(0)], 1..4, true)] {
        let part = Part { columns: &columns, rows, spans: &spans, last };
        assert!(matches!(worker.chain.write(part).await, Err(Fault::Fatal { .. })));
    }
    let part = Part { columns: &columns, rows: 0..4, spans: &[span(0)], last: true };
    assert!(matches!(worker.chain.write(part).await, Ok(Outcome::Ended { written: 4, .. })));
}

#[tokio::test]
async fn the_end_of_a_long_chain_is_found_with_few_lists() {
    let (store, log) = (Memory::new(), Log::new(2_500, |_| false));
    let mut worker = Worker::start(&store, ChainConfig { rows_max: 1, ..wide() }).await;
    for to in [1, 999, 1_000, 1_001, 2_500] {
        while worker.next < to {
            let next = worker.next + 1;
            worker.read(&log, next).await.unwrap();
        }
        worker.flush().await.unwrap();
        worker.assigned().await;
        assert_eq!((worker.next, store.count() as i64), (to, to));
    }
}

#[tokio::test]
async fn an_empty_batch_of_another_kind_is_harmless() {
    let store = Memory::new();
    let worker = Worker::start(&store, wide()).await;
    let columns = ArchiveColumns::new(Kind::Readings);
    let spans = [Span { partition: partition(), from: 0, next: 4 }];
    let part = Part { columns: &columns, rows: 0..0, spans: &spans, last: true };
    worker.chain.write(part).await.unwrap();
    worker.flush().await.unwrap();
    assert_eq!(store.end().await, 4);
}
