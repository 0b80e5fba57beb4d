//! A batch: columns, the records they came from, and what was refused of them.

use std::{
    mem,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

use crate::{Columns, DeadLetter, Decoder, Header, Limits, Reason, RecordBatch, RowReject, Span, TopicPartition};

/// A source batch that is counted as held memory as long as anyone needs it.
#[derive(Debug)]
pub(crate) struct Held<B> {
    batch: B,
    bytes: usize,
    gauge: Arc<AtomicUsize>,
}

impl<B: RecordBatch> Held<B> {
    pub(crate) fn new(batch: B, gauge: &Arc<AtomicUsize>) -> Self {
        let bytes = batch.bytes();
        gauge.fetch_add(bytes, Ordering::Relaxed);
        Self { batch, bytes, gauge: gauge.clone() }
    }
}

impl<B> Drop for Held<B> {
    fn drop(&mut self) {
        self.gauge.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One ownership of a partition. What an earlier ownership left behind has another epoch and counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) partition: TopicPartition,
    pub(crate) epoch: u64,
}

/// A stretch of a partition on its way: records, or offsets without any.
#[derive(Debug)]
pub(crate) struct Stretch<B> {
    pub(crate) owner: Owner,
    /// Where the stretch before ended: offsets that hold no record belong to the stretch behind them.
    pub(crate) from: i64,
    pub(crate) next: i64,
    /// `None` for offsets that were removed.
    pub(crate) records: Option<(Arc<Held<B>>, Range<usize>)>,
}

/// What a batch holds of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    pub(crate) records_rejected: u64,
    pub(crate) dead_letters: u64,
    /// Rows that go to the store.
    pub(crate) rows: u64,
    pub(crate) rows_rejected: u64,
}

impl Tally {
    /// Rows that were decoded, refused ones too.
    pub(crate) fn rows_in(&self) -> u64 {
        self.rows + self.rows_rejected
    }
}

/// A stretch in a batch.
#[derive(Debug)]
struct Taken<B> {
    stretch: Stretch<B>,
    /// Which of the batch's spans it belongs to.
    span: usize,
    /// Which of the batch's records it ends before.
    records_end: usize,
}

/// A record with something refused.
#[derive(Debug)]
struct Refused {
    /// The record's number in the batch.
    record: usize,
    /// Why the whole of it was refused, if it was.
    whole: Option<Reason>,
    /// Its refused rows in [`Batch::row_rejects`].
    rows: Range<usize>,
}

/// Records of one topic, decoded, with everything that is needed to end each of them.
#[derive(Debug)]
pub(crate) struct Batch<C, B> {
    pub(crate) columns: C,
    /// Per partition, what the batch covers; beside it the ownership and the account.
    spans: Vec<Span>,
    epochs: Vec<u64>,
    tallies: Vec<Tally>,
    taken: Vec<Taken<B>>,
    /// Where each record's rows end.
    row_ends: Vec<usize>,
    refused: Vec<Refused>,
    row_rejects: Vec<RowReject>,
    reject_bytes: usize,
    /// Its records' share of the source batches that it holds on to.
    source_bytes: usize,
    opened: Option<Instant>,
}

/// What a refusal takes beside its text.
const REJECT_BYTES: usize = mem::size_of::<RowReject>();

impl<C: Columns, B: RecordBatch> Batch<C, B> {
    pub(crate) fn new(columns: C) -> Self {
        Self {
            columns,
            spans: Vec::new(),
            epochs: Vec::new(),
            tallies: Vec::new(),
            taken: Vec::new(),
            row_ends: Vec::new(),
            refused: Vec::new(),
            row_rejects: Vec::new(),
            reject_bytes: 0,
            source_bytes: 0,
            opened: None,
        }
    }

    /// Forgets everything but its memory, and gives back what it had taken.
    pub(crate) fn clear(&mut self) -> Vec<Stretch<B>> {
        self.columns.truncate(0);
        self.spans.clear();
        self.epochs.clear();
        self.tallies.clear();
        self.row_ends.clear();
        self.refused.clear();
        self.row_rejects.clear();
        self.reject_bytes = 0;
        self.source_bytes = 0;
        self.opened = None;
        self.taken.drain(..).map(|taken| taken.stretch).collect()
    }

    /// True if it covers nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// When the first stretch came in.
    pub(crate) fn opened(&self) -> Option<Instant> {
        self.opened
    }

