//! What is held of refused records: enough to list them, and bounded for each letter.

use std::cmp::Reverse;

use super::Place;
use crate::dead_letter::{Origin, Why};

/// Characters that are held of the sentence of a reason; the letter has all of it.
const DETAIL_CHARS_MAX: usize = 200;
/// Reasons that are held of a letter, which has one for each code; the letter has all of them.
const REASONS_MAX: usize = 16;

/// A record that one group refused, or several: whatever their number, it is one record to look at and to send again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRecord {
    /// The record's own position.
    pub position: Place,
    /// Its timestamp in ms since the epoch, where it had one.
    pub timestamp_ms: Option<i64>,
    /// Size of its payload.
    pub payload_bytes: usize,
    /// Who refused it and why, the newest letter first. At least one.
    pub refusals: Vec<Refusal>,
}

impl RefusedRecord {
    /// The codes of all reasons, each once.
    pub fn codes(&self) -> Vec<&str> {
        let mut codes: Vec<&str> =
            self.refusals.iter().flat_map(|refusal| &refusal.reasons).map(|reason| reason.code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// When its newest letter was written, ms since the epoch.
    pub fn written_ms(&self) -> Option<i64> {
        self.refusals.first().and_then(|refusal| refusal.written_ms)
    }

    /// Brings the refusals into order.
    pub(super) fn sort(&mut self) {
        self.refusals.sort_by_cached_key(|refusal| Reverse((refusal.written_ms, refusal.place.clone())));
    }

    /// Orders records by their newest letters.
    pub(super) fn age(&self) -> Option<(Option<i64>, Place)> {
        self.refusals.first().map(|refusal| (refusal.written_ms, refusal.place.clone()))
    }
}

/// The refusal of a record by one group, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The group.
    pub group: String,
    /// Why.
    pub reasons: Vec<Reason>,
    /// Where its letter lies.
    pub place: Place,
    /// When that was written, ms since the epoch.
    pub written_ms: Option<i64>,
    /// When the record was sent to its topic again for this letter, ms since the epoch.
    pub replayed_ms: Option<i64>,
}

impl Refusal {
    /// What `origin` says, of a letter that lies at `place`.
    pub fn new(origin: &Origin, place: Place, written_ms: Option<i64>) -> Self {
        let mut reasons: Vec<Reason> = origin.reason.iter().map(|why| Reason::new(why, None)).collect();
        for refused in &origin.rows {
            let known = reasons.iter_mut().find(|reason| reason.rows.is_some() && reason.code == refused.why.code);
            if let Some(rows) = known.and_then(|reason| reason.rows.as_mut()) {
                *rows += 1;
            } else if reasons.len() < REASONS_MAX {
                reasons.push(Reason::new(&refused.why, Some(1)));
            }
        }
        Self { group: origin.group.clone(), reasons, place, written_ms, replayed_ms: None }
    }
}

/// A reason of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The stable code.
    pub code: String,
    /// The sentence, shortened; of several rows that of the first.
    pub detail: String,
    /// How many rows were refused for it; `None`: the whole record.
    pub rows: Option<usize>,
}

impl Reason {
    fn new(why: &Why, rows: Option<usize>) -> Self {
        let detail = match why.detail.char_indices().nth(DETAIL_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &why.detail[..end]),
            None => why.detail.clone(),
        };
        Self { code: why.code.clone(), detail, rows }
    }
}

#[cfg(test)]
mod tests {
    use mantis_pipeline::TopicPartition;

    use super::*;
    use crate::dead_letter::RefusedRow;

    #[test]
    fn what_is_held_of_a_letter_names_each_code_once_and_is_bounded() {
        let why = |code: String| Why { code, detail: "ä".repeat(1_000) };
        let codes = ["late".to_owned(), "nan".to_owned(), "late".to_owned()].into_iter();
        let codes = codes.chain((0..100).map(|code| format!("code-{code}")));
        let origin = Origin {
            group: "g".into(),
            partition: TopicPartition::new("mantis.readings", 0),
            offset: 1,
            timestamp_ms: None,
            reason: None,
            rows: (0..).zip(codes).map(|(row, code)| RefusedRow { row, why: why(code) }).collect(),
            replayed_ms: None,
        };
        let place = Place { partition: TopicPartition::new("mantis.readings.dlq", 0), offset: 9 };
        let refusal = Refusal::new(&origin, place, Some(5));
        assert_eq!(refusal.reasons.len(), REASONS_MAX);
        let first: Vec<_> = refusal.reasons.iter().take(2).map(|reason| (&*reason.code, reason.rows)).collect();
        assert_eq!(first, [("late", Some(2)), ("nan", Some(1))]);
        assert!(refusal.reasons.iter().all(|reason| reason.detail.chars().count() == DETAIL_CHARS_MAX + 1));
    }
}
