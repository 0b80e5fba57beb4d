//! Dead letters on their way through Kafka: the original record whole, with headers that say where it was and why.
//!
//! A dead letter has the record's key, value and headers unchanged, and after them:
//!
//! | header | value |
//! |---|---|
//! | `mantis-dlq-group` | the consumer group that refused it |
//! | `mantis-dlq-topic`, `-partition`, `-offset` | where it was read; with the group its identity |
//! | `mantis-dlq-timestamp` | its timestamp in ms since the epoch, where it had one |
//! | `mantis-dlq-reason`, `-detail` | why the whole record was refused, where it was |
//! | `mantis-dlq-rows` | the refused rows as JSON: `[{"code","detail","rows":[0,4]}]`, rows of one reason together |
//!
//! When a letter was sent to its topic again, a mark follows it in its partition: a record without value, with the letter's
//! identity and `mantis-dlq-replayed`, the time in ms since the epoch.
//!
//! Numbers are decimal text. Where a name occurs more than once (a dead letter that was refused again) the last counts.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use mantis_pipeline::{DeadLetter, DeadLetters, Fault, Header, Record, RowReject, TopicPartition};
use mantis_schemas::topics;
use serde::{Deserialize, Serialize};

use crate::{ClientConfig, Error, OutRecord, copier::Copier};

const PREFIX: &str = "mantis-dlq-";
const GROUP: &str = "mantis-dlq-group";
const TOPIC: &str = "mantis-dlq-topic";
const PARTITION: &str = "mantis-dlq-partition";
const OFFSET: &str = "mantis-dlq-offset";
const TIMESTAMP: &str = "mantis-dlq-timestamp";
const REASON: &str = "mantis-dlq-reason";
const DETAIL: &str = "mantis-dlq-detail";
const ROWS: &str = "mantis-dlq-rows";
const REPLAYED: &str = "mantis-dlq-replayed";
/// Header of a record that was sent to its topic again: `topic/partition/offset` of the original.
pub const REPLAYED_FROM: &str = "mantis-replayed-from";

/// Bytes of the refused rows as JSON. Beyond it, rows of one code share one detail: with at most 65,536 rows per record
/// and few codes that stays below half of it.
const ROWS_BYTES_MAX: usize = 1 << 20;
const DETAIL_BYTES_MAX: usize = 4 << 10;

/// Where a dead letter was read and why it was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The consumer group that refused it.
    pub group: String,
    /// The partition that it was read from.
    pub partition: TopicPartition,
    /// Its position there.
    pub offset: i64,
    /// Its timestamp in ms since the epoch, where it had one.
    pub timestamp_ms: Option<i64>,
    /// Why the whole record was refused; `None` when only some of its rows were.
    pub reason: Option<Why>,
    /// The refused rows, in order.
    pub rows: Vec<RefusedRow>,
    /// Set on a mark, which is no letter: when the letter was sent to its topic again, ms since the epoch.
    pub replayed_ms: Option<i64>,
}

/// A reason as it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// The stable code.
    pub code: String,
    /// The sentence.
    pub detail: String,
}

/// A refused row as it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// The row's index in the record as its sender wrote it.
    pub row: u32,
    /// Why.
    pub why: Why,
}

/// Rows of one reason.
#[derive(Debug, Serialize, Deserialize)]
struct Rows<'a> {
    code: Cow<'a, str>,
    detail: Cow<'a, str>,
    rows: Vec<u32>,
}

/// The record that keeps `letter`, refused by `group`, in the dead-letter topic of its own.
pub fn encode(letter: &DeadLetter, group: &str) -> OutRecord {
    let mut headers = letter.headers.clone();
    headers.extend(identity(group, &letter.partition, letter.offset));
    let mut add = |name, value| headers.push(header(name, value));
    if let Some(timestamp) = letter.timestamp_ms {
        add(TIMESTAMP, timestamp.to_string());
    }
    if let Some(reason) = &letter.reason {
        add(REASON, reason.code.into());
        add(DETAIL, shortened(&reason.detail).into());
    }
    if !letter.rows.is_empty() {
        add(ROWS, encode_rows(&letter.rows));
    }
    OutRecord {
        topic: topics::dead_letter(&letter.partition.topic).into(),
        partition: None,
        key: letter.key.clone(),
        payload: letter.payload.clone(),
        headers,
        // Its own time: with the original's, retention might remove the letter at once.
        timestamp_ms: None,
    }
}

