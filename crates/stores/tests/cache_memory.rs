//! The embedded cache passes the suite of caches; and what only it does: its bounds, its filling after a start.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mantis_pipeline::{Columns, Outcome, Part, Sink, Span, TopicPartition};
use mantis_schemas::{Feature, Quality, ReadingColumns, Series, SeriesInterner, SeriesTable};
use mantis_stores::{
    ValueColumns,
    cache::{
        Cache, Counts,
        conformance::Engine,
        memory::{CacheConfig, MemoryCache, MemoryCacheSink},
    },
    raw::StoredReading,
};
use proptest::prelude::*;

/// A cache and the time that it sees.
struct Memory {
    cache: MemoryCache,
    passed_ms: Arc<AtomicU64>,
}

impl Memory {
    fn with(ttl: Duration, entries_max: usize) -> Self {
        let passed_ms = Arc::new(AtomicU64::new(0));
        let (begun, passed) = (Instant::now(), passed_ms.clone());
        let clock = move || begun + Duration::from_millis(passed.load(Ordering::Relaxed));
        Self { cache: MemoryCache::with_clock(CacheConfig { ttl, entries_max }, clock), passed_ms }
    }

    fn pass_ms(&self, ms: u64) {
        self.passed_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Engine for Memory {
    type Sink = MemoryCacheSink;
    type Cache = MemoryCache;

    async fn new(ttl: Duration, entries_max: usize) -> Self {
        Self::with(ttl, entries_max)
    }

    fn sink(&self, series: SeriesTable) -> MemoryCacheSink {
        self.cache.sink(series, HashMap::new())
    }

    fn cache(&self) -> MemoryCache {
        self.cache.clone()
    }

    async fn pass(&self, time: Duration) {
        self.pass_ms(time.as_millis() as u64);
    }
}

mantis_stores::cache_conformance!(Memory);

const TTL: Duration = Duration::from_secs(60);

fn series(sensor: impl std::fmt::Display) -> Series {
    Series { asset: "pump".into(), sensor: sensor.to_string().into() }
}

fn reading(time_ns: i64) -> StoredReading {
    StoredReading { time_ns, value: time_ns as f64, quality: Quality::Good, arrival_ms: 0 }
}

/// Writes readings of sensors `s0`, `s1`... by number, in one batch.
async fn write(memory: &Memory, interner: &mut SeriesInterner, rows: &[(usize, i64)]) {
    let columns = ValueColumns::Readings(ReadingColumns {
        series: rows.iter().map(|(sensor, _)| interner.intern("pump", &format!("s{sensor}")).unwrap()).collect(),
        time_ns: rows.iter().map(|(_, time_ns)| *time_ns).collect(),
        value: rows.iter().map(|(_, time_ns)| *time_ns as f64).collect(),
        quality: vec![Quality::Good; rows.len()],
        arrival_ms: vec![0; rows.len()],
    });
    let spans = [Span { partition: TopicPartition::new("mantis.readings", 0), from: 0, next: 1 }];
    let part = Part { columns: &columns, rows: 0..columns.rows(), spans: &spans, last: true };
    let outcome = memory.cache.sink(interner.table(), HashMap::new()).write(part).await.unwrap();
    assert!(matches!(outcome, Outcome::Ended { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_full_cache_forgets_what_was_written_least_recently_and_counts_it() {
    let memory = Memory::with(TTL, 3);
    let mut interner = SeriesInterner::new(100);
    for (sensor, time_ns) in [(0, 1), (1, 1), (2, 1), (0, 2), (1, 0), (3, 1), (4, 1)] {
        write(&memory, &mut interner, &[(sensor, time_ns)]).await;
    }
    let kept = memory.cache.sensors("pump").await.unwrap();
    assert_eq!(kept, ["s0", "s3", "s4"].map(series), "s1 was refused after s0 was written again");
    assert_eq!(memory.cache.counts().await.unwrap(), Counts { entries: 3, expired: 0, evicted: 2 });
}

#[tokio::test]
async fn entries_that_have_run_out_are_removed_by_the_writes_that_follow() {
    let memory = Memory::with(TTL, 1_000_000);
    let mut interner = SeriesInterner::new(100_000);
    let rows: Vec<_> = (0..25_000).map(|sensor| (sensor, 1)).collect();
    write(&memory, &mut interner, &rows).await;
    memory.cache.seed_features([(series("s0"), Feature { window_ns: 10, ..Feature::default() })]);
    assert_eq!(memory.cache.counts().await.unwrap(), Counts { entries: 25_001, ..Counts::default() });
    memory.pass_ms(60_000);
    assert_eq!(memory.cache.sensors("pump").await.unwrap(), []);
    for turn in 0..4 {
        write(&memory, &mut interner, &[(99_999, turn)]).await;
        let counts = memory.cache.counts().await.unwrap();
        let expired = 25_001.min((turn as u64 + 1) * 10_000);
        assert_eq!(counts, Counts { entries: 25_002 - expired, expired, evicted: 0 }, "a bounded number each time");
    }
    assert_eq!(memory.cache.sensors("pump").await.unwrap(), [series("s99999")]);
}

#[tokio::test]
async fn what_comes_from_the_stores_meets_the_same_guard_as_what_comes_from_the_log() {
    let memory = Memory::with(TTL, 100);
    let mut interner = SeriesInterner::new(100);
    write(&memory, &mut interner, &[(0, 5), (1, 5)]).await;
    memory.cache.seed_readings([(series("s0"), reading(9)), (series("s1"), reading(1)), (series("s2"), reading(3))]);
    write(&memory, &mut interner, &[(0, 7), (2, 4)]).await;
    let times: Vec<_> = memory.cache.readings("pump").await.unwrap().iter().map(|(_, reading)| reading.time_ns).collect();
    assert_eq!(times, [9, 5, 4]);
    let older = Feature { window_ns: 10, start_ns: 10, count: 9, ..Feature::default() };
    let newer = Feature { start_ns: 20, count: 1, ..older.clone() };
    for rows in [[&older, &newer], [&newer, &older]] {
        memory.cache.seed_features(rows.map(|row| (series("s0"), row.clone())));
        assert_eq!(memory.cache.features(&series("s0")).await.unwrap(), std::slice::from_ref(&newer));
    }
}

proptest! {
    /// Batches of any shape, with time passing in between: never more entries than the bound, never one that has run out,
    /// and what is given out is the newest that was written while it lived.
    #[test]
    fn any_history_ends_as_a_model_of_it_does(
        batches in prop::collection::vec((prop::collection::vec((0..6_usize, 0..8_i64), 1..12), 0..40_u64), 1..40),
    ) {
        let memory = Memory::with(Duration::from_millis(100), 4);
        let mut interner = SeriesInterner::new(100);
        // From the least to the most recently written: sensor, time, when.
        let mut model: Vec<(usize, i64, u64)> = Vec::new();
        let mut now = 0;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (rows, pass_ms) in batches {
            for row in rows {
                // Each row a batch, so that the order of writes is that of the rows.
                runtime.block_on(write(&memory, &mut interner, &[row]));
                let (sensor, time_ns) = row;
                model.retain(|(.., written)| now - written < 100);
                if model.iter().any(|(of, stored, _)| *of == sensor && *stored > time_ns) {
                    continue;
                }
                model.retain(|(of, ..)| *of != sensor);
                model.push((sensor, time_ns, now));
                if model.len() > 4 {
                    model.remove(0);
                }
            }
            memory.pass_ms(pass_ms);
            now += pass_ms;
            let stored = runtime.block_on(memory.cache.readings("pump")).unwrap();
            let mut expected: Vec<_> = model
                .iter()
                .filter(|(.., written)| now - written < 100)
                .map(|(sensor, time_ns, _)| (series(format!("s{sensor}")), reading(*time_ns)))
                .collect();
            expected.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(stored, expected);
        }
    }
}
