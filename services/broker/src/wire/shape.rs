//! The shape of every request that is served, and a walk that checks bytes against it.
//!
//! The decoder of `kafka-protocol` allocates room for as many elements as an array claims to have, up to gigabytes for a
//! claim of four bytes. So before it runs, this walk follows the same grammar and checks that every length and count is
//! covered by bytes that are there, and that elements are few enough. It allocates nothing. The grammar: Kafka's protocol
//! guide, "Protocol Primitive Types", and the message schemas of each request.

use kafka_protocol::messages::ApiKey;

/// Most array elements in one request, over all its arrays.
const ELEMENTS_MAX: usize = 200_000;

/// One field of a structure, present from version `since` to `until`.
#[derive(Debug)]
pub(crate) struct Field {
    since: i16,
    until: i16,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string: two bytes of length, or a varint in flexible versions.
    Text,
    /// Bytes: four bytes of length, or a varint in flexible versions.
    Bytes,
    /// An array of scalars.
    Scalars(&'static Kind),
    /// An array of structures.
    Structs(&'static [Field]),
}

/// A request that is served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) key: ApiKey,
    pub(crate) min: i16,
    pub(crate) max: i16,
    /// First version with compact lengths and tagged fields.
    flexible: i16,
    fields: &'static [Field],
}

const fn field(kind: Kind) -> Field {
    Field { since: 0, until: i16::MAX, kind }
}

const fn since(since: i16, kind: Kind) -> Field {
    Field { since, until: i16::MAX, kind }
}

const fn until(until: i16, kind: Kind) -> Field {
    Field { since: 0, until, kind }
}

const fn between(since: i16, until: i16, kind: Kind) -> Field {
    Field { since, until, kind }
}

const BOOL: Kind = Kind::Fixed(1);
const I8: Kind = Kind::Fixed(1);
const I16: Kind = Kind::Fixed(2);
const I32: Kind = Kind::Fixed(4);
const I64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);
const TEXT: Kind = Kind::Text;
const BYTES: Kind = Kind::Bytes;
const INTS: Kind = Kind::Scalars(&I32);
const TEXTS: Kind = Kind::Scalars(&TEXT);

const fn served(key: ApiKey, min: i16, max: i16, flexible: i16, fields: &'static [Field]) -> Served {
    Served { key, min, max, flexible, fields }
}

const NEVER: i16 = i16::MAX;