/// Where a dead letter comes from, by its headers. `None` if it has not all of them: it is none of ours.
pub fn origin(headers: &[Header]) -> Option<Origin> {
    // A letter's own headers begin with the group; what stands before is the record's, whatever its names are.
    let headers = &headers[headers.iter().rposition(|header| header.key == GROUP)?..];
    let text = |name: &str| {
        let header = headers.iter().rev().find(|header| header.key == name)?;
        std::str::from_utf8(header.value.as_deref()?).ok()
    };
    let reason = text(REASON).map(|code| Why { code: code.into(), detail: text(DETAIL).unwrap_or_default().into() });
    Some(Origin {
        group: text(GROUP)?.into(),
        partition: TopicPartition::new(text(TOPIC)?, text(PARTITION)?.parse().ok()?),
        offset: text(OFFSET)?.parse().ok()?,
        timestamp_ms: text(TIMESTAMP).and_then(|ms| ms.parse().ok()),
        reason,
        rows: text(ROWS).map(decode_rows).unwrap_or_default(),
        replayed_ms: text(REPLAYED).and_then(|ms| ms.parse().ok()),
    })
}

/// Of the headers of a dead letter those that its record had.
pub fn headers_of_record(headers: &[Header]) -> &[Header] {
    let own = headers.iter().rposition(|header| header.key == GROUP);
    &headers[..own.unwrap_or(headers.len())]
}

/// The record that sends a dead letter to its topic again, with its own key, value, headers and timestamp, and marked.
/// The key decides on the partition.
pub fn replay(origin: &Origin, letter: &Record<'_>, headers: Vec<Header>) -> OutRecord {
    let mut headers: Vec<_> =
        headers.into_iter().filter(|header| !header.key.starts_with(PREFIX) && header.key != REPLAYED_FROM).collect();
    let from = format!("{}/{}", origin.partition, origin.offset);
    headers.push(header(REPLAYED_FROM, from));
    OutRecord {
        topic: Arc::clone(&origin.partition.topic),
        partition: None,
        key: letter.key.map(<[u8]>::to_vec),
        payload: letter.payload.map(<[u8]>::to_vec),
        headers,
        timestamp_ms: origin.timestamp_ms,
    }
}

/// The mark that the letter of this origin was sent to its topic again at `now_ms`. It follows the letter in its `partition`,
/// whose order says which of them is later.
pub fn replayed(origin: &Origin, letter: &Record<'_>, partition: i32, now_ms: i64) -> OutRecord {
    let mut headers = identity(&origin.group, &origin.partition, origin.offset);
    headers.push(header(REPLAYED, now_ms.to_string()));
    OutRecord {
        topic: topics::dead_letter(&origin.partition.topic).into(),
        partition: Some(partition),
        key: letter.key.map(<[u8]>::to_vec),
        payload: None,
        headers,
        timestamp_ms: None,
    }
}

fn identity(group: &str, partition: &TopicPartition, offset: i64) -> Vec<Header> {
    vec![
        header(GROUP, group.into()),
        header(TOPIC, partition.topic.to_string()),
        header(PARTITION, partition.partition.to_string()),
        header(OFFSET, offset.to_string()),
    ]
}

fn header(name: &str, value: String) -> Header {
    Header { key: name.into(), value: Some(value.into_bytes()) }
}

fn encode_rows(rejects: &[RowReject]) -> String {
    let exact = rows_json(rejects, |reject| (reject.reason.code, &*reject.reason.detail));
    if exact.len() <= ROWS_BYTES_MAX {
        return exact;
    }
    let mut first: HashMap<&str, &str> = HashMap::new();
    for reject in rejects {
        first.entry(reject.reason.code).or_insert(&reject.reason.detail);
    }
    rows_json(rejects, |reject| (reject.reason.code, first.get(reject.reason.code).copied().unwrap_or_default()))
}

