//! Another worker's object where records that were read here were to go.

use mantis_pipeline::{Fault, TopicPartition};

use crate::archive::{
    columns::Mark,
    gaps,
    object::{Digest, Manifest},
};

/// An object in the way, and what was read of its positions.
///
/// Two workers may read the same positions and not find the same records, if the log lost some of them in between.
#[derive(Debug)]
pub(super) struct Met {
    key: String,
    theirs: Manifest,
    /// Of the records that were read here, those where the object has some too.
    read: Digest,
    /// Records that were read here where the object has none.
    lost: u64,
}

impl Met {
    pub(super) fn new(key: &str, theirs: Manifest) -> Self {
        Self { key: key.to_owned(), theirs, read: Digest::default(), lost: 0 }
    }

    /// Where the object ends.
    pub(super) fn end(&self) -> i64 {
        self.theirs.end
    }

    /// Compares the next records that were read; those behind the object are left out.
    pub(super) fn compare(&mut self, marks: &[Mark]) {
        for mark in marks.iter().take_while(|mark| mark.offset < self.theirs.end) {
            match gaps::contains(&self.theirs.gaps, mark.offset) {
                true => self.lost += 1,
                false => self.read.add(mark),
            }
        }
    }

    /// Whether the chain may go on behind the object, when all of its positions were read.
    pub(super) fn verdict(&self, partition: &TopicPartition) -> Result<(), Fault> {
        let (Self { key, read, lost, .. }, theirs) = (self, self.theirs.digest());
        if *read != theirs {
            // Records that the log lost before they were read here are no fault of the object: it is all that is left of them.
            if read.records >= theirs.records {
                return Err(other_records(key, partition));
            }
            let (records, read) = (theirs.records, read.records);
            tracing::warn!(key, records, read, "the archived object has records that the log has no more: it cannot be compared");
        }
        if *lost > 0 {
            tracing::error!(
                key,
                lost,
                "another worker archived these positions when the log had lost records that were read here; objects are never changed, so \
                 they are not archived: `mantis archive verify` names them"
            );
        }
        Ok(())
    }
}

fn other_records(key: &str, partition: &TopicPartition) -> Fault {
    Fault::Fatal {
        reason: format!(
            "the archive's object {key} does not hold the records that {partition} has in the log at its positions: another cluster or \
             a topic of the same name wrote it, or the topic was made again. Nothing more of {partition} is archived; find out which of \
             them is right, and move the object away if it is wrong"
        ),
    }
}
