//! How far a partition is done.

/// The contiguous end of what is done in a partition, and of it what the group knows.
///
/// A hole is never jumped: a span that begins above the watermark does not count, and the group's offset stays
/// where everything before it is done. The road ends the spans of a partition in order, so this never happens; if it did,
/// records would be read twice and none lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watermark {
    done: i64,
    committed: Option<i64>,
    // Commits of this ownership never go below it.
    floor: Option<i64>,
}

impl Watermark {
    /// For a partition read from `start`, of which the group knows `committed`.
    pub(crate) fn new(start: i64, committed: Option<i64>) -> Self {
        Self { done: start, committed, floor: None }
    }

    /// The offset up to which everything ended.
    pub(crate) fn done(&self) -> i64 {
        self.done
    }

    /// `from..next` ended. False if it does not follow on what is done, which then stays where it was.
    pub(crate) fn ended(&mut self, from: i64, next: i64) -> bool {
        if from > self.done {
            return false;
        }
        self.done = self.done.max(next);
        true
    }

    /// Reading goes on at `at`, because the store says that it ends there.
    pub(crate) fn moved(&mut self, at: i64) {
        self.done = at;
    }

    /// What to commit, if the group does not know it yet: what is done, as far as it is durable.
    ///
    /// The first commit of an ownership may be below the group's offset: the store was restored from an older copy and
    /// its ledger says so. After that commits only go up.
    pub(crate) fn to_commit(&self, durable: i64) -> Option<i64> {
        let offset = durable.min(self.done);
        let news = self.committed != Some(offset) && self.floor.is_none_or(|floor| offset >= floor);
        news.then_some(offset)
    }

    /// `offset` is sent to the group. Whatever the answer is, the group may have it.
    pub(crate) fn committing(&mut self, offset: i64) {
        self.floor = Some(offset);
    }

    /// The group knows `offset`.
    pub(crate) fn committed(&mut self, offset: i64) {
        self.committed = Some(offset);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: i64 = i64::MAX;

    /// data-loss bug #2
    #[test]
    fn an_offset_behind_one_that_failed_is_not_committed() {
        let mut watermark = Watermark::new(10, Some(10));
        assert!(!watermark.ended(11, 12), "10..11 has not ended");
        assert_eq!(watermark.to_commit(ALL), None);
        assert!(watermark.ended(10, 11));
        assert_eq!(watermark.to_commit(ALL), Some(11));
    }

    /// data-loss bug #12
    #[test]
    fn a_new_ownership_starts_from_its_own_position_and_not_from_an_older_watermark() {
        let mut before = Watermark::new(0, None);
        before.ended(0, 50);
        before.committing(50);
        before.committed(50);
        let after = Watermark::new(30, Some(30));
        assert_eq!(after.to_commit(ALL), None);
    }

    #[test]
    fn a_ledger_ahead_of_the_commit_is_committed_and_one_behind_it_takes_the_commit_back_once() {
        assert_eq!(Watermark::new(20, Some(10)).to_commit(ALL), Some(20));
        let mut restored = Watermark::new(5, Some(10));
        assert_eq!(restored.to_commit(ALL), Some(5));
        restored.committing(5);
        restored.committed(5);
        restored.ended(5, 8);
        restored.committing(8);
        restored.moved(3);
        assert_eq!(restored.to_commit(ALL), None, "the group may have 8, and while it is owned a commit never goes back");
        restored.ended(3, 8);
        assert_eq!(restored.to_commit(ALL), Some(8), "the answer to the commit of 8 never came");
    }

    #[test]
    fn what_a_sink_holds_and_has_not_made_durable_is_not_committed() {
        let mut watermark = Watermark::new(10, Some(10));
        watermark.ended(10, 30);
        assert_eq!(watermark.to_commit(10), None);
        assert_eq!(watermark.to_commit(20), Some(20));
        assert_eq!(watermark.to_commit(99), Some(30), "a sink cannot know more than has ended");
    }

    proptest! {
        /// data-loss bug #3
        #[test]
        fn spans_that_end_in_any_order_never_commit_past_one_that_has_not(order in Just((0..12_i64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut watermark = Watermark::new(0, Some(0));
            let mut ended = std::collections::BTreeSet::new();
            for from in order {
                if watermark.ended(from, from + 1) {
                    ended.insert(from);
                }
                let done = watermark.done();
                prop_assert!((0..done).all(|offset| ended.contains(&offset)));
            }
        }
    }
}
