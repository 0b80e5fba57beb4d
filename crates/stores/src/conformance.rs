//! What the suites of several kinds of store share.

// A suite is test code: it ends at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::{
    io::{BufRead, BufReader},
    ops::Range,
    process::{Command, Stdio},
    time::Duration,
};

use mantis_pipeline::{Assigned, Columns, Outcome, Part, Reason, Sink, Span, Start, TopicPartition};
use mantis_schemas::Series;

/// The cluster whose offsets the suites write.
pub(crate) const CLUSTER: &str = "conformance";

/// Writes a sink in order of offset, as the owner of a partition.
pub(crate) struct Owner<S> {
    pub(crate) sink: S,
    pub(crate) partition: TopicPartition,
    pub(crate) next: i64,
}

/// How the rows of a batch ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) written: usize,
    pub(crate) duplicates: usize,
    pub(crate) conflicts: usize,
    pub(crate) rejected: Vec<(usize, Reason)>,
}

impl<S: Sink> Owner<S> {
    /// An owner that begins where the sink says.
    pub(crate) async fn new(sink: S, partition: TopicPartition) -> Self {
        let mut owner = Self { sink, partition, next: 0 };
        owner.next = owner.start(None, 0).await.unwrap_or(0);
        owner
    }

    /// Assigns the partition; the position that the store names, if it does.
    pub(crate) async fn start(&self, committed: Option<i64>, log_start: i64) -> Option<i64> {
        let assigned = Assigned { partition: self.partition.clone(), committed, log_start, log_end: 1 << 40 };
        match self.sink.start(&[assigned]).await.unwrap()[..] {
            [Start::At(next)] => Some(next),
            [Start::Committed] => None,
            ref other => panic!("one partition was assigned, the store answered {other:?}"),
        }
    }

    pub(crate) fn span(&self, from: i64, next: i64) -> Span {
        Span { partition: self.partition.clone(), from, next }
    }

    pub(crate) async fn write_part(&self, columns: &S::Columns, rows: Range<usize>, span: Span, last: bool) -> Outcome {
        self.sink.write(Part { columns, rows, spans: &[span], last }).await.unwrap()
    }

    /// Writes a batch at the next offset. A sink with a ledger must move it with the rows, or wait for the dead letters.
    pub(crate) async fn write(&mut self, columns: &S::Columns, ledger: bool) -> Ended {
        let span = self.span(self.next, self.next + 1);
        let outcome = self.write_part(columns, 0..columns.rows(), span.clone(), true).await;
        let Outcome::Ended { written, duplicates, conflicts, rejected, advanced } = outcome else {
            panic!("the write did not end: {outcome:?}");
        };
        assert_eq!(written + duplicates + conflicts + rejected.len(), columns.rows(), "every row has one end");
        if ledger {
            assert_eq!(advanced, rejected.is_empty(), "the ledger moves with the rows, or waits for the dead letters");
        }
        if !advanced {
            assert_eq!(self.sink.advance(&[span]).await.unwrap(), None);
        }
        self.next += 1;
        Ended { written, duplicates, conflicts, rejected }
    }
}

pub(crate) fn series(asset: &str, sensor: &str) -> Series {
    Series { asset: asset.into(), sensor: sensor.into() }
}

/// Numbers that look random and are the same in each run.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Names that a store may be tempted to trim, fold, normalise, escape or read as something else.
pub(crate) const ODD_NAMES: [&str; 21] = [
    "plain",
    "Plain",
    " leading and trailing ",
    "a,b=c d",
    "back\\slash",
    "trailing\\",
    "\"double\"",
    "'single'; DROP TABLE readings; --",
    "_underscore",
    "%_like*?",
    "🏭🌡\u{fe0f}",
    "مضخة",
    "\u{202e}rtl",
    "caf\u{e9}",
    "cafe\u{301}",
    "\u{feff}bom",
    "zero\u{200b}width",
    "1",
    "1.0",
    "null",
    "/slash/../..",
];

/// Doubles that a store may be tempted to round or to take for whole numbers.
pub(crate) const EXTREME_NUMBERS: [f64; 21] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    1.0 / 3.0,
    5e-324,
    -5e-324,
    f64::MIN_POSITIVE,
    f64::MIN_POSITIVE / 2.0,
    f64::MAX,
    f64::MIN,
    f64::EPSILON,
    1e15,
    9_007_199_254_740_991.0,
    9_007_199_254_740_992.0,
    9_007_199_254_740_994.0,
    -9_223_372_036_854_775_808.0,
    9_223_372_036_854_775_808.0,
    1.797_693_134_862_315e308,
    123_456_789.123_456_79,
];

/// Times up to the last that can be stored, in order.
pub(crate) const EXTREME_TIMES_NS: [i64; 7] =
    [-9_223_372_036_854_775_806, -4_611_686_018_427_387_905, -1, 0, 1, 946_684_800_000_000_001, 9_223_372_036_854_775_806];

const PLACE: &str = "MANTIS_CONFORMANCE_PLACE";
const FROM: &str = "MANTIS_CONFORMANCE_FROM";

/// The place to write to and the offset to go on from, where this process is a writer that will be killed.
pub(crate) fn is_writer() -> Option<(String, i64)> {
    let place = std::env::var(PLACE).ok()?;
    Some((place, std::env::var(FROM).unwrap().parse().unwrap()))
}

/// Tells the killer that everything before `next` is durable.
pub(crate) fn acknowledge(next: i64) {
    println!("acknowledged {next}");
}

/// Runs the test with this full name in a process of its own, as a writer from `from` on, and kills it in mid-write. Returns
/// up to where it had acknowledged.
pub(crate) fn kill_a_writer(test: &str, place: &str, from: i64, draw: &mut Draw) -> i64 {
    // libtest names a test by its path without the crate.
    let (_, name) = test.split_once("::").unwrap();
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(PLACE, place)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let kill_at = 1 + draw.below(6);
    // Kept open until the writer is dead: it must not end by itself because no one listens.
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let acknowledged: Vec<i64> = lines
        .by_ref()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
        .take(kill_at as usize)
        .collect();
    // It goes on with the next batch: the kill falls into its making, its rows, its commit or behind it.
    std::thread::sleep(Duration::from_micros(draw.below(12_000)));
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(acknowledged.len(), kill_at as usize, "the writer ended by itself");
    *acknowledged.last().unwrap()
}
