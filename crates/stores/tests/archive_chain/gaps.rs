//! Positions without a record: they are covered, named and counted, whoever archives them.

use std::ops::Range;

use mantis_stores::archive::{
    object::Manifest,
    scan::{self, Objects},
};

use super::world::{Log, Memory, Worker, wide};

async fn manifests(store: &Memory) -> Vec<Manifest> {
    let mut objects = Objects::under(store, "");
    let mut found = Vec::new();
    while let Some(listed) = objects.next().await.unwrap() {
        found.push(scan::manifest(store, &listed.key).await.unwrap());
    }
    found
}

/// What each object covers, and where it has no record.
pub async fn gaps(store: &Memory) -> Vec<(Range<i64>, Vec<Range<i64>>)> {
    let told = |manifest: Manifest| {
        assert_eq!(manifest.missing(), manifest.gaps.iter().map(|gap| (gap.end - gap.start) as u64).sum::<u64>());
        (manifest.start..manifest.end, manifest.gaps)
    };
    manifests(store).await.into_iter().map(told).collect()
}

#[tokio::test]
async fn an_object_names_the_positions_that_hold_no_record_at_its_front_inside_and_at_its_end() {
    let (store, log) = (Memory::new(), Log::new(100, |offset| [0, 1, 5, 29, 30, 31].contains(&offset) || offset >= 60));
    let mut worker = Worker::start(&store, wide()).await;
    for (to, cut) in [(4, false), (10, false), (30, true), (40, true), (60, true), (80, false), (100, true)] {
        worker.read(&log, to).await.unwrap();
        if cut {
            worker.flush().await.unwrap();
        }
    }
    let named = [(0..30, vec![0..2, 5..6, 29..30]), (30..40, vec![30..32]), (40..60, vec![]), (60..100, vec![60..100])];
    assert_eq!(gaps(&store).await, named);
}

/// data-loss bug #22
#[tokio::test]
async fn what_retention_took_before_it_was_read_is_named_in_the_object_that_covers_it() {
    let (store, mut log) = (Memory::new(), Log::new(100, |_| false));
    let mut worker = Worker::start(&store, wide()).await;
    worker.read(&log, 10).await.unwrap();
    log.remove_before(40);
    worker.read(&log, 50).await.unwrap();
    worker.flush().await.unwrap();
    log.remove_before(70);
    worker.assigned().await;
    assert_eq!(worker.next, 50, "the chain's end, which the log no longer has");
    worker.read(&log, 80).await.unwrap();
    worker.flush().await.unwrap();
    assert_eq!(gaps(&store).await, [(0..50, vec![10..40]), (50..80, vec![50..70])]);
}

#[tokio::test]
async fn many_gaps_are_counted_though_not_all_are_named() {
    let (store, log) = (Memory::new(), Log::new(1_000, |offset| offset % 2 == 0));
    let mut worker = Worker::start(&store, wide()).await;
    worker.read(&log, 1_000).await.unwrap();
    worker.flush().await.unwrap();
    let [manifest] = &manifests(&store).await[..] else { panic!("one object") };
    assert_eq!((manifest.missing(), manifest.gaps.len(), manifest.gaps.last()), (500, 64, Some(&(126..127))));
}

#[tokio::test]
async fn gaps_are_named_where_they_are_when_what_was_read_is_split_behind_the_object_of_another() {
    let (store, log) = (Memory::new(), Log::new(100, |offset| offset % 10 < 3));
    let mut big = Worker::start(&store, wide()).await;
    for to in [5, 25, 50] {
        big.read(&log, to).await.unwrap();
    }
    let mut small = Worker::start(&store, wide()).await;
    small.read(&log, 12).await.unwrap();
    small.flush().await.unwrap();
    big.flush().await.unwrap();
    let mut named = gaps(&store).await.into_iter();
    assert_eq!(named.next(), Some((0..12, vec![0..3, 10..12])));
    let rest: Vec<_> = named.flat_map(|(_, gaps)| gaps).collect();
    assert_eq!(rest, [12..13, 20..23, 30..33, 40..43]);
    assert_eq!(store.records().await, log.records[..35]);
}

#[tokio::test]
async fn an_object_with_records_that_the_log_has_lost_since_is_gone_on_behind() {
    for reach in [50, 30] {
        let (store, mut log) = (Memory::new(), Log::new(100, |_| false));
        let (mut early, mut late) = (Worker::start(&store, wide()).await, Worker::start(&store, wide()).await);
        let all = log.clone();
        early.read(&log, 40).await.unwrap();
        early.flush().await.unwrap();
        log.remove_before(20);
        late.read(&log, reach).await.unwrap();
        late.flush().await.unwrap();
        late.read(&log, 60).await.unwrap();
        late.flush().await.unwrap();
        assert_eq!((late.durable(), store.records().await), (60, all.records[..60].to_vec()));
    }
}

#[tokio::test]
async fn an_object_that_lacks_what_the_log_had_lost_before_is_gone_on_behind_and_names_it() {
    for reach in [50, 30] {
        let (store, log) = (Memory::new(), Log::new(100, |_| false));
        let (mut early, mut late) = (Worker::start(&store, wide()).await, Worker::start(&store, wide()).await);
        let mut torn = log.clone();
        torn.remove_before(20);
        late.read(&torn, 40).await.unwrap();
        late.flush().await.unwrap();
        early.read(&log, reach).await.unwrap();
        early.flush().await.unwrap();
        early.read(&log, 60).await.unwrap();
        early.flush().await.unwrap();
        assert_eq!((early.durable(), store.records().await), (60, log.records[20..60].to_vec()));
        assert_eq!(gaps(&store).await[0], (0..40, vec![0..20]));
    }
}
