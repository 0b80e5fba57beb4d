//! Compiles a writer's schema into the steps that read its records into our slots.
//!
//! A writer's field goes to the slot whose name it has, or that one of its aliases has; every other field is skipped by its
//! type. So a later version with more fields is readable, and so is a foreign schema whose fields are given our names as
//! aliases.

use crate::{
    Figure,
    schema::{Field, Logical, Record, Schema, Type, TypeId},
    value::slot,
};

/// How to read the records of one schema.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) schema: Schema,
    pub(crate) steps: Steps,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reading,
    Readings,
    ReadingColumns,
    Frame,
    Event,
    Features,
}

/// What to do with each field of a record, in the writer's order.
pub(crate) type Steps = Box<[Step]>;

/// Per branch of the union: the index into [`BODIES`] and the steps.
pub(crate) type Bodies = Box<[Option<(i64, Steps)>]>;

#[derive(Debug)]
pub(crate) enum Step {
    Read(usize, Read),
    Skip(TypeId),
    /// The list of readings or features. They are read after the fields around them, since the asset may stand behind them.
    Rows {
        array: TypeId,
        row: Steps,
        last: bool,
    },
    /// An event's body, a union; a branch that is `None` is not known to us.
    Body(Bodies),
}

/// How to read one value.
#[derive(Debug)]
pub(crate) enum Read {
    Null,
    Boolean,
    Int,
    Long,
    /// A long that counts so many nanoseconds.
    Time {
        unit_ns: i64,
    },
    Float,
    Double,
    Text,
    Bytes,
    Fixed(usize),
    Symbol(Box<[Box<str>]>),
    Union(Box<[Read]>),
}

/// A field of ours.
#[derive(Clone, Copy)]
struct Slot {
    name: &'static str,
    slot: usize,
    takes: Takes,
    required: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Takes {
    Text,
    Time,
    Integer,
    Number,
    Boolean,
    Bytes,
    /// A word of a set, as an enum or a string; a writer's enum may hold others, and they mean `otherwise`.
    Word {
        known: &'static [&'static str],
        otherwise: Option<&'static str>,
    },
}

const QUALITY: Takes = Takes::Word { known: &["good", "uncertain", "bad"], otherwise: Some("uncertain") };
const STATE: Takes = Takes::Word {
    known: &["running", "setup", "idle", "microstop", "failure", "planned_down", "no_shift", "unknown"],
    otherwise: Some("unknown"),
};
const PHASE: Takes = Takes::Word { known: &["started", "interrupted", "finished", "unknown"], otherwise: Some("unknown") };
const FORMAT: Takes = Takes::Word { known: &["f64", "f32", "i16"], otherwise: None };

const fn required(name: &'static str, slot: usize, takes: Takes) -> Slot {
    Slot { name, slot, takes, required: true }
}

const fn optional(name: &'static str, slot: usize, takes: Takes) -> Slot {
    Slot { name, slot, takes, required: false }
}

const READING: &[Slot] = &[
    required("asset", slot::ASSET, Takes::Text),
    required("sensor", slot::SENSOR, Takes::Text),
    required("time_ns", slot::TIME, Takes::Time),
    required("value", slot::VALUE, Takes::Number),
    optional("quality", slot::QUALITY, QUALITY),
];
const READINGS: &[Slot] = &[required("asset", slot::ASSET, Takes::Text)];
const READING_COLUMNS: &[Slot] = &[
    required("asset", slot::ASSET, Takes::Text),
    required("sensor", slot::SENSOR, Takes::Text),
    required("base_time_ns", slot::TIME, Takes::Time),
    required("time_deltas_ns", slot::DELTAS, Takes::Bytes),
    required("values", slot::VALUE, Takes::Bytes),
    optional("quality", slot::QUALITY, Takes::Bytes),
];
const FRAME: &[Slot] = &[
    required("asset", slot::ASSET, Takes::Text),
    required("sensor", slot::SENSOR, Takes::Text),
    required("start_ns", slot::TIME, Takes::Time),
    required("sample_rate_hz", slot::RATE, Takes::Number),
    required("format", slot::FORMAT, FORMAT),
    optional("scale", slot::SCALE, Takes::Number),
    required("samples", slot::VALUE, Takes::Bytes),
    optional("quality", slot::QUALITY, QUALITY),
];
const EVENT: &[Slot] = &[
    required("asset", slot::ASSET, Takes::Text),
    required("time_ns", slot::TIME, Takes::Time),
    optional("seq", slot::SEQ, Takes::Integer),
];

