//! Reads the log and its dead letters again.

use std::ops::Range;

use mantis_kafka::{Admin, ClientConfig, Error, Reader, dead_letter};
use mantis_pipeline::{Columns, Decoder, Record, RecordBatch, RowReject, TopicPartition};
use mantis_schemas::{SeriesId, topics};
use mantis_stores::raw::RawColumns;

use super::{
    Account, AuditError, Finding, FindingKind, Names, PartitionAccount, Position, Unproved,
    account::MissingDeadLetter,
    book::{Book, Entry, Kind, Side, hash_frame, hash_reading},
    dead_letters::{DeadLetters, Refused},
};
use crate::{decode::rows_as_sent, raw::RecordDecoder, sensors::Declared};

/// The dead letters of `group`.
pub(super) async fn dead_letters(
    client: &ClientConfig,
    admin: &Admin,
    group: &str,
    topics: &[&str],
) -> Result<DeadLetters, AuditError> {
    let mut letters = DeadLetters::default();
    for topic in topics {
        for partition in admin.partitions(&topics::dead_letter(topic)).await? {
            let (start, end) = admin.watermarks(&partition).await?;
            if start > 0 {
                letters.cut.insert((*topic).to_owned());
            }
            let mut reader = Reader::open(client, partition, start, end)?;
            loop {
                let batch = match reader.next().await {
                    Ok(Some(batch)) => batch,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(%error, "dead letters cannot be read: what was refused is not proved");
                        letters.cut.insert((*topic).to_owned());
                        break;
                    }
                };
                for index in 0..batch.len() {
                    let Some(origin) = dead_letter::origin(&batch.headers(index)) else { continue };
                    if origin.group == group && origin.replayed_ms.is_none() {
                        let rows = origin.rows.iter().map(|row| row.row);
                        letters.refused.entry(origin.partition).or_default().add(origin.offset, rows);
                    }
                }
            }
        }
    }
    Ok(letters)
}

/// Why a range of the log proves nothing: it could not be read, or was removed while it was.
pub(super) fn unreadable(partition: &TopicPartition, range: Range<i64>, error: &Error) -> Unproved {
    let (topic, partition) = (partition.topic.to_string(), partition.partition);
    Unproved { topic, partition, from: range.start, to: range.end, why: format!("the log cannot be read on from here: {error}") }
}

/// Reads one partition into the book.
pub(super) struct LogReader<'a> {
    pub client: &'a ClientConfig,
    pub partition: &'a TopicPartition,
    /// The partition's number in the book.
    pub number: u32,
    pub audited_to: i64,
    pub refused: &'a Refused,
    /// Whether some of the topic's dead letters may be gone.
    pub letters_cut: bool,
    pub decoder: &'a mut RecordDecoder,
    /// Where only slow readings of registered sensors are written: what is declared.
    pub registered: Option<&'a mut Declared>,
    pub names: &'a mut Names,
    pub book: &'a mut Book,
    pub account: &'a mut Account,
}

