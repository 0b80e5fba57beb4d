//! What the road takes from the allocator: nothing per reading.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use mantis_pipeline::{
    Assigned, Columns, DeadLetter, DeadLetters, Decoder, Event, Fault, Header, Limits, Moved, Outcome, Part, Reason, Record,
    RecordBatch, RowReject, Shutdown, Sink, Source, SourceError, Span, Start, Status, TopicPartition, run,
};

const BATCHES: u64 = 400;
const BATCH_RECORDS: u64 = 1_000;
const READINGS: u64 = BATCHES * BATCH_RECORDS;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: it hands every call to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// So many single readings, then silence.
struct Thousands {
    partition: TopicPartition,
    assigned: bool,
    started: bool,
    handed_out: u64,
}

struct Thousand {
    partition: TopicPartition,
    from: u64,
}

impl RecordBatch for Thousand {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn len(&self) -> usize {
        BATCH_RECORDS as usize
    }

    fn record(&self, index: usize) -> Record<'_> {
        Record {
            offset: (self.from + index as u64) as i64,
            timestamp_ms: Some(0),
            key: Some(b"press-1"),
            payload: Some(b"a reading of the size that readings have"),
        }
    }

    fn headers(&self, _index: usize) -> Vec<Header> {
        Vec::new()
    }

    fn bytes(&self) -> usize {
        BATCH_RECORDS as usize * 64
    }
}

impl Source for Thousands {
    type Batch = Thousand;

    async fn next(&mut self) -> Result<Event<Thousand>, SourceError> {
        if !self.assigned {
            self.assigned = true;
            let assigned =
                Assigned { partition: self.partition.clone(), committed: None, log_start: 0, log_end: READINGS as i64 };
            return Ok(Event::Assigned(vec![assigned]));
        }
        if !self.started || self.handed_out == BATCHES {
            std::future::pending::<()>().await;
        }
        let from = self.handed_out * BATCH_RECORDS;
        self.handed_out += 1;
        Ok(Event::Records(Thousand { partition: self.partition.clone(), from }))
    }

    async fn start(&mut self, _at: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        self.started = true;
        Ok(())
    }

    async fn release(&mut self, _partitions: &[TopicPartition]) -> Result<(), SourceError> {
        Ok(())
    }

    async fn commit(&mut self, _offsets: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        Ok(())
    }

    async fn seek(&mut self, _partition: &TopicPartition, _offset: i64) -> Result<(), SourceError> {
        Ok(())
    }

    fn pause(&mut self, _partitions: &[TopicPartition]) -> Result<(), SourceError> {
        Ok(())
    }

    fn resume(&mut self, _partitions: &[TopicPartition]) -> Result<(), SourceError> {
        Ok(())
    }

    async fn close(self) {}
}

#[derive(Default)]
struct Offsets(Vec<i64>);

impl Columns for Offsets {
    fn rows(&self) -> usize {
        self.0.len()
    }

    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }

    fn bytes(&self) -> usize {
        self.0.len() * size_of::<i64>()
    }
}

struct OffsetDecoder;

impl Decoder for OffsetDecoder {
    type Columns = Offsets;

    fn columns(&self, _topic: &str) -> Offsets {
        Offsets::default()
    }

    fn decode(&mut self, record: &Record<'_>, into: &mut Offsets, _rejects: &mut Vec<RowReject>) -> Result<(), Reason> {
        into.0.push(record.offset);
        Ok(())
    }
}

/// Counts what it is given; also the place for letters, which never come.
#[derive(Default)]
struct Counted {
    rows: AtomicU64,
    all: tokio::sync::Notify,
}

impl Sink for Counted {
    type Columns = Offsets;

    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        Ok(vec![Start::Committed; assigned.len()])
    }

    async fn write(&self, part: Part<'_, Offsets>) -> Result<Outcome, Fault> {
        let written = part.rows.len();
        if self.rows.fetch_add(written as u64, Relaxed) + written as u64 == READINGS {
            self.all.notify_one();
        }
        Ok(Outcome::Ended { written, duplicates: 0, conflicts: 0, rejected: Vec::new(), advanced: false })
    }

    async fn advance(&self, _spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        Ok(None)
    }
}

impl DeadLetters for Counted {
    async fn send(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        Err(Fault::Fatal { reason: format!("{} letters of good records", letters.len()) })
    }
}

#[tokio::test]
async fn single_readings_cost_less_than_one_allocation_in_a_hundred() {
    let (sink, shutdown) = (Arc::new(Counted::default()), Shutdown::new());
    let partition = TopicPartition::new("mantis.readings", 0);
    let source = Thousands { partition, assigned: false, started: false, handed_out: 0 };
    let limits = Limits { rows_max: 5_000, ..Limits::default() };
    let before = ALLOCATIONS.load(Relaxed);
    let road = run(source, OffsetDecoder, sink.clone(), sink.clone(), limits, Arc::new(Status::default()), shutdown.clone());
    let stop = async {
        sink.all.notified().await;
        shutdown.cancel();
    };
    let both = async { tokio::join!(road, stop).0 };
    tokio::time::timeout(std::time::Duration::from_secs(60), both).await.expect("it goes on").unwrap();
    let per_reading = (ALLOCATIONS.load(Relaxed) - before) as f64 / READINGS as f64;
    println!("{per_reading:.5} allocations per reading");
    assert_eq!(sink.rows.load(Relaxed), READINGS);
    assert!(per_reading < 0.01, "{per_reading} allocations per reading");
}
