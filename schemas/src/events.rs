//! Events out of their encodings.

use std::{borrow::Cow, ops::RangeInclusive};

use crate::{
    Event, EventBody, OrderPhase, State, avro, check,
    json::{self, Key},
    plan::{BODIES, Kind, Plan},
    reject::{self, Refusal},
    value::{Slots, Value, slot},
};

/// Longest text of an event that is not a name.
pub const EVENT_TEXT_BYTES_MAX: usize = 4096;

const KEYS: &[Key] = &[
    Key { name: "asset", slot: slot::ASSET, text_time: false },
    Key { name: "time_ns", slot: slot::TIME, text_time: false },
    Key { name: "time", slot: slot::TIME, text_time: true },
    Key { name: "seq", slot: slot::SEQ, text_time: false },
    Key { name: "kind", slot: slot::BODY, text_time: false },
    Key { name: "state", slot: slot::STATE, text_time: false },
    Key { name: "until_ns", slot: slot::UNTIL, text_time: false },
    Key { name: "until", slot: slot::UNTIL, text_time: true },
    Key { name: "reason", slot: slot::REASON, text_time: false },
    Key { name: "total", slot: slot::TOTAL, text_time: false },
    Key { name: "scrap", slot: slot::SCRAP, text_time: false },
    Key { name: "rework", slot: slot::REWORK, text_time: false },
    Key { name: "counter", slot: slot::COUNTER, text_time: false },
    Key { name: "since_ns", slot: slot::SINCE, text_time: false },
    Key { name: "since", slot: slot::SINCE, text_time: true },
    Key { name: "unit_time_s", slot: slot::UNIT_TIME, text_time: false },
    Key { name: "product", slot: slot::PRODUCT, text_time: false },
    Key { name: "order", slot: slot::ORDER, text_time: false },
    Key { name: "code", slot: slot::CODE, text_time: false },
    Key { name: "active", slot: slot::ACTIVE, text_time: false },
    Key { name: "severity", slot: slot::SEVERITY, text_time: false },
    Key { name: "category", slot: slot::CATEGORY, text_time: false },
    Key { name: "text", slot: slot::TEXT, text_time: false },
    Key { name: "phase", slot: slot::PHASE, text_time: false },
    Key { name: "quantity", slot: slot::QUANTITY, text_time: false },
];

type EventSlots<'a> = Slots<'a, { slot::EVENT_COUNT }>;

/// Reads Avro binary.
pub(crate) fn avro<'a>(
    plan: &'a Plan,
    body: &'a [u8],
    key: Option<&'a [u8]>,
    accepted: &RangeInclusive<i64>,
) -> Result<Event<'a>, Refusal> {
    if plan.kind != Kind::Event {
        return Err(&reject::NOT_EVENT);
    }
    let mut slots: EventSlots<'a> = Default::default();
    avro::record(body, &plan.schema, &plan.steps, &mut slots)?;
    event(&slots, key, accepted)
}

/// Reads JSON.
pub(crate) fn json<'a>(payload: &'a [u8], key: Option<&'a [u8]>, accepted: &RangeInclusive<i64>) -> Result<Event<'a>, Refusal> {
    let mut cursor = json::Cursor::new(payload)?;
    if cursor.peek() != Some(b'{') {
        return Err(&reject::NOT_EVENT);
    }
    let mut slots: EventSlots<'a> = Default::default();
    cursor.object(KEYS, &mut slots)?;
    cursor.end()?;
    slots[slot::BODY] = match json::text(slots[slot::BODY]) {
        Some(kind) => match BODIES.iter().position(|(_, name)| name.as_bytes() == &*kind) {
            Some(index) => Value::Int(index as i64),
            None => return Err(&reject::UNKNOWN_EVENT),
        },
        None => return Err(&reject::NOT_EVENT),
    };
    event(&slots, key, accepted)
}

fn event<'a>(slots: &EventSlots<'a>, key: Option<&'a [u8]>, accepted: &RangeInclusive<i64>) -> Result<Event<'a>, Refusal> {
    let asset = check::asset(slots[slot::ASSET], key)?;
    check::valid(&asset)?;
    let body = match slots[slot::BODY] {
        Value::Int(0) => machine_state(slots),
        Value::Int(1) => production_count(slots),
        Value::Int(2) => alarm(slots),
        Value::Int(3) => work_order(slots),
        _ => Err(&reject::NOT_EVENT),
    }?;
    Ok(Event { asset: utf8(asset)?, time_ns: check::time(slots[slot::TIME], accepted)?, seq: integer(slots[slot::SEQ])?, body })
}

fn machine_state<'a>(slots: &EventSlots<'a>) -> Result<EventBody<'a>, Refusal> {
    let state = word(slots[slot::STATE], &State::ALL, State::Unknown)?;
    Ok(EventBody::MachineState { state, until_ns: time(slots[slot::UNTIL])?, reason: text(slots[slot::REASON])? })
}

