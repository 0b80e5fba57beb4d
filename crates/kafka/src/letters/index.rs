//! What a search has met, collapsed by record and group.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mantis_pipeline::{Record, TopicPartition};

use super::{
    Filter, GROUPS_MAX, Place,
    record::{Refusal, RefusedRecord},
};
use crate::dead_letter::Origin;

/// In which order letters are met, and records found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// From the beginning of the dead-letter topics on.
    #[default]
    OldestFirst,
    /// From their end back.
    NewestFirst,
}

/// The records that a search has found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The records, in the order of the search.
    pub records: Vec<RefusedRecord>,
    /// That order.
    pub order: Order,
    /// Where letters were left out because there are more than the search holds: a search for the oldest from here on finds
    /// them.
    pub more_from: Option<Place>,
}

impl Found {
    /// Where the letters lie.
    pub(super) fn places(&self) -> BTreeMap<TopicPartition, BTreeSet<i64>> {
        let mut places: BTreeMap<TopicPartition, BTreeSet<i64>> = BTreeMap::new();
        for Refusal { place, .. } in self.records.iter().flat_map(|record| &record.refusals) {
            places.entry(place.partition.clone()).or_default().insert(place.offset);
        }
        places
    }
}

/// A letter or a mark, as it was met.
#[derive(Clone, Debug)]
pub(super) struct Met {
    record: Place,
    group: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Letter(Letter),
    /// When the record was sent again, ms since the epoch.
    Mark(i64),
}

#[derive(Clone, Debug)]
struct Letter {
    timestamp_ms: Option<i64>,
    payload_bytes: usize,
    /// `None`: it has not the reason that is asked for.
    refusal: Option<Refusal>,
}

impl Met {
    /// What lies at `place`, if `filter` asks for letters of its record.
    pub(super) fn new(origin: &Origin, place: Place, letter: &Record<'_>, filter: &Filter) -> Option<Self> {
        let record = Place { partition: origin.partition.clone(), offset: origin.offset };
        if !filter.asks_for(&record) {
            return None;
        }
        let what = origin.replayed_ms.map_or_else(
            || {
                let has_reason = filter.reason.as_ref().is_none_or(|code| has_code(origin, code));
                What::Letter(Letter {
                    timestamp_ms: origin.timestamp_ms,
                    payload_bytes: letter.payload.map_or(0, <[u8]>::len),
                    refusal: has_reason.then(|| Refusal::new(origin, place, letter.timestamp_ms)),
                })
            },
            What::Mark,
        );
        Some(Self { record, group: origin.group.clone(), what })
    }
}

fn has_code(origin: &Origin, code: &str) -> bool {
    let rows = origin.rows.iter().map(|refused| &refused.why);
    origin.reason.iter().chain(rows).any(|why| why.code == code)
}

/// The last letter of each record and group, and whether it was replayed.
#[derive(Debug)]
pub(super) struct Index<'a> {
    order: Order,
    filter: &'a Filter,
    letters_max: usize,
    /// Letters that the filter wants, as far as is known when they are met.
    wanted: usize,
    /// Marks, and letters that are held only so that older ones do not count. At most `letters_max`, too: they are no reason
    /// to find less.
    others: usize,
    records: HashMap<Place, Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    group: String,
    letter: Option<Letter>,
    replayed_ms: Option<i64>,
}

impl<'a> Index<'a> {
    pub(super) fn new(order: Order, filter: &'a Filter, letters_max: usize) -> Self {
        Self { order, filter, letters_max, wanted: 0, others: 0, records: HashMap::new() }
    }

    /// Takes note of what was met; false if it is new and there is no room.
    #[must_use]
    pub(super) fn add(&mut self, met: Met) -> bool {
        match self.order {
            Order::OldestFirst => self.add_newer(met),
            Order::NewestFirst => self.add_older(met),
        }
    }

    /// What is met counts before what is known.
    fn add_newer(&mut self, Met { record, group, what }: Met) -> bool {
        if let Some(known) = self.known(&record, &group) {
            match what {
                What::Letter(letter) => known.letter = Some(letter),
                What::Mark(ms) => known.replayed_ms = Some(ms),
            }
            return true;
        }
        // A mark is of a letter that is gone, lies before the search or is none that is wanted.
        let What::Letter(letter @ Letter { refusal: Some(_), .. }) = what else { return true };
        // A record is sent whole for all its groups: were it cut apart by the bound, the rest of it would be sent once more.
        let groups = self.records.get(&record).map_or(0, Vec::len);
        if self.wanted >= self.letters_max && !(1..GROUPS_MAX).contains(&groups) {
            return false;
        }
        self.wanted += 1;
        self.records.entry(record).or_default().push(Known { group, letter: Some(letter), replayed_ms: None });
        true
    }

