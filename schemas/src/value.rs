//! A record's fields between its encoding and the checks: the same for Avro and JSON.

/// What was read of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Value<'a> {
    /// The field is not there.
    #[default]
    Absent,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A time beyond what 64-bit nanoseconds can say (the years 1677 to 2262).
    Beyond,
    /// A time whose text is not one.
    BadTime,
    /// Text, not yet known to be UTF-8.
    Text(&'a [u8]),
    /// JSON text between its quotes, with escapes still in it.
    Escaped(&'a [u8]),
    Bytes(&'a [u8]),
    /// A JSON array or object that begins at this byte of the payload.
    Nested(usize),
}

/// The fields of a record, by slot.
pub(crate) type Slots<'a, const N: usize> = [Value<'a>; N];

/// The slots: one number per meaning, so that every encoding and version of a record ends in the same place.
pub(crate) mod slot {
    pub(crate) const ASSET: usize = 0;
    pub(crate) const SENSOR: usize = 1;
    /// The reading's time, the frame's start, the columns' base.
    pub(crate) const TIME: usize = 2;
    /// The value, the column of values, the samples, the list of readings.
    pub(crate) const VALUE: usize = 3;
    pub(crate) const QUALITY: usize = 4;
    pub(crate) const DELTAS: usize = 5;
    pub(crate) const RATE: usize = 5;
    pub(crate) const FORMAT: usize = 6;
    pub(crate) const SCALE: usize = 7;
    /// Number of slots of everything but events.
    pub(crate) const COUNT: usize = 8;

    pub(crate) const SEQ: usize = 3;
    /// Which body an event has: an index into [`crate::plan::BODIES`], or its name.
    pub(crate) const BODY: usize = 4;
    pub(crate) const STATE: usize = 5;
    pub(crate) const UNTIL: usize = 6;
    pub(crate) const REASON: usize = 7;
    pub(crate) const TOTAL: usize = 8;
    pub(crate) const SCRAP: usize = 9;
    pub(crate) const REWORK: usize = 10;
    pub(crate) const COUNTER: usize = 11;
    pub(crate) const SINCE: usize = 12;
    pub(crate) const UNIT_TIME: usize = 13;
    pub(crate) const PRODUCT: usize = 14;
    pub(crate) const ORDER: usize = 15;
    pub(crate) const CODE: usize = 16;
    pub(crate) const ACTIVE: usize = 17;
    pub(crate) const SEVERITY: usize = 18;
    pub(crate) const CATEGORY: usize = 19;
    pub(crate) const TEXT: usize = 20;
    pub(crate) const PHASE: usize = 21;
    pub(crate) const QUANTITY: usize = 22;
    /// Number of slots of an event.
    pub(crate) const EVENT_COUNT: usize = 23;

    pub(crate) const WINDOW: usize = 3;
    pub(crate) const END: usize = 4;
    pub(crate) const VERSION: usize = 5;
    pub(crate) const SAMPLES: usize = 6;
    pub(crate) const UNCERTAIN: usize = 7;
    pub(crate) const BAD: usize = 8;
    pub(crate) const COVERAGE: usize = 9;
    pub(crate) const EXACT: usize = 10;
    pub(crate) const PROVISIONAL: usize = 11;
    pub(crate) const REVISION: usize = 12;
    pub(crate) const PROCESSED: usize = 13;
    pub(crate) const EXTRAS: usize = 14;
    /// The first figure's; the others follow in order of [`crate::Figure`].
    pub(crate) const FIGURES: usize = 15;
    /// Number of slots of a feature.
    pub(crate) const FEATURE_COUNT: usize = FIGURES + crate::Figure::ALL.len();
}
