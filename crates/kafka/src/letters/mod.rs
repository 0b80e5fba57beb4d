//! Finds dead letters, collapses them by the record that was refused, reads them where they lie, and sends the records to
//! their topics again. What is held of a letter is small and bounded in number; the letters themselves pass by one batch at a
//! time.

mod index;
mod log;
mod place;
mod record;
mod replay;
mod search;
mod whole;

use self::log::DeadLetterLog;
pub use self::{
    index::{Found, Order},
    place::{NoPlace, Place},
    record::{Reason, Refusal, RefusedRecord},
    replay::{Sent, replay},
    search::{newest, oldest},
    whole::{Whole, WholeRefusal, whole},
};

/// Letters that one search holds, and as many marks and letters of other reasons: some 500 bytes of each letter and 100 of each
/// of the others, so about 60 MB. At the worst each letter has 16 reasons with sentences of 200 characters, some 4 KB: 400 MB,
/// and up to four times that where no character is ASCII. Who searches for several at once lets one search run at a time.
pub const LETTERS_MAX: usize = 100_000;

/// Groups whose letters of one record are shown, and held beyond the bound on letters; there is one group per worker.
const GROUPS_MAX: usize = 16;

/// Which letters are meant; without any bound all that were not replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of records of this source topic.
    pub topic: Option<String>,
    /// Only those with this code among their reasons.
    pub reason: Option<String>,
    /// Only those of the record at this position, `topic/partition/offset`.
    pub position: Option<String>,
    /// Also those that were replayed before.
    pub all: bool,
    /// Only letters that lie here or behind it in the dead-letter topics. A search for the newest takes no notice of it.
    pub from: Option<Place>,
}

impl Filter {
    /// Whether letters of records of this topic are meant at all.
    fn asks_for_topic(&self, topic: &str) -> bool {
        let is_of = |position: &String| position.parse().is_ok_and(|place: Place| *place.partition.topic == *topic);
        self.topic.as_ref().is_none_or(|asked| asked == topic) && self.position.as_ref().is_none_or(is_of)
    }

    /// Whether letters of the record at this position are meant at all.
    fn asks_for(&self, record: &Place) -> bool {
        self.topic.as_ref().is_none_or(|topic| **topic == *record.partition.topic)
            && self.position.as_ref().is_none_or(|asked| *asked == record.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_asked_for_by_position_is_looked_for_in_the_letters_of_its_topic_alone() {
        let asked = |topic: Option<&str>, position: Option<&str>| {
            let filter = Filter { topic: topic.map(Into::into), position: position.map(Into::into), ..Filter::default() };
            ["mantis.readings", "mantis.events"].map(|topic| filter.asks_for_topic(topic))
        };
        assert_eq!(asked(None, None), [true, true]);
        assert_eq!(asked(Some("mantis.events"), None), [false, true]);
        assert_eq!(asked(None, Some("mantis.readings/0/7")), [true, false]);
        assert_eq!(asked(Some("mantis.events"), Some("mantis.readings/0/7")), [false, false]);
        assert_eq!(asked(None, Some("mantis.readings")), [false, false], "no position of any record");
    }
}