/// The bodies of events: record name in Avro, `kind` in JSON.
pub(crate) const BODIES: [(&str, &str); 4] =
    [("MachineState", "machine_state"), ("ProductionCount", "production_count"), ("Alarm", "alarm"), ("WorkOrder", "work_order")];

const BODY_SLOTS: [&[Slot]; BODIES.len()] = [
    &[
        required("state", slot::STATE, STATE),
        optional("until_ns", slot::UNTIL, Takes::Time),
        optional("reason", slot::REASON, Takes::Text),
    ],
    &[
        required("total", slot::TOTAL, Takes::Integer),
        optional("scrap", slot::SCRAP, Takes::Integer),
        optional("rework", slot::REWORK, Takes::Integer),
        optional("counter", slot::COUNTER, Takes::Boolean),
        optional("since_ns", slot::SINCE, Takes::Time),
        optional("unit_time_s", slot::UNIT_TIME, Takes::Number),
        optional("product", slot::PRODUCT, Takes::Text),
        optional("order", slot::ORDER, Takes::Text),
    ],
    &[
        required("code", slot::CODE, Takes::Text),
        optional("active", slot::ACTIVE, Takes::Boolean),
        optional("severity", slot::SEVERITY, Takes::Integer),
        optional("category", slot::CATEGORY, Takes::Text),
        optional("text", slot::TEXT, Takes::Text),
    ],
    &[
        required("order", slot::ORDER, Takes::Text),
        required("phase", slot::PHASE, PHASE),
        optional("product", slot::PRODUCT, Takes::Text),
        optional("quantity", slot::QUANTITY, Takes::Integer),
        optional("unit_time_s", slot::UNIT_TIME, Takes::Number),
    ],
];

/// A row of a record of features; the asset stands around the rows.
const FEATURE: &[Slot] = &[
    required("sensor", slot::SENSOR, Takes::Text),
    required("window_ns", slot::WINDOW, Takes::Integer),
    required("start_ns", slot::TIME, Takes::Time),
    required("end_ns", slot::END, Takes::Time),
    required("version", slot::VERSION, Takes::Integer),
    required("count", slot::SAMPLES, Takes::Integer),
    required("uncertain", slot::UNCERTAIN, Takes::Integer),
    required("bad", slot::BAD, Takes::Integer),
    optional("coverage", slot::COVERAGE, Takes::Number),
    required("exact", slot::EXACT, Takes::Boolean),
    required("provisional", slot::PROVISIONAL, Takes::Boolean),
    required("revision", slot::REVISION, Takes::Integer),
    required("processed_ms", slot::PROCESSED, Takes::Integer),
    optional("extras", slot::EXTRAS, Takes::Text),
];

const ROWS: &str = "readings";
const FEATURE_ROWS: &str = "features";
const BODY: &str = "body";

impl Plan {
    /// Compiles the schema in `avsc`.
    ///
    /// # Errors
    /// A sentence that says why its records cannot be read.
    pub(crate) fn compile(avsc: &str) -> Result<Self, String> {
        let schema = Schema::parse(avsc)?;
        let Type::Record(record) = schema.of(schema.root) else {
            return Err("it is not a record".into());
        };
        let has = |name| record.fields.iter().any(|field| is(field, name));
        let (kind, slots) = if has(ROWS) {
            (Kind::Readings, READINGS)
        } else if has(FEATURE_ROWS) {
            (Kind::Features, READINGS)
        } else if has("time_deltas_ns") {
            (Kind::ReadingColumns, READING_COLUMNS)
        } else if has("samples") {
            (Kind::Frame, FRAME)
        } else if has(BODY) {
            (Kind::Event, EVENT)
        } else if has("value") {
            (Kind::Reading, READING)
        } else {
            return Err(format!(
                "the record `{}` is no reading, frame, event or feature: none of its fields is named or aliased `value`, `readings`, \
                 `time_deltas_ns`, `samples`, `body` or `features`",
                record.name
            ));
        };
        let steps = steps(&schema, record, slots, kind)?;
        Ok(Self { kind, schema, steps })
    }
}

