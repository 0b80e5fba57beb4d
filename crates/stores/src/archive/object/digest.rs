//! What tells the records of two chains apart, though their bytes are not kept.

use crate::archive::columns::Mark;

/// A digest over records in order: of two workers that read the same positions, both come to the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Number of records.
    pub records: u64,
    /// CRC-32C over each record's offset and own CRC.
    pub crc32c: u32,
}

impl Digest {
    /// Adds the next record.
    pub fn add(&mut self, mark: &Mark) {
        self.records += 1;
        let crc = crc32c::crc32c_append(self.crc32c, &mark.offset.to_le_bytes());
        self.crc32c = crc32c::crc32c_append(crc, &mark.crc32c.to_le_bytes());
    }

    /// The digest of `marks`.
    pub fn of(marks: &[Mark]) -> Self {
        let mut digest = Self::default();
        marks.iter().for_each(|mark| digest.add(mark));
        digest
    }
}