/// Groups rows by reason, in order of the first row of each.
fn rows_json<'a>(rejects: &'a [RowReject], reason: impl Fn(&'a RowReject) -> (&'a str, &'a str)) -> String {
    let mut groups: Vec<Rows<'_>> = Vec::new();
    let mut known: HashMap<(&str, &str), usize> = HashMap::new();
    for reject in rejects {
        let (code, detail) = reason(reject);
        let index = *known.entry((code, detail)).or_insert_with(|| {
            groups.push(Rows { code: code.into(), detail: shortened(detail).into(), rows: Vec::new() });
            groups.len() - 1
        });
        groups[index].rows.push(reject.row);
    }
    // Strings and numbers always have a JSON form.
    serde_json::to_string(&groups).unwrap_or_default()
}

fn decode_rows(json: &str) -> Vec<RefusedRow> {
    let groups: Vec<Rows<'_>> = serde_json::from_str(json).unwrap_or_default();
    let rows = groups.into_iter().flat_map(|group| {
        let why = Why { code: group.code.into_owned(), detail: group.detail.into_owned() };
        group.rows.into_iter().map(move |row| RefusedRow { row, why: why.clone() })
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|refused| refused.row);
    rows
}

fn shortened(detail: &str) -> &str {
    &detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)]
}

/// Keeps the dead letters of one consumer group in the topics `<topic>.dlq`.
#[derive(Debug)]
pub struct DeadLetterProducer {
    producer: Copier,
    group: String,
}

impl DeadLetterProducer {
    /// Keeps the letters of `group`; does not wait for the brokers.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(client: &ClientConfig, group: impl Into<String>) -> Result<Self, Error> {
        Ok(Self { producer: Copier::new(client)?, group: group.into() })
    }
}

impl DeadLetters for DeadLetterProducer {
    async fn send(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        let records: Vec<_> = letters.iter().map(|letter| encode(letter, &self.group)).collect();
        let results = self.producer.send_all(&records).await;
        let failed = results.into_iter().zip(letters).find_map(|(result, letter)| Some((result.err()?, letter)));
        match failed {
            None => Ok(()),
            Some((Error::Refused(reason), letter)) => {
                // Nothing is dropped: the partition waits until the topic can take it.
                let at = format!("{}/{}", letter.partition, letter.offset);
                let topic = topics::dead_letter(&letter.partition.topic);
                Err(Fault::retry(format!("the dead letter of {at} was refused: {reason}; raise max.message.bytes of {topic}")))
            }
            Some((error, _)) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use mantis_pipeline::Reason;
    use proptest::prelude::*;

    use super::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            partition: TopicPartition::new("mantis.readings", 3),
            offset: 42,
            timestamp_ms: Some(-1_000),
            key: Some(vec![0, 255]),
            payload: Some(vec![0xC3, 0x28, 0]),
            headers: vec![Header { key: "traceparent".into(), value: None }],
            reason: None,
            rows: Vec::new(),
        }
    }

    fn reject(row: u32, code: &'static str, detail: &str) -> RowReject {
        RowReject { row, reason: Reason::new(code, detail.to_owned()) }
    }

    /// Also those of a letter: a record may be somebody's copy of one.
    const HEADER_NAMES: &str = "[a-z]{0,8}|mantis-dlq-(replayed|rows|reason|detail|timestamp|group)";
    const CODES: [&str; 3] = ["not-finite", "time-out-of-range", "conflict"];