fn steps(schema: &Schema, record: &Record, slots: &[Slot], kind: Kind) -> Result<Steps, String> {
    let mut taken: Vec<&str> = Vec::new();
    let mut steps = Vec::with_capacity(record.fields.len());
    for (index, field) in record.fields.iter().enumerate() {
        let step = if kind == Kind::Readings && is(field, ROWS) {
            let last = index + 1 == record.fields.len();
            // The asset stands around the rows; a row may have its own.
            let mut slots = READING.to_vec();
            slots.iter_mut().filter(|slot| slot.slot == slot::ASSET).for_each(|slot| slot.required = false);
            (ROWS, Step::Rows { array: field.of, row: row(schema, record, field, &slots)?, last })
        } else if kind == Kind::Features && is(field, FEATURE_ROWS) {
            let last = index + 1 == record.fields.len();
            let figure = |figure: Figure| optional(figure.name(), slot::FIGURES + figure as usize, Takes::Number);
            let slots: Vec<_> = FEATURE.iter().copied().chain(Figure::ALL.map(figure)).collect();
            (FEATURE_ROWS, Step::Rows { array: field.of, row: row(schema, record, field, &slots)?, last })
        } else if kind == Kind::Event && is(field, BODY) {
            (BODY, Step::Body(bodies(schema, record, field)?))
        } else if let Some(slot) = slots.iter().find(|slot| is(field, slot.name)) {
            let read = read(schema, field.of, slot.takes)
                .map_err(|wrong| format!("the field `{}` of `{}` {wrong}", field.name, record.name))?;
            (slot.name, Step::Read(slot.slot, read))
        } else {
            steps.push(Step::Skip(field.of));
            continue;
        };
        if taken.contains(&step.0) {
            return Err(format!("two fields of `{}` are named or aliased `{}`", record.name, step.0));
        }
        taken.push(step.0);
        steps.push(step.1);
    }
    match slots.iter().find(|slot| slot.required && !taken.contains(&slot.name)) {
        None => Ok(steps.into()),
        Some(slot) => Err(format!(
            "no field of `{}` is named or aliased `{}`: give the field that holds it this alias",
            record.name, slot.name
        )),
    }
}

fn row(schema: &Schema, record: &Record, field: &Field, slots: &[Slot]) -> Result<Steps, String> {
    match schema.of(field.of) {
        Type::Array(item) => match schema.of(*item) {
            Type::Record(item) => steps(schema, item, slots, Kind::Reading),
            _ => Err(format!("the field `{}` of `{}` is not an array of records", field.name, record.name)),
        },
        _ => Err(format!("the field `{}` of `{}` is not an array", field.name, record.name)),
    }
}

fn bodies(schema: &Schema, record: &Record, field: &Field) -> Result<Bodies, String> {
    let Type::Union(branches) = schema.of(field.of) else {
        return Err(format!("the field `{}` of `{}` is not a union of records", field.name, record.name));
    };
    branches
        .iter()
        .map(|branch| {
            let Type::Record(body) = schema.of(*branch) else { return Ok(None) };
            let name = body.name.rsplit('.').next().unwrap_or_default();
            let Some((index, slots)) =
                BODIES.iter().zip(BODY_SLOTS).enumerate().find(|(_, ((known, _), _))| *known == name).map(|(i, (_, s))| (i, s))
            else {
                return Ok(None);
            };
            Ok(Some((index as i64, steps(schema, body, slots, Kind::Reading)?)))
        })
        .collect()
}

fn is(field: &Field, name: &str) -> bool {
    *field.name == *name || field.aliases.iter().any(|alias| **alias == *name)
}