/// Everything that is served. What is absent here is absent from ApiVersions.
///
/// Fetch ends at 16: 17 brings a tagged field inside of an array's elements, whose claimed size the decoder ignores.
pub(crate) const SERVED: &[Served] = &[
    served(
        ApiKey::Produce,
        3,
        12,
        9,
        &[
            field(TEXT),
            field(I16),
            field(I32),
            field(Kind::Structs(&[field(TEXT), field(Kind::Structs(&[field(I32), field(BYTES)]))])),
        ],
    ),
    served(
        ApiKey::Fetch,
        4,
        16,
        12,
        &[
            until(14, I32),
            field(I32),
            field(I32),
            field(I32),
            field(I8),
            since(7, I32),
            since(7, I32),
            field(Kind::Structs(&[
                until(12, TEXT),
                since(13, UUID),
                field(Kind::Structs(&[field(I32), since(9, I32), field(I64), since(12, I32), since(5, I64), field(I32)])),
            ])),
            since(7, Kind::Structs(&[until(12, TEXT), since(13, UUID), field(INTS)])),
            since(11, TEXT),
        ],
    ),
    served(
        ApiKey::ListOffsets,
        1,
        7,
        6,
        &[
            field(I32),
            since(2, I8),
            field(Kind::Structs(&[field(TEXT), field(Kind::Structs(&[field(I32), since(4, I32), field(I64)]))])),
        ],
    ),
    served(
        ApiKey::Metadata,
        0,
        12,
        9,
        &[field(Kind::Structs(&[since(10, UUID), field(TEXT)])), since(4, BOOL), between(8, 10, BOOL), since(8, BOOL)],
    ),
    served(
        ApiKey::OffsetCommit,
        2,
        8,
        8,
        &[
            field(TEXT),
            field(I32),
            field(TEXT),
            since(7, TEXT),
            until(4, I64),
            field(Kind::Structs(&[field(TEXT), field(Kind::Structs(&[field(I32), field(I64), since(6, I32), field(TEXT)]))])),
        ],
    ),
    served(
        ApiKey::OffsetFetch,
        1,
        8,
        6,
        &[
            until(7, TEXT),
            until(7, Kind::Structs(&[field(TEXT), field(INTS)])),
            since(8, Kind::Structs(&[field(TEXT), field(Kind::Structs(&[field(TEXT), field(INTS)]))])),
            since(7, BOOL),
        ],
    ),
    served(ApiKey::FindCoordinator, 0, 4, 3, &[until(3, TEXT), since(1, I8), since(4, TEXTS)]),
    served(
        ApiKey::JoinGroup,
        0,
        9,
        6,
        &[
            field(TEXT),
            field(I32),
            since(1, I32),
            field(TEXT),
            since(5, TEXT),
            field(TEXT),
            field(Kind::Structs(&[field(TEXT), field(BYTES)])),
            since(8, TEXT),
        ],
    ),
    served(ApiKey::Heartbeat, 0, 4, 4, &[field(TEXT), field(I32), field(TEXT), since(3, TEXT)]),
    served(
        ApiKey::LeaveGroup,
        0,
        5,
        4,
        &[field(TEXT), until(2, TEXT), since(3, Kind::Structs(&[field(TEXT), field(TEXT), since(5, TEXT)]))],
    ),
    served(
        ApiKey::SyncGroup,
        0,
        5,
        4,
        &[
            field(TEXT),
            field(I32),
            field(TEXT),
            since(3, TEXT),
            since(5, TEXT),
            since(5, TEXT),
            field(Kind::Structs(&[field(TEXT), field(BYTES)])),
        ],
    ),
    served(ApiKey::DescribeGroups, 0, 6, 5, &[field(TEXTS), since(3, BOOL)]),
    served(ApiKey::ListGroups, 0, 5, 3, &[since(4, TEXTS), since(5, TEXTS)]),
    served(ApiKey::ApiVersions, 0, 4, 3, &[since(3, TEXT), since(3, TEXT)]),
    served(
        ApiKey::CreateTopics,
        2,
        7,
        5,
        &[
            field(Kind::Structs(&[
                field(TEXT),
                field(I32),
                field(I16),
                field(Kind::Structs(&[field(I32), field(INTS)])),
                field(Kind::Structs(&[field(TEXT), field(TEXT)])),
            ])),
            field(I32),
            field(BOOL),
        ],
    ),
    served(ApiKey::DeleteTopics, 1, 6, 4, &[since(6, Kind::Structs(&[field(TEXT), field(UUID)])), until(5, TEXTS), field(I32)]),
    served(
        ApiKey::DeleteRecords,
        0,
        2,
        2,
        &[field(Kind::Structs(&[field(TEXT), field(Kind::Structs(&[field(I32), field(I64)]))])), field(I32)],
    ),
    served(ApiKey::InitProducerId, 0, 4, 2, &[field(TEXT), field(I32), since(3, I64), since(3, I16)]),
    served(
        ApiKey::OffsetForLeaderEpoch,
        2,
        4,
        4,
        &[since(3, I32), field(Kind::Structs(&[field(TEXT), field(Kind::Structs(&[field(I32), field(I32), field(I32)]))]))],
    ),
    served(
        ApiKey::DescribeConfigs,
        1,
        4,
        4,
        &[field(Kind::Structs(&[field(I8), field(TEXT), field(TEXTS)])), field(BOOL), since(3, BOOL)],
    ),
    served(
        ApiKey::AlterConfigs,
        0,
        2,
        2,
        &[field(Kind::Structs(&[field(I8), field(TEXT), field(Kind::Structs(&[field(TEXT), field(TEXT)]))])), field(BOOL)],
    ),
    served(
        ApiKey::CreatePartitions,
        0,
        3,
        2,
        &[field(Kind::Structs(&[field(TEXT), field(I32), field(Kind::Structs(&[field(INTS)]))])), field(I32), field(BOOL)],
    ),
    served(ApiKey::DeleteGroups, 0, 2, 2, &[field(TEXTS)]),
    served(
        ApiKey::IncrementalAlterConfigs,
        0,
        1,
        1,
        &[
            field(Kind::Structs(&[field(I8), field(TEXT), field(Kind::Structs(&[field(TEXT), field(I8), field(TEXT)]))])),
            field(BOOL),
        ],
    ),
    served(
        ApiKey::OffsetDelete,
        0,
        0,
        NEVER,
        &[field(TEXT), field(Kind::Structs(&[field(TEXT), field(Kind::Structs(&[field(I32)]))]))],
    ),
    served(ApiKey::DescribeCluster, 0, 2, 0, &[field(BOOL), since(1, I8), since(2, BOOL)]),
];

