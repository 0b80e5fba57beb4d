//! Features out of Avro.

use crate::{
    Feature, FeatureColumns, Figure, RowReject, SeriesInterner, avro, check,
    plan::{Kind, Plan},
    reject::{self, Refusal},
    value::{Slots, Value, slot},
};

type FeatureSlots<'a> = Slots<'a, { slot::FEATURE_COUNT }>;

/// Writes the rows of one record.
pub(crate) struct FeatureWriter<'a> {
    pub(crate) interner: &'a mut SeriesInterner,
    pub(crate) rows_max: u32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) into: &'a mut FeatureColumns,
    pub(crate) rejects: &'a mut Vec<RowReject>,
}

impl FeatureWriter<'_> {
    /// Reads Avro binary.
    pub(crate) fn avro(self, plan: &Plan, body: &[u8]) -> Result<(), Refusal> {
        if plan.kind != Kind::Features {
            return Err(&reject::NOT_FEATURES);
        }
        let mut outer: FeatureSlots<'_> = [Value::Absent; slot::FEATURE_COUNT];
        let Some(rows) = avro::record(body, &plan.schema, &plan.steps, &mut outer)? else { return Ok(()) };
        let mut row = 0;
        rows.each(&outer, |slots| {
            if row >= self.rows_max {
                return Err(&reject::TOO_MANY_ROWS);
            }
            let series = check::series(self.interner, slots[slot::ASSET], slots[slot::SENSOR], self.key);
            match series.and_then(|series| Ok((series, feature(slots)?))) {
                Ok((series, feature)) => self.into.push(series, feature),
                Err(refusal) => self.rejects.push(RowReject { row, reject: refusal.clone() }),
            }
            row += 1;
            Ok(())
        })
    }
}

fn feature(slots: &FeatureSlots<'_>) -> Result<Feature, Refusal> {
    let mut feature = Feature {
        window_ns: whole(slots[slot::WINDOW])?,
        start_ns: whole(slots[slot::TIME])?,
        end_ns: whole(slots[slot::END])?,
        version: i32::try_from(whole(slots[slot::VERSION])?).map_err(|_| &reject::BAD_FEATURE)?,
        count: whole(slots[slot::SAMPLES])?,
        uncertain: whole(slots[slot::UNCERTAIN])?,
        bad: whole(slots[slot::BAD])?,
        coverage: number(slots[slot::COVERAGE])?,
        exact: boolean(slots[slot::EXACT])?,
        provisional: boolean(slots[slot::PROVISIONAL])?,
        revision: whole(slots[slot::REVISION])?,
        processed_ms: whole(slots[slot::PROCESSED])?,
        extras: text(slots[slot::EXTRAS])?.into(),
        ..Feature::default()
    };
    for figure in Figure::ALL {
        feature.figures.set(figure, number(slots[slot::FIGURES + figure as usize])?);
    }
    let window_fits = feature.window_ns == 0
        || feature.start_ns.checked_add(feature.window_ns) == Some(feature.end_ns)
            && feature.start_ns.rem_euclid(feature.window_ns) == 0;
    let counts = [feature.window_ns, feature.count, feature.uncertain, feature.bad];
    let fits = counts.iter().all(|count| *count >= 0) && window_fits && feature.start_ns <= feature.end_ns;
    if fits { Ok(feature) } else { Err(&reject::BAD_FEATURE) }
}

fn whole(value: Value<'_>) -> Result<i64, Refusal> {
    match value {
        Value::Int(value) => Ok(value),
        Value::Absent | Value::Null => Err(&reject::NO_FIELD),
        _ => Err(&reject::WRONG_TYPE),
    }
}

fn boolean(value: Value<'_>) -> Result<bool, Refusal> {
    match value {
        Value::Bool(value) => Ok(value),
        Value::Absent | Value::Null => Err(&reject::NO_FIELD),
        _ => Err(&reject::WRONG_TYPE),
    }
}

fn number(value: Value<'_>) -> Result<Option<f64>, Refusal> {
    match value {
        Value::Absent | Value::Null => Ok(None),
        value => check::finite(value).map(Some),
    }
}

fn text<'a>(value: Value<'a>) -> Result<&'a str, Refusal> {
    match value {
        Value::Absent | Value::Null => Ok(""),
        Value::Text(text) => std::str::from_utf8(text).map_err(|_| &reject::BAD_FEATURE),
        _ => Err(&reject::WRONG_TYPE),
    }
}
