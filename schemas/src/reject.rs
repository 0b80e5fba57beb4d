//! Why something was refused.

use std::{borrow::Cow, fmt};

/// Why a record or a row was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Stable, kebab-case, from the small set listed in the schemas' README: a metric label.
    pub code: &'static str,
    /// What happened, to what, and what to do.
    pub detail: Cow<'static, str>,
}

/// A refused row of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowReject {
    /// The row's index in the record as its sender wrote it, from 0, refused rows counted too.
    pub row: u32,
    /// Why. The sentences about rows are constant, so that they can be grouped and cost no memory.
    pub reject: Reject,
}

impl Reject {
    /// A reject from its code and sentence.
    pub(crate) fn new(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// A refusal whose sentence is known beforehand: a pointer, so that results stay small on the hot path.
pub(crate) type Refusal = &'static Reject;

macro_rules! refusals {
    ($($name:ident = $code:literal, $detail:literal;)*) => {
        $(pub(crate) static $name: Reject = Reject { code: $code, detail: Cow::Borrowed($detail) };)*
    };
}

refusals! {
    EMPTY = "empty-payload", "the record has no value: a reading, frame or event needs one";
    UNKNOWN_FRAMING = "unknown-framing",
        "the payload is neither Avro (C3 01 or 00 first) nor a JSON object or array: publish one of these";
    FRAMING_SHORT = "broken-avro", "the payload ends before its schema's fingerprint or id does: send it again whole";

    NOT_READINGS = "wrong-kind", "the record is not a reading, readings or a column batch: publish it to its own topic";
    NOT_FRAME = "wrong-kind", "the record is not a frame: publish it to its own topic";
    NOT_EVENT = "wrong-kind", "the record is not an event: publish it to its own topic";
    NOT_FEATURES = "wrong-kind", "the record is not one of features, which are Avro: publish it to its own topic";
    UNKNOWN_EVENT = "unknown-event", "this version does not know the event's kind: update it and replay the dead letter";
    TOO_MANY_ROWS = "too-many-rows", "the record has more rows than a record may have: send smaller batches";

    AVRO_SHORT = "broken-avro", "a field reaches beyond the end of the payload: check that the sender wrote it with the schema it names";
    AVRO_TRAILING = "broken-avro", "bytes follow the end of the record: check that the sender wrote it with the schema it names";
    AVRO_VARINT = "broken-avro", "a number is larger than its type: check that the sender wrote it with the schema it names";
    AVRO_BOOLEAN = "broken-avro", "a boolean is neither 0 nor 1: check that the sender wrote it with the schema it names";
    AVRO_BRANCH = "broken-avro", "a union names a branch that it does not have: check that the sender wrote it with the schema it names";
    AVRO_SYMBOL = "broken-avro", "an enum names a symbol that it does not have: check that the sender wrote it with the schema it names";
    AVRO_BLOCK = "broken-avro", "a block's size is not that of its items: check that the sender wrote it with the schema it names";
    AVRO_UTF8 = "broken-avro", "a string is not UTF-8: check that the sender wrote it with the schema it names";
    AVRO_NESTING = "broken-avro", "an unknown field nests deeper than 64 levels: send it flatter or leave it out";
    AVRO_SKIPS = "broken-avro", "unknown fields hold more than 2,097,152 values: leave them out";

    JSON_SYNTAX = "broken-json", "the payload is not valid JSON (NaN and Infinity are not JSON either): mend the sender";
    JSON_SHORT = "broken-json", "the JSON ends too early: send it again whole";
    JSON_TRAILING = "broken-json", "something follows the JSON value: send one value per record";
    JSON_UTF8 = "broken-json", "the payload is not UTF-8: mend the sender's encoding";
    JSON_NESTING = "broken-json", "arrays or objects nest deeper than 64 levels: send it flatter";
    JSON_DUPLICATE = "broken-json", "a field is given twice (`time` and `time_ns` are one field): send it once";

    NO_ASSET = "missing-field", "there is no asset, neither in the payload nor as the record's key: send one";
    NO_SENSOR = "missing-field", "the field `sensor` is missing or null: send it";
    NO_TIME = "missing-field", "the time is missing or null: send `time_ns` (`base_time_ns`, `start_ns`) or, in JSON, its RFC 3339 form";
    NO_VALUE = "missing-field", "the value is missing or null: send a number, or no reading";
    NO_FIELD = "missing-field", "a required field is missing or null: send all that the schema asks for";
    WRONG_TYPE = "wrong-type", "a field has a type that it cannot have: send what the schema asks for";
    BAD_NAME = "bad-name", "asset or sensor is not 1 to 256 bytes of UTF-8 without control characters and line breaks: rename it";
    TOO_MANY_SERIES = "too-many-series", "there are more series than this process may hold: raise series_max, or look for names that vary";
    BAD_TIME = "bad-time", "the time is not an RFC 3339 date and time with zone and at most 9 digits of fraction: send it so";
    TIME_OUT_OF_RANGE = "time-out-of-range",
        "the time is outside of the accepted range: mend the sender's clock, or widen the range and replay the dead letter";
    NOT_FINITE = "not-finite", "the value is NaN or infinite: no store can hold it; send none instead";
    BAD_QUALITY = "bad-quality", "the quality is not good, uncertain or bad (0, 1 or 2 in columns): send one of these";

    COLUMN_LENGTHS = "bad-columns", "the columns do not have the same number of rows: send one time, value and quality (or no quality) per row";
    FRAME_RATE = "bad-frame", "the sample rate is not finite and above 0: send it in Hz";
    FRAME_FORMAT = "bad-frame", "the format is not f64, f32 or i16: send one of these";
    FRAME_SCALE = "bad-frame", "the scale is not finite and other than 0 (i16), makes values infinite, or is not 1 (f64, f32): mend the sender";
    FRAME_SAMPLES = "bad-frame", "there is no sample, or not a whole number of them: send samples of the stated format";
    BAD_FEATURE = "bad-feature", "a field of the feature is outside of what the schema allows: features are written by the features worker";
    BAD_EVENT = "bad-event", "a field of the event is outside of what the schema allows: send what it asks for";
}