    /// Rows, refused ones too: each costs memory and a place in a write or a letter.
    pub(crate) fn rows(&self) -> usize {
        self.columns.rows() + self.row_rejects.len() + self.refused.len()
    }

    /// Bytes beside the source's own.
    pub(crate) fn bytes(&self) -> usize {
        self.columns.bytes() + self.reject_bytes
    }

    /// True if it is time to write it.
    pub(crate) fn is_full(&self, limits: &Limits) -> bool {
        self.rows() >= limits.rows_max || self.bytes() + self.source_bytes >= limits.bytes_max
    }

    /// What it covers, one span per partition.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Spans with the ownership they were read under and their account.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Span, u64, Tally)> {
        self.spans.iter().zip(&self.epochs).zip(&self.tallies).map(|((span, epoch), tally)| (span, *epoch, *tally))
    }

    /// The ownerships that it was read under.
    pub(crate) fn owners(&self) -> impl Iterator<Item = Owner> {
        self.parts().map(|(span, epoch, _)| Owner { partition: span.partition.clone(), epoch })
    }

    /// Decodes records of the stretch until the batch is full. Returns what came in and the rest of the stretch.
    pub(crate) fn take<D: Decoder<Columns = C>>(
        &mut self,
        mut stretch: Stretch<B>,
        decoder: &mut D,
        limits: &Limits,
    ) -> (Tally, Option<Stretch<B>>) {
        let mut tally = Tally::default();
        let mut rest = None;
        if let Some((held, range)) = &mut stretch.records {
            let record_bytes = held.bytes / held.batch.len().max(1);
            let mut index = range.start;
            let mut read_to = stretch.from;
            while index < range.end && !self.is_full(limits) {
                let record = held.batch.record(index);
                read_to = record.offset.saturating_add(1);
                self.decode(&record, || held.batch.headers(index), decoder, &mut tally);
                self.source_bytes += record_bytes;
                index += 1;
            }
            if index == range.start {
                return (tally, Some(stretch));
            }
            if index < range.end {
                let records = Some((held.clone(), index..range.end));
                rest = Some(Stretch { owner: stretch.owner.clone(), from: read_to, next: stretch.next, records });
                range.end = index;
                stretch.next = read_to;
            }
        }
        self.cover(stretch, tally);
        (tally, rest)
    }

    fn decode<D: Decoder<Columns = C>>(
        &mut self,
        record: &crate::Record<'_>,
        headers: impl FnOnce() -> Vec<Header>,
        decoder: &mut D,
        tally: &mut Tally,
    ) {
        let (rows, rejects) = (self.columns.rows(), self.row_rejects.len());
        let number = self.row_ends.len();
        tally.records += 1;
        if let Err(reason) = decoder.decode_with_headers(record, headers, &mut self.columns, &mut self.row_rejects) {
            self.columns.truncate(rows);
            self.row_rejects.truncate(rejects);
            self.reject_bytes += REJECT_BYTES + reason.detail.len();
            self.refused.push(Refused { record: number, whole: Some(reason), rows: rejects..rejects });
            tally.records_rejected += 1;
            tally.dead_letters += 1;
        } else if self.row_rejects.len() > rejects {
            let refused = self.row_rejects.len() - rejects;
            self.reject_bytes +=
                self.row_rejects.iter().skip(rejects).map(|reject| REJECT_BYTES + reject.reason.detail.len()).sum::<usize>();
            self.refused.push(Refused { record: number, whole: None, rows: rejects..self.row_rejects.len() });
            tally.rows_rejected += refused as u64;
            tally.dead_letters += 1;
        }
        tally.rows += (self.columns.rows() - rows) as u64;
        self.row_ends.push(self.columns.rows());
    }

    /// Notes a stretch that was taken.
    fn cover(&mut self, stretch: Stretch<B>, tally: Tally) {
        self.opened.get_or_insert_with(Instant::now);
        let known = self.spans.iter().position(|span| span.partition == stretch.owner.partition);
        let at = known.unwrap_or_else(|| {
            self.spans.push(Span { partition: stretch.owner.partition.clone(), from: stretch.from, next: stretch.from });
            self.epochs.push(stretch.owner.epoch);
            self.tallies.push(Tally::default());
            self.spans.len() - 1
        });
        if let (Some(span), Some(sum)) = (self.spans.get_mut(at), self.tallies.get_mut(at)) {
            span.next = stretch.next;
            sum.records += tally.records;
            sum.records_rejected += tally.records_rejected;
            sum.dead_letters += tally.dead_letters;
            sum.rows += tally.rows;
            sum.rows_rejected += tally.rows_rejected;
        }
        self.taken.push(Taken { stretch, span: at, records_end: self.row_ends.len() });
    }

    /// Letters for what the decoder refused, in order.
    pub(crate) fn refused_letters(&self) -> impl Iterator<Item = DeadLetter> {
        self.refused.iter().filter_map(|refused| {
            self.letter(refused.record, refused.whole.clone(), self.row_rejects.get(refused.rows.clone())?.to_vec())
        })
    }

    /// Letters for rows that the store refused, by index into the columns, ascending. A letter also names the rows of its
    /// record that the decoder refused, so that the last letter of a record says all.
    pub(crate) fn rejected_letters(&self, rejected: &[(usize, Reason)]) -> impl Iterator<Item = DeadLetter> {
        rejected.chunk_by(|(a, _), (b, _)| self.record_of(*a) == self.record_of(*b)).filter_map(|rows| {
            let record = self.record_of(rows.first()?.0);
            let mut refused = self.decoder_rejects(record).to_vec();
            let first_row = self.first_row(record);
            refused.extend(rows.iter().map(|(row, reason)| RowReject {
                row: self.row_as_sent(record, row.saturating_sub(first_row)),
                reason: reason.clone(),
            }));
            refused.sort_by_key(|reject| reject.row);
            self.letter(record, None, refused)
        })
    }

    /// Adds to the accounts what the store refused.
    pub(crate) fn count_rejected(&mut self, rejected: &[(usize, Reason)]) {
        let mut last_record = None;
        for (row, _) in rejected {
            let record = self.record_of(*row);
            let new_letter = last_record.replace(record) != Some(record) && self.decoder_rejects(record).is_empty();
            let span = self.taken_of(record).map(|(taken, _)| taken.span);
            if let Some(tally) = span.and_then(|span| self.tallies.get_mut(span)) {
                tally.rows = tally.rows.saturating_sub(1);
                tally.rows_rejected += 1;
                tally.dead_letters += u64::from(new_letter);
            }
        }
    }

    fn letter(&self, record: usize, reason: Option<Reason>, rows: Vec<RowReject>) -> Option<DeadLetter> {
        let (taken, first_record) = self.taken_of(record)?;
        let (held, range) = taken.stretch.records.as_ref()?;
        let index = range.start + (record - first_record);
        let original = held.batch.record(index);
        Some(DeadLetter {
            partition: taken.stretch.owner.partition.clone(),
            offset: original.offset,
            timestamp_ms: original.timestamp_ms,
            key: original.key.map(<[u8]>::to_vec),
            payload: original.payload.map(<[u8]>::to_vec),
            headers: held.batch.headers(index),
            reason,
            rows,
        })
    }

    /// The stretch that a record came from, and the number of that stretch's first record.
    fn taken_of(&self, record: usize) -> Option<(&Taken<B>, usize)> {
        let at = self.taken.partition_point(|taken| taken.records_end <= record);
        let first = at.checked_sub(1).and_then(|before| self.taken.get(before)).map_or(0, |before| before.records_end);
        self.taken.get(at).map(|taken| (taken, first))
    }

    fn record_of(&self, row: usize) -> usize {
        self.row_ends.partition_point(|end| *end <= row)
    }

    fn first_row(&self, record: usize) -> usize {
        record.checked_sub(1).and_then(|before| self.row_ends.get(before)).copied().unwrap_or(0)
    }

    fn decoder_rejects(&self, record: usize) -> &[RowReject] {
        let found = self.refused.binary_search_by_key(&record, |refused| refused.record).ok();
        found
            .and_then(|at| self.refused.get(at))
            .and_then(|refused| self.row_rejects.get(refused.rows.clone()))
            .unwrap_or_default()
    }

    /// The index that the sender gave to the record's `good`th row that was not refused by the decoder.
    fn row_as_sent(&self, record: usize, good: usize) -> u32 {
        let mut row = u32::try_from(good).unwrap_or(u32::MAX);
        for reject in self.decoder_rejects(record) {
            if reject.row <= row {
                row = row.saturating_add(1);
            }
        }
        row
    }
}