impl LogReader<'_> {
    /// Reads `[from, to)`.
    pub(super) async fn read(&mut self, from: i64, to: i64) -> Result<(), AuditError> {
        let mut here = PartitionAccount {
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition,
            log_start: from,
            audited_to: self.audited_to,
            log_end: to,
            unread_from: None,
            records: 0,
            rows: 0,
        };
        let mut columns = self.decoder.columns(&self.partition.topic);
        let mut rejects = Vec::new();
        let mut series = SeriesNumbers::default();
        let mut reader = Reader::open(self.client, self.partition.clone(), from, to)?;
        let mut next = from;
        loop {
            let batch = match reader.next().await {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => {
                    self.account.unproved.push(unreadable(self.partition, next..to, &error));
                    here.unread_from = Some(next);
                    break;
                }
            };
            for index in 0..batch.len() {
                columns.truncate(0);
                rejects.clear();
                let record = batch.record(index);
                next = record.offset + 1;
                let decoded = self.decoder.decode(&record, &mut columns, &mut rejects);
                let rows = if decoded.is_ok() { self.enter_rows(&record, &columns, &rejects, &mut series)? } else { 0 };
                if record.offset < self.audited_to {
                    here.records += 1;
                    here.rows += rows;
                    self.count(&record, decoded.is_ok(), rows, &rejects);
                }
            }
        }
        self.account.partitions.push(here);
        Ok(())
    }

    fn count(&mut self, record: &Record<'_>, decoded: bool, rows: u64, rejects: &[RowReject]) {
        self.account.records += 1;
        self.account.rows += rows;
        if decoded {
            self.account.records_decoded += 1;
            for reject in rejects {
                let has_letter = self.refused.has_row(record.offset, reject.row);
                self.account.rows_rejected += u64::from(self.was_refused(record.offset, has_letter));
            }
        } else {
            let has_letter = self.refused.has_record(record.offset);
            self.account.records_dead_lettered += u64::from(self.was_refused(record.offset, has_letter));
        }
    }

    /// Whether what cannot be decoded at this offset may be taken as refused.
    fn was_refused(&mut self, offset: i64, has_letter: bool) -> bool {
        if !has_letter && !self.letters_cut {
            self.dead_letter_missing(offset);
            return false;
        }
        self.account.cut_dead_letters += u64::from(!has_letter);
        true
    }

    fn dead_letter_missing(&mut self, offset: i64) {
        self.account.missing_dead_letters += 1;
        if self.account.findings.len() < super::FINDINGS_MAX {
            let position = Position { topic: self.partition.topic.to_string(), partition: self.partition.partition, offset };
            self.account.findings.push(Finding {
                what: FindingKind::DeadLetter(MissingDeadLetter::MissingDeadLetter),
                series: None,
                time_ns: None,
                position: Some(position),
            });
        }
    }

    /// Enters the good rows and returns the number of all rows. A row that is good now but has a dead letter was
    /// refused then (by the store, or by another configuration): the store may have it, and it counts as rejected. A row
    /// that the worker leaves out is not entered: the store must not have it.
    fn enter_rows(
        &mut self,
        record: &Record<'_>,
        columns: &RawColumns,
        rejects: &[RowReject],
        series: &mut SeriesNumbers,
    ) -> Result<u64, AuditError> {
        let audited = record.offset < self.audited_to;
        for (index, row) in rows_as_sent(columns.rows(), rejects).enumerate() {
            let refused = self.refused.has_row(record.offset, row);
            if refused && audited {
                self.account.rows_rejected += 1;
            }
            let (id, kind, time_ns, hash) = match columns {
                RawColumns::Readings(r) => {
                    (r.series[index], Kind::Reading, r.time_ns[index], hash_reading(r.value[index], r.quality[index]))
                }
                RawColumns::Frames(f) => (f.series[index], Kind::Frame, f.start_ns[index], hash_frame(&f.frame(index))),
            };
            let is_written = self.registered.as_mut().is_none_or(|declared| declared.stores_readings(id));
            if !is_written && !refused {
                self.account.rows_left_out += u64::from(audited);
                continue;
            }
            let side = if audited && !refused { Side::Required } else { Side::Allowed };
            let series = series.number(id, self.decoder, self.names)?;
            let (partition, offset) = (self.number, record.offset);
            self.book.add(&Entry { series, kind, time_ns, side, partition, offset, row, hash })?;
        }
        Ok((columns.rows() + rejects.len()) as u64)
    }
}

/// The decoder's series numbers as the audit's, looked up once each.
#[derive(Default)]
struct SeriesNumbers(Vec<Option<SeriesId>>);

impl SeriesNumbers {
    fn number(&mut self, id: SeriesId, decoder: &RecordDecoder, names: &mut Names) -> Result<SeriesId, AuditError> {
        if let Some(Some(known)) = self.0.get(id.index()) {
            return Ok(*known);
        }
        let series = decoder.series().read().get(id.index()).cloned();
        // The decoder has numbered every series of the columns it wrote.
        let number = series.map_or(Ok(id), |series| names.number(&series))?;
        self.0.resize(self.0.len().max(id.index() + 1), None);
        self.0[id.index()] = Some(number);
        Ok(number)
    }
}