impl Served {
    /// The request of that number, if it is served.
    pub(crate) fn named(key: i16) -> Option<&'static Served> {
        SERVED.iter().find(|served| served.key as i16 == key)
    }

    /// Whether `body` (what follows the request's header) can be decoded without allocating beyond what is there.
    pub(crate) fn covers(&self, version: i16, body: &[u8]) -> bool {
        let flexible = version >= self.flexible;
        Walk { rest: body, version, flexible, elements: 0 }.structure(self.fields).is_some()
    }
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &[Field]) -> Option<()> {
        for field in fields {
            if (field.since..=field.until).contains(&self.version) {
                self.value(&field.kind)?;
            }
        }
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let bytes = self.varint()?;
                self.skip(bytes as usize)?;
            }
        }
        Some(())
    }

    fn value(&mut self, kind: &Kind) -> Option<()> {
        match kind {
            Kind::Fixed(bytes) => self.skip(*bytes),
            Kind::Text => {
                let bytes = if self.flexible { self.compact()? } else { length(i16::from_be_bytes(self.take()?).into())? };
                self.skip(bytes)
            }
            Kind::Bytes => {
                let bytes = self.count()?;
                self.skip(bytes)
            }
            Kind::Scalars(element) => {
                for _ in 0..self.elements()? {
                    self.value(element)?;
                }
                Some(())
            }
            Kind::Structs(fields) => {
                for _ in 0..self.elements()? {
                    self.structure(fields)?;
                }
                Some(())
            }
        }
    }

    /// The count of an array: every element takes a byte at least.
    fn elements(&mut self) -> Option<usize> {
        let count = self.count()?;
        self.elements = self.elements.checked_add(count)?;
        (count <= self.rest.len() && self.elements <= ELEMENTS_MAX).then_some(count)
    }

    fn count(&mut self) -> Option<usize> {
        if self.flexible { self.compact() } else { length(i32::from_be_bytes(self.take()?)) }
    }

    /// A compact length: one more than the length, 0 for null.
    fn compact(&mut self) -> Option<usize> {
        self.varint().map(|length| length.saturating_sub(1) as usize)
    }

    /// As the decoder reads it: five bytes at most, what does not fit is shifted out.
    fn varint(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in 0..5 {
            let [byte] = self.take()?;
            value |= u32::from(byte & 0x7f) << (shift * 7);
            if byte < 0x80 {
                break;
            }
        }
        Some(value)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }
}

/// A length of -1 says null, which takes no bytes.
fn length(claimed: i32) -> Option<usize> {
    if claimed == -1 { Some(0) } else { usize::try_from(claimed).ok() }
}