    proptest! {
        #[test]
        fn a_dead_letter_comes_back_as_it_went(
            key in proptest::option::of(any::<Vec<u8>>()),
            payload in proptest::option::of(any::<Vec<u8>>()),
            headers in proptest::collection::vec((HEADER_NAMES, proptest::option::of(any::<Vec<u8>>())), 0..4),
            rows in proptest::collection::btree_map(any::<u32>(), (0..CODES.len(), any::<String>()), 0..20),
            whole in proptest::option::of(any::<String>()),
            offset in 0..i64::MAX,
            timestamp_ms in proptest::option::of(any::<i64>()),
        ) {
            let sent = DeadLetter {
                partition: TopicPartition::new("mantis.events", 7),
                offset,
                timestamp_ms,
                key,
                payload,
                headers: headers.into_iter().map(|(key, value)| Header { key, value }).collect(),
                reason: whole.map(|detail| Reason::new("broken-json", detail)),
                rows: rows.into_iter().map(|(row, (code, detail))| reject(row, CODES[code], &detail)).collect(),
            };
            let record = encode(&sent, "mantis-raw");
            prop_assert_eq!(&*record.topic, "mantis.events.dlq");
            prop_assert_eq!((&record.key, &record.payload), (&sent.key, &sent.payload));
            prop_assert_eq!(headers_of_record(&record.headers), &sent.headers[..]);

            let found = origin(&record.headers).unwrap();
            prop_assert_eq!((&*found.group, found.replayed_ms), ("mantis-raw", None));
            prop_assert_eq!((&found.partition, found.offset, found.timestamp_ms), (&sent.partition, offset, timestamp_ms));
            prop_assert_eq!(
                found.reason.as_ref().map(|why| (&*why.code, &*why.detail)),
                sent.reason.as_ref().map(|reason| (reason.code, shortened(&reason.detail)))
            );
            let rows: Vec<_> = found.rows.iter().map(|row| (row.row, &*row.why.code, &*row.why.detail)).collect();
            let expected: Vec<_> =
                sent.rows.iter().map(|reject| (reject.row, reject.reason.code, shortened(&reject.reason.detail))).collect();
            prop_assert_eq!(rows, expected);

            let letter = Record { offset: 1, timestamp_ms: None, key: record.key.as_deref(), payload: record.payload.as_deref() };
            let again = replay(&found, &letter, record.headers.clone());
            prop_assert_eq!(&*again.topic, "mantis.events");
            prop_assert_eq!((&again.key, &again.payload, again.timestamp_ms), (&sent.key, &sent.payload, timestamp_ms));
            let (mark, rest) = again.headers.split_last().unwrap();
            // What the record had of a letter's headers is not sent on: it would say what is no longer true.
            let own: Vec<_> = sent.headers.iter().filter(|header| !header.key.starts_with(PREFIX)).cloned().collect();
            prop_assert_eq!(rest, own);
            let from = format!("mantis.events/7/{offset}");
            prop_assert_eq!(mark, &Header { key: REPLAYED_FROM.into(), value: Some(from.into_bytes()) });
        }
    }

    #[test]
    fn a_record_with_every_row_refused_for_its_own_reason_stays_below_the_limit_of_the_topic() {
        let rows =
            (0..65_536).map(|row| reject(row, CODES[row as usize % 3], &format!("row {row}: {}", "x".repeat(60)))).collect();
        let record = encode(&DeadLetter { rows, ..letter() }, "g");
        let bytes: usize = record.headers.iter().map(|header| header.value.as_ref().map_or(0, Vec::len)).sum();
        assert!(bytes < ROWS_BYTES_MAX, "{bytes} bytes");
        let found = origin(&record.headers).unwrap();
        assert!(found.rows.iter().map(|row| row.row).eq(0..65_536));
        assert_eq!(found.rows[4].why.code, CODES[1]);
    }

    #[test]
    fn the_last_refusal_counts_when_a_dead_letter_was_refused_again() {
        let first = encode(&letter(), "first");
        let again = DeadLetter { partition: TopicPartition::new("mantis.readings.dlq", 0), headers: first.headers, ..letter() };
        let found = origin(&encode(&again, "second").headers).unwrap();
        assert_eq!((&*found.group, &*found.partition.topic), ("second", "mantis.readings.dlq"));
    }

    #[test]
    fn a_record_of_somebody_else_is_no_dead_letter_of_ours() {
        assert_eq!(origin(&[]), None);
        assert_eq!(origin(&[Header { key: GROUP.into(), value: Some(vec![0xFF]) }]), None);
    }
}