    /// What is known counts before what is met.
    fn add_older(&mut self, Met { record, group, what }: Met) -> bool {
        let (all, has_room) = (self.filter.all, self.wanted < self.letters_max);
        match (self.known(&record, &group), what) {
            (Some(known), What::Mark(ms)) => {
                known.replayed_ms.get_or_insert(ms);
            }
            (Some(Known { letter: Some(_), .. }), What::Letter(_)) => {}
            // Of a mark.
            (Some(_), What::Letter(_)) if !all => {}
            (Some(known), What::Letter(letter)) => {
                let is_wanted = letter.refusal.is_some();
                if is_wanted && !has_room {
                    return false;
                }
                known.letter = Some(letter);
                self.wanted += usize::from(is_wanted);
            }
            (None, what) => {
                let (letter, replayed_ms) = match what {
                    What::Letter(letter) => (Some(letter), None),
                    // Of a letter that is still to come.
                    What::Mark(ms) => (None, Some(ms)),
                };
                let is_wanted = letter.as_ref().is_some_and(|letter| letter.refusal.is_some());
                let held = if is_wanted { &mut self.wanted } else { &mut self.others };
                if *held >= self.letters_max {
                    return false;
                }
                *held += 1;
                self.records.entry(record).or_default().push(Known { group, letter, replayed_ms });
            }
        }
        true
    }

    fn known(&mut self, record: &Place, group: &str) -> Option<&mut Known> {
        self.records.get_mut(record)?.iter_mut().find(|known| known.group == group)
    }

    /// The records of the letters that the filter wants.
    pub(super) fn found(self, more_from: Option<Place>) -> Found {
        let all = self.filter.all;
        let mut records: Vec<RefusedRecord> =
            self.records.into_iter().filter_map(|(position, known)| record(position, known, all)).collect();
        records.sort_by_cached_key(RefusedRecord::age);
        if self.order == Order::NewestFirst {
            records.reverse();
        }
        Found { records, order: self.order, more_from }
    }
}