fn production_count<'a>(slots: &EventSlots<'a>) -> Result<EventBody<'a>, Refusal> {
    let count = |slot: usize| Ok(integer(slots[slot])?.unwrap_or(0)).and_then(not_negative);
    Ok(EventBody::ProductionCount {
        total: not_negative(required(integer(slots[slot::TOTAL])?)?)?,
        scrap: count(slot::SCRAP)?,
        rework: count(slot::REWORK)?,
        counter: boolean(slots[slot::COUNTER])?.unwrap_or(false),
        since_ns: time(slots[slot::SINCE])?,
        unit_time_s: unit_time(slots[slot::UNIT_TIME])?,
        product: text(slots[slot::PRODUCT])?,
        order: text(slots[slot::ORDER])?,
    })
}

fn alarm<'a>(slots: &EventSlots<'a>) -> Result<EventBody<'a>, Refusal> {
    let severity = integer(slots[slot::SEVERITY])?;
    if severity.is_some_and(|severity| !(1..=1000).contains(&severity)) {
        return Err(&reject::BAD_EVENT);
    }
    Ok(EventBody::Alarm {
        code: required(text(slots[slot::CODE])?)?,
        active: boolean(slots[slot::ACTIVE])?.unwrap_or(true),
        severity: severity.map(|severity| severity as i32),
        category: text(slots[slot::CATEGORY])?,
        text: text(slots[slot::TEXT])?,
    })
}

fn work_order<'a>(slots: &EventSlots<'a>) -> Result<EventBody<'a>, Refusal> {
    Ok(EventBody::WorkOrder {
        order: required(text(slots[slot::ORDER])?)?,
        phase: word(slots[slot::PHASE], &OrderPhase::ALL, OrderPhase::Unknown)?,
        product: text(slots[slot::PRODUCT])?,
        quantity: integer(slots[slot::QUANTITY])?.map(not_negative).transpose()?,
        unit_time_s: unit_time(slots[slot::UNIT_TIME])?,
    })
}

fn required<T>(value: Option<T>) -> Result<T, Refusal> {
    value.ok_or(&reject::NO_FIELD)
}

fn not_negative(count: i64) -> Result<i64, Refusal> {
    if count >= 0 { Ok(count) } else { Err(&reject::BAD_EVENT) }
}

/// A word of a set; words that this version does not know mean `unknown`.
fn word<T: Copy>(value: Value<'_>, known: &[(T, &str)], unknown: T) -> Result<T, Refusal> {
    match value {
        Value::Text(_) | Value::Escaped(_) => {
            let word = json::text(value).ok_or(&reject::BAD_EVENT)?;
            Ok(known.iter().find(|(_, name)| name.as_bytes() == &*word).map_or(unknown, |(value, _)| *value))
        }
        Value::Absent | Value::Null => Err(&reject::NO_FIELD),
        _ => Err(&reject::WRONG_TYPE),
    }
}

fn integer(value: Value<'_>) -> Result<Option<i64>, Refusal> {
    match value {
        Value::Absent | Value::Null => Ok(None),
        Value::Int(value) => Ok(Some(value)),
        _ => Err(&reject::WRONG_TYPE),
    }
}

/// A second time of an event. Not held to the accepted range: an end may be planned, a count may have begun long ago.
fn time(value: Value<'_>) -> Result<Option<i64>, Refusal> {
    match value {
        Value::Absent | Value::Null => Ok(None),
        value => check::time(value, &(i64::MIN..=i64::MAX)).map(Some),
    }
}

fn boolean(value: Value<'_>) -> Result<Option<bool>, Refusal> {
    match value {
        Value::Absent | Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(value)),
        _ => Err(&reject::WRONG_TYPE),
    }
}

fn unit_time(value: Value<'_>) -> Result<Option<f64>, Refusal> {
    match value {
        Value::Absent | Value::Null => Ok(None),
        value => check::finite(value).ok().filter(|seconds| *seconds > 0.0).map(Some).ok_or(&reject::BAD_EVENT),
    }
}

fn text(value: Value<'_>) -> Result<Option<Cow<'_, str>>, Refusal> {
    match value {
        Value::Absent | Value::Null => Ok(None),
        Value::Text(_) | Value::Escaped(_) => {
            let text = utf8(json::text(value).ok_or(&reject::BAD_EVENT)?)?;
            if text.len() <= EVENT_TEXT_BYTES_MAX { Ok(Some(text)) } else { Err(&reject::BAD_EVENT) }
        }
        _ => Err(&reject::WRONG_TYPE),
    }
}

fn utf8(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, Refusal> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| &reject::BAD_EVENT),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| &reject::BAD_EVENT),
    }
}
