//! How a payload says what it is.

use crate::reject::{self, Refusal};

/// Marker of Avro single-object encoding, version 1.
pub(crate) const SINGLE_OBJECT: [u8; 2] = [0xc3, 0x01];

/// Marker of Confluent's wire format.
const CONFLUENT: u8 = 0;

/// A payload behind its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed<'a> {
    /// Avro binary, its writer's schema named by CRC-64-AVRO fingerprint.
    SingleObject { fingerprint: u64, body: &'a [u8] },
    /// Avro binary, its writer's schema named by a registry's id.
    Confluent { id: u32, body: &'a [u8] },
    /// A JSON object or array.
    Json(&'a [u8]),
}

impl<'a> Framed<'a> {
    /// Tells the framings apart by the first bytes. They cannot be mistaken for each other: JSON begins with white
    /// space, `{` or `[`.
    pub(crate) fn of(payload: &'a [u8]) -> Result<Self, Refusal> {
        match payload {
            [0xc3, 0x01, rest @ ..] => match rest.split_first_chunk() {
                Some((fingerprint, body)) => Ok(Self::SingleObject { fingerprint: u64::from_le_bytes(*fingerprint), body }),
                None => Err(&reject::FRAMING_SHORT),
            },
            [CONFLUENT, rest @ ..] => match rest.split_first_chunk() {
                Some((id, body)) => Ok(Self::Confluent { id: u32::from_be_bytes(*id), body }),
                None => Err(&reject::FRAMING_SHORT),
            },
            [] => Err(&reject::EMPTY),
            _ => match payload.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
                Some(b'{' | b'[') => Ok(Self::Json(payload)),
                _ => Err(&reject::UNKNOWN_FRAMING),
            },
        }
    }
}
