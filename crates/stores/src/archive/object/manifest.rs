//! What an object says of itself, and the seal that covers all of its bytes.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Digest, ObjectError};
use crate::archive::columns::Kind;

/// The file's metadata that holds the manifest as JSON.
pub(super) const METADATA: &str = "mantis.archive";
/// The format that this version writes.
pub(super) const FORMAT: u32 = 1;
/// Ranges of [`Manifest::gaps`]. One torn hole is one range; more than a few come of transactions, a marker each.
pub(super) const GAPS_MAX: usize = 64;

/// Ends the manifest: the file's size and CRC-32C, both of a fixed width, so that they can be filled in when the file is done.
const SEAL_KEY: &str = "\"seal\":\"";
const SEAL_LENGTH: usize = 29;
/// Stands in the file while its checksum is computed.
pub(super) const UNSEALED: &str = "00000000000000000000:00000000";
/// A Parquet file ends with the length of its footer and this.
const MAGIC: &[u8] = b"PAR1";

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format.
    pub format: u32,
    /// The id of the Kafka cluster.
    pub cluster_id: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First position.
    pub start: i64,
    /// The position behind the last one: where the next object starts.
    pub end: i64,
    /// What the rows are: the name of a [`Kind`].
    pub kind: String,
    /// Version of that kind's columns.
    pub columns_version: u32,
    /// Records of the log in `[start, end)`; positions may be without one.
    pub records: u64,
    /// The ranges inside `[start, end)` that hold no record: the 64 longest. [`missing`](Self::missing) counts all positions.
    /// Objects of earlier versions name none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Range<i64>>,
    /// Decoded rows.
    pub rows: u64,
    /// Records that were kept as they are, whole.
    pub undecoded: u64,
    /// Earliest source time of the decoded rows, ns since the epoch.
    pub time_min_ns: Option<i64>,
    /// Latest source time of the decoded rows, ns since the epoch.
    pub time_max_ns: Option<i64>,
    /// CRC-32C over offset, timestamp, key and value of the records.
    pub records_crc32c: u32,
    /// The file's size in bytes and its CRC-32C with [`UNSEALED`] in this place. Last, so that it is found.
    pub(super) seal: String,
}

impl Manifest {
    /// The kind of its rows.
    ///
    /// # Errors
    /// This version knows no such kind, or not this version of its columns.
    pub fn kind(&self) -> Result<Kind, ObjectError> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == self.kind && self.columns_version <= kind.version());
        kind.ok_or(ObjectError::Newer(self.columns_version))
    }

    /// The digest of its records.
    pub fn digest(&self) -> Digest {
        Digest { records: self.records, crc32c: self.records_crc32c }
    }

    /// The positions that hold no record.
    pub fn missing(&self) -> u64 {
        self.end.saturating_sub(self.start).max(0).unsigned_abs().saturating_sub(self.records)
    }

    pub(super) fn json(&self) -> Result<String, ObjectError> {
        serde_json::to_string(self).map_err(ObjectError::defect)
    }

    pub(super) fn parse(json: &str) -> Result<Self, ObjectError> {
        /// Read first: a newer manifest may have other fields.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_str(json).map_err(ObjectError::damaged)?;
        match format <= FORMAT {
            true => serde_json::from_str(json).map_err(ObjectError::damaged),
            false => Err(ObjectError::Newer(format)),
        }
    }
}

/// Fills the seal of a file that is complete but for it.
pub(super) fn seal(file: &mut [u8]) -> Result<(), ObjectError> {
    let seal = format!("{:020}:{:08x}", file.len(), crc32c::crc32c(file));
    let at = place_of_seal(file).ok_or_else(|| ObjectError::defect("its manifest has no place for a seal"))?;
    let place = file.get_mut(at..at + SEAL_LENGTH).filter(|place| place == &UNSEALED.as_bytes());
    let place = place.ok_or_else(|| ObjectError::defect("its manifest is sealed already"))?;
    place.copy_from_slice(seal.as_bytes());
    Ok(())
}

/// Checks size and checksum.
pub(super) fn check_seal(file: &[u8]) -> Result<(), ObjectError> {
    let at = place_of_seal(file).ok_or_else(|| ObjectError::damaged("it has no sealed manifest at its end"))?;
    let (front, rest) = file.split_at(at);
    let (seal, back) = rest.split_at(SEAL_LENGTH);
    let crc = [front, UNSEALED.as_bytes(), back].into_iter().fold(0, crc32c::crc32c_append);
    let expected = format!("{:020}:{crc:08x}", file.len());
    match seal == expected.as_bytes() {
        true => Ok(()),
        false => Err(ObjectError::Damaged(format!("its seal says {}, its bytes say {expected}", String::from_utf8_lossy(seal)))),
    }
}

/// Where the seal lies: the last one in the footer.
fn place_of_seal(file: &[u8]) -> Option<usize> {
    let place = place_of_footer(file)?;
    let key = file.get(place.clone())?.windows(SEAL_KEY.len()).rposition(|window| window == SEAL_KEY.as_bytes())?;
    let at = place.start + key + SEAL_KEY.len();
    (at + SEAL_LENGTH <= place.end).then_some(at)
}

/// Where the footer lies, behind everything that holds rows; the end of a file is enough if the footer is in it.
pub(super) fn place_of_footer(file: &[u8]) -> Option<Range<usize>> {
    let rest = file.strip_suffix(MAGIC)?;
    let (rest, length) = rest.split_last_chunk::<4>()?;
    let start = rest.len().checked_sub(u32::from_le_bytes(*length) as usize)?;
    Some(start..rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = r#"{"format":1,"cluster_id":"c","topic":"t","partition":0,"start":10,"end":20,"kind":"readings",
        "columns_version":1,"records":7,"rows":7,"undecoded":0,"time_min_ns":null,"time_max_ns":null,"records_crc32c":5,"seal":""}"#;

    #[test]
    fn a_manifest_of_an_earlier_version_names_no_gaps_and_still_counts_what_is_missing() {
        let manifest = Manifest::parse(EARLIER).unwrap();
        assert_eq!((manifest.gaps.len(), manifest.missing()), (0, 3));
    }

    #[test]
    fn a_manifest_without_gaps_is_written_as_ever() {
        let manifest = Manifest { records: 10, ..Manifest::parse(EARLIER).unwrap() };
        assert!(!manifest.json().unwrap().contains("gaps"));
        let torn = Manifest { gaps: vec![12..14, 17..18], ..Manifest::parse(EARLIER).unwrap() };
        assert_eq!(Manifest::parse(&torn.json().unwrap()).unwrap(), torn);
    }
}