fn record(position: Place, known: Vec<Known>, all: bool) -> Option<RefusedRecord> {
    let mut record = RefusedRecord { position, timestamp_ms: None, payload_bytes: 0, refusals: Vec::new() };
    for Known { letter, replayed_ms, .. } in known {
        let Some(Letter { timestamp_ms, payload_bytes, refusal: Some(refusal) }) = letter else { continue };
        if replayed_ms.is_some() && !all {
            continue;
        }
        (record.timestamp_ms, record.payload_bytes) = (timestamp_ms, payload_bytes);
        record.refusals.push(Refusal { replayed_ms, ..refusal });
    }
    record.sort();
    (!record.refusals.is_empty()).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::Why;

    /// Of a record below offset 10 the reason is `broken`, of others `late`.
    fn met(place: i64, offset: i64, group: &str, replayed_ms: Option<i64>, filter: &Filter) -> Option<Met> {
        let origin = Origin {
            group: group.into(),
            partition: TopicPartition::new("mantis.readings", 0),
            offset,
            timestamp_ms: None,
            reason: Some(Why { code: if offset < 10 { "broken" } else { "late" }.into(), detail: String::new() }),
            rows: Vec::new(),
            replayed_ms,
        };
        let letter = Record { offset: place, timestamp_ms: Some(place), key: None, payload: Some(b"{") };
        let place = Place { partition: TopicPartition::new("mantis.readings.dlq", 0), offset: place };
        Met::new(&origin, place, &letter, filter)
    }

    /// Of letters of records 0, 1 (of two groups), 0 and 2, a mark for 1 of one group and a letter of 3, at offsets from 0 on.
    fn found(order: Order, letters_max: usize, filter: &Filter) -> (Vec<(i64, Vec<i64>)>, Option<i64>) {
        let log =
            [(0, "a", None), (1, "a", None), (1, "b", None), (0, "a", None), (2, "a", None), (1, "a", Some(7)), (3, "a", None)];
        found_of(&log, order, letters_max, filter)
    }

    fn found_of(
        log: &[(i64, &str, Option<i64>)],
        order: Order,
        letters_max: usize,
        filter: &Filter,
    ) -> (Vec<(i64, Vec<i64>)>, Option<i64>) {
        let mut log: Vec<_> = (0..).zip(log.iter().copied()).collect();
        if order == Order::NewestFirst {
            log.reverse();
        }
        let mut index = Index::new(order, filter, letters_max);
        let mut left_out = None;
        for (place, (offset, group, replayed_ms)) in log {
            let Some(met) = met(place, offset, group, replayed_ms, filter) else { continue };
            if !index.add(met) {
                left_out.get_or_insert(place);
            }
        }
        let places = |record: &RefusedRecord| record.refusals.iter().map(|refusal| refusal.place.offset).collect();
        let found = index.found(None);
        (found.records.iter().map(|record| (record.position.offset, places(record))).collect(), left_out)
    }

    #[test]
    fn letters_collapse_by_record_and_replayed_ones_are_left_out() {
        let oldest = (vec![(1, vec![2]), (0, vec![3]), (2, vec![4]), (3, vec![6])], None);
        assert_eq!(found(Order::OldestFirst, 100, &Filter::default()), oldest);
        let mut newest = oldest;
        newest.0.reverse();
        assert_eq!(found(Order::NewestFirst, 100, &Filter::default()), newest);
    }

    #[test]
    fn a_record_that_two_groups_refused_is_one_with_both_whichever_was_replayed() {
        let all = Filter { all: true, ..Filter::default() };
        for order in [Order::OldestFirst, Order::NewestFirst] {
            assert!(found(order, 100, &all).0.contains(&(1, vec![2, 1])));
        }
    }

    #[test]
    fn beyond_the_bound_the_oldest_or_the_newest_are_held_and_marks_still_count() {
        let oldest = found(Order::OldestFirst, 3, &Filter::default());
        assert_eq!(oldest, (vec![(1, vec![2]), (0, vec![3])], Some(4)));
        let newest = found(Order::NewestFirst, 3, &Filter::default());
        assert_eq!(newest, (vec![(3, vec![6]), (2, vec![4]), (0, vec![3])], Some(2)), "the mark takes no place of a letter");
    }

    #[test]
    fn the_bound_does_not_cut_a_record_apart_that_several_groups_refused() {
        let oldest = found(Order::OldestFirst, 2, &Filter::default());
        assert_eq!(oldest, (vec![(1, vec![2]), (0, vec![3])], Some(4)), "the third letter is of a record that is known");
        let groups: Vec<String> = (0..100).map(|group| group.to_string()).collect();
        let log: Vec<_> = groups.iter().map(|group| (0, group.as_str(), None)).collect();
        let (records, left_out) = found_of(&log, Order::OldestFirst, 1, &Filter::default());
        assert_eq!((records[0].1.len(), left_out), (GROUPS_MAX, Some(GROUPS_MAX as i64)));
    }

    #[test]
    fn marks_and_letters_of_another_reason_take_no_place_of_those_that_are_wanted() {
        let log = [(0, "a", None), (1, "a", None), (2, "a", None), (11, "a", None), (12, "a", None), (2, "a", Some(7))];
        let broken = Filter { reason: Some("broken".into()), ..Filter::default() };
        let newest = found_of(&log, Order::NewestFirst, 3, &broken);
        assert_eq!(newest, (vec![(1, vec![1]), (0, vec![0])], None));
        let late = Filter { reason: Some("late".into()), ..Filter::default() };
        assert_eq!(found_of(&log, Order::OldestFirst, 2, &late), (vec![(11, vec![3]), (12, vec![4])], None));
        let cut = found_of(&log, Order::NewestFirst, 2, &broken);
        assert_eq!(cut.1, Some(3), "marks and other letters are bounded, too");
    }

    #[test]
    fn a_record_that_is_asked_for_by_position_is_found_beyond_the_bound() {
        let filter = Filter { position: Some("mantis.readings/0/3".into()), ..Filter::default() };
        assert_eq!(found(Order::OldestFirst, 1, &filter), (vec![(3, vec![6])], None));
    }
}