fn read(schema: &Schema, id: TypeId, takes: Takes) -> Result<Read, String> {
    match (schema.of(id), takes) {
        (Type::Null, _) => Ok(Read::Null),
        (Type::Union(branches), _) => {
            branches.iter().map(|branch| read(schema, *branch, takes)).collect::<Result<_, _>>().map(Read::Union)
        }
        (Type::Boolean, Takes::Boolean) => Ok(Read::Boolean),
        (Type::Long(Logical::None), Takes::Time) => Ok(Read::Time { unit_ns: 1 }),
        (Type::Long(Logical::Timestamp { unit_ns }), Takes::Time) => Ok(Read::Time { unit_ns: *unit_ns }),
        (_, Takes::Time) => Err("is not a time: a long of ns since the epoch, or one whose logicalType is timestamp-millis, \
                                 timestamp-micros or timestamp-nanos"
            .into()),
        (Type::Int(Logical::None), Takes::Integer | Takes::Number) => Ok(Read::Int),
        (Type::Long(Logical::None), Takes::Integer | Takes::Number) => Ok(Read::Long),
        (Type::Float, Takes::Number) => Ok(Read::Float),
        (Type::Double, Takes::Number) => Ok(Read::Double),
        (Type::String, Takes::Text | Takes::Word { .. }) => Ok(Read::Text),
        (Type::Bytes(Logical::None), Takes::Text) => Ok(Read::Text),
        (Type::Bytes(Logical::None), Takes::Bytes) => Ok(Read::Bytes),
        (Type::Fixed(size, Logical::None), Takes::Bytes) => Ok(Read::Fixed(*size)),
        (Type::Enum(symbols), Takes::Text) => Ok(Read::Symbol(symbols.clone())),
        (Type::Enum(symbols), Takes::Word { known, otherwise }) => {
            let word = |symbol: &str| {
                let lower = symbol.to_ascii_lowercase();
                if known.contains(&lower.as_str()) { lower.into() } else { otherwise.unwrap_or(symbol).into() }
            };
            Ok(Read::Symbol(symbols.iter().map(|symbol| word(symbol)).collect()))
        }
        (_, takes) => Err(format!("has a type that does not hold {}", takes.name())),
    }
}

impl Takes {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text (string, bytes or enum)",
            Self::Time => "a time",
            Self::Integer => "a whole number (int or long without logicalType)",
            Self::Number => "a number (int, long, float or double without logicalType)",
            Self::Boolean => "a boolean",
            Self::Bytes => "bytes (bytes or fixed)",
            Self::Word { .. } => "a word (enum or string)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known;

    #[test]
    fn each_of_our_own_schemas_compiles_to_its_kind() {
        let kinds: Vec<Kind> = known::all().map(|schema| Plan::compile(schema.avsc).unwrap().kind).collect();
        assert_eq!(kinds, [Kind::Reading, Kind::Readings, Kind::ReadingColumns, Kind::Frame, Kind::Event, Kind::Features]);
    }

    #[test]
    fn a_schema_that_cannot_give_what_is_required_is_refused_with_a_reason() {
        let reading = |time: &str, more: &str| {
            format!(
                r#"{{"type":"record","name":"R","fields":[{{"name":"asset","type":"string"}},{{"name":"value","type":"double"}},
                {{"name":"time_ns","type":{time}}}{more}]}}"#
            )
        };
        let sensor = r#",{"name":"sensor","type":"string"}"#;
        assert!(Plan::compile(&reading(r#""long""#, sensor)).is_ok());
        for (avsc, reason) in [
            (reading(r#""long""#, ""), "no field of `R` is named or aliased `sensor`"),
            (reading(r#""int""#, sensor), "the field `time_ns` of `R` is not a time"),
            (reading(r#"{"type":"long","logicalType":"local-timestamp-micros"}"#, sensor), "is not a time"),
            (
                reading(r#""long""#, &format!(r#"{sensor},{{"name":"tag","aliases":["sensor"],"type":"string"}}"#)),
                "two fields of `R`",
            ),
            (reading(r#""long""#, &format!(r#"{sensor},{{"name":"quality","type":"double"}}"#)), "does not hold a word"),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"x","type":"int"}]}"#.into(),
                "is no reading, frame, event or feature",
            ),
            (r#"{"type":"record","name":"R","fields":[{"name":"readings","type":"int"}]}"#.into(), "is not an array"),
            (r#"{"type":"record","name":"R","fields":[{"name":"body","type":"int"}]}"#.into(), "is not a union"),
            (r#""string""#.into(), "it is not a record"),
        ] {
            let refused = Plan::compile(&avsc).unwrap_err();
            assert!(refused.contains(reason), "{avsc}: {refused}");
        }
    }
}
