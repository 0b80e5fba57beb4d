//! Readings of every shape into columns.

use std::ops::RangeInclusive;

use crate::{
    Quality, ReadingColumns, RowReject, SeriesId, SeriesInterner,
    avro::{self, Rows},
    check,
    json::{self, Key},
    plan::{Kind, Plan},
    reject::{self, Refusal},
    value::{Slots, Value, slot},
};

const KEYS: &[Key] = &[
    Key { name: "asset", slot: slot::ASSET, text_time: false },
    Key { name: "sensor", slot: slot::SENSOR, text_time: false },
    Key { name: "time_ns", slot: slot::TIME, text_time: false },
    Key { name: "value", slot: slot::VALUE, text_time: false },
    Key { name: "quality", slot: slot::QUALITY, text_time: false },
    Key { name: "time", slot: slot::TIME, text_time: true },
];

/// A record on its own may be any of the shapes. Those that have columns or rows keep them in slots of their own, so that
/// what a record is can be told by the slots that are filled.
const RECORD_KEYS: &[Key] = &[
    KEYS[0],
    KEYS[1],
    KEYS[2],
    KEYS[3],
    KEYS[4],
    KEYS[5],
    Key { name: "readings", slot: ROWS, text_time: false },
    Key { name: "base_time_ns", slot: BASE, text_time: false },
    Key { name: "base_time", slot: BASE, text_time: true },
    Key { name: "time_deltas_ns", slot: slot::DELTAS, text_time: false },
    Key { name: "values", slot: VALUES, text_time: false },
];
const ROWS: usize = slot::COUNT;
const BASE: usize = slot::COUNT + 1;
const VALUES: usize = slot::COUNT + 2;
const RECORD_SLOTS: usize = slot::COUNT + 3;

/// Writes the readings of one record.
pub(crate) struct ReadingWriter<'a> {
    pub(crate) interner: &'a mut SeriesInterner,
    pub(crate) accepted: RangeInclusive<i64>,
    pub(crate) rows_max: u32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) arrival_ms: i64,
    pub(crate) into: &'a mut ReadingColumns,
    pub(crate) rejects: &'a mut Vec<RowReject>,
    /// The next row's index.
    pub(crate) row: u32,
}

impl ReadingWriter<'_> {
    /// Reads Avro binary.
    pub(crate) fn avro(mut self, plan: &Plan, body: &[u8]) -> Result<(), Refusal> {
        let mut slots: Slots<'_, { slot::COUNT }> = Default::default();
        match plan.kind {
            Kind::Reading => {
                avro::record(body, &plan.schema, &plan.steps, &mut slots)?;
                self.reading(&slots)
            }
            Kind::Readings => {
                let rows: Option<Rows<'_>> = avro::record(body, &plan.schema, &plan.steps, &mut slots)?;
                rows.map_or(Ok(()), |rows| rows.each(&slots, |row| self.reading(row)))
            }
            Kind::ReadingColumns => {
                avro::record(body, &plan.schema, &plan.steps, &mut slots)?;
                self.columns(&slots)
            }
            Kind::Frame | Kind::Event | Kind::Features => Err(&reject::NOT_READINGS),
        }
    }

    /// Reads JSON.
    pub(crate) fn json(mut self, payload: &[u8]) -> Result<(), Refusal> {
        let mut cursor = json::Cursor::new(payload)?;
        if cursor.peek() == Some(b'[') {
            self.json_rows(&mut cursor, Value::Absent)?;
            return cursor.end();
        }
        let mut slots: Slots<'_, RECORD_SLOTS> = Default::default();
        cursor.object(RECORD_KEYS, &mut slots)?;
        cursor.end()?;
        let [.., rows, base, values] = slots;
        match (rows, base, values) {
            (Value::Nested(rows), Value::Absent, Value::Absent) => self.json_rows(&mut cursor.to(rows), slots[slot::ASSET]),
            (Value::Absent, Value::Absent, Value::Absent) => {
                let absent = |slot: usize| slots[slot] == Value::Absent;
                if absent(slot::VALUE) && (absent(slot::SENSOR) || absent(slot::TIME)) {
                    return Err(&reject::NOT_READINGS);
                }
                self.reading(&slots)
            }
            (Value::Absent, ..) => self.json_columns(&cursor, &slots, base, values),
            _ => Err(&reject::NOT_READINGS),
        }
    }

    fn json_rows<'j>(&mut self, cursor: &mut json::Cursor<'j>, asset: Value<'j>) -> Result<(), Refusal> {
        let mut begun = false;
        while cursor.at_item(&mut begun)? {
            let mut slots: Slots<'_, { slot::COUNT }> = Default::default();
            cursor.object(KEYS, &mut slots)?;
            if slots[slot::ASSET] == Value::Absent {
                slots[slot::ASSET] = asset;
            }
            self.reading(&slots)?;
        }
        Ok(())
    }

    fn json_columns(
        &mut self,
        cursor: &json::Cursor<'_>,
        slots: &Slots<'_, RECORD_SLOTS>,
        base: Value<'_>,
        values: Value<'_>,
    ) -> Result<(), Refusal> {
        let array = |value| match value {
            Value::Nested(at) => Ok((cursor.to(at), false)),
            Value::Absent | Value::Null => Err(&reject::NO_FIELD),
            _ => Err(&reject::WRONG_TYPE),
        };
        let (mut deltas, mut deltas_begun) = array(slots[slot::DELTAS])?;
        let (mut values, mut values_begun) = array(values)?;
        let mut qualities = match slots[slot::QUALITY] {
            Value::Absent | Value::Null => None,
            column => Some(array(column)?),
        };
        let series = check::series(self.interner, slots[slot::ASSET], slots[slot::SENSOR], self.key)?;
        let base_ns = match base {
            Value::Int(base_ns) => base_ns,
            other => return Err(check::time(other, &self.accepted).err().unwrap_or(&reject::WRONG_TYPE)),
        };
        loop {
            let quality = match &mut qualities {
                Some((cursor, begun)) => cursor.item(begun)?,
                None => Some(Value::Absent),
            };
            match (deltas.item(&mut deltas_begun)?, values.item(&mut values_begun)?, quality) {
                (None, None, _) if qualities.is_none() || quality.is_none() => return Ok(()),
                (Some(delta), Some(value), Some(quality)) => {
                    let time = match delta {
                        Value::Int(delta) => base_ns.checked_add(delta).map_or(Value::Beyond, Value::Int),
                        other => other,
                    };
                    self.row(|accepted| {
                        Ok((series, check::time(time, accepted)?, check::finite(value)?, check::quality(quality)?))
                    })?;
                }
                _ => return Err(&reject::COLUMN_LENGTHS),
            }
        }
    }

    fn reading<const N: usize>(&mut self, slots: &Slots<'_, N>) -> Result<(), Refusal> {
        const { assert!(N > slot::QUALITY) };
        let (asset, sensor) = (slots[slot::ASSET], slots[slot::SENSOR]);
        let (time, value, quality) = (slots[slot::TIME], slots[slot::VALUE], slots[slot::QUALITY]);
        let row = check::time(time, &self.accepted).and_then(|time| {
            let (value, quality) = (check::finite(value)?, check::quality(quality)?);
            Ok((check::series(self.interner, asset, sensor, self.key)?, time, value, quality))
        });
        self.row(|_| row)
    }

    /// Appends a row, or its refusal.
    fn row(
        &mut self,
        row: impl FnOnce(&RangeInclusive<i64>) -> Result<(SeriesId, i64, f64, Quality), Refusal>,
    ) -> Result<(), Refusal> {
        if self.row >= self.rows_max {
            return Err(&reject::TOO_MANY_ROWS);
        }
        match row(&self.accepted) {
            Ok((series, time_ns, value, quality)) => {
                self.into.series.push(series);
                self.into.time_ns.push(time_ns);
                self.into.value.push(value);
                self.into.quality.push(quality);
                self.into.arrival_ms.push(self.arrival_ms);
            }
            Err(refusal) => self.rejects.push(RowReject { row: self.row, reject: refusal.clone() }),
        }
        self.row += 1;
        Ok(())
    }

    fn columns(&mut self, slots: &Slots<'_, { slot::COUNT }>) -> Result<(), Refusal> {
        let column = |slot: usize| match slots[slot] {
            Value::Bytes(column) => Ok(column),
            Value::Absent | Value::Null => Ok(&[][..]),
            _ => Err(&reject::WRONG_TYPE),
        };
        let (deltas, deltas_rest) = column(slot::DELTAS)?.as_chunks::<8>();
        let (values, values_rest) = column(slot::VALUE)?.as_chunks::<8>();
        let qualities = column(slot::QUALITY)?;
        let rows = values.len();
        if !deltas_rest.is_empty()
            || !values_rest.is_empty()
            || deltas.len() != rows
            || !(qualities.is_empty() || qualities.len() == rows)
        {
            return Err(&reject::COLUMN_LENGTHS);
        }
        if rows > self.rows_max as usize {
            return Err(&reject::TOO_MANY_ROWS);
        }
        let series = check::series(self.interner, slots[slot::ASSET], slots[slot::SENSOR], self.key)?;
        let base_ns = match slots[slot::TIME] {
            Value::Int(base_ns) => base_ns,
            other => return Err(check::time(other, &self.accepted).err().unwrap_or(&reject::WRONG_TYPE)),
        };

        // One pass without branches over each column tells whether every row is good, as almost always; then the columns are
        // copied whole.
        let (first, last) = deltas_within(base_ns, &self.accepted);
        let times_good = deltas.iter().fold(true, |good, delta| {
            let delta = i64::from_le_bytes(*delta);
            good & (delta >= first) & (delta <= last)
        });
        let values_good = values.iter().fold(true, |good, value| good & f64::from_le_bytes(*value).is_finite());
        let qualities_good = qualities.iter().fold(true, |good, quality| good & (*quality <= Quality::Bad as u8));
        if times_good & values_good & qualities_good {
            let end = self.into.len() + rows;
            self.into.series.resize(end, series);
            self.into.time_ns.extend(deltas.iter().map(|delta| base_ns.wrapping_add(i64::from_le_bytes(*delta))));
            self.into.value.extend(values.iter().map(|value| f64::from_le_bytes(*value)));
            if qualities.is_empty() {
                self.into.quality.resize(end, Quality::Good);
            } else {
                self.into.quality.extend(qualities.iter().map(|quality| quality_of(*quality).unwrap_or(Quality::Bad)));
            }
            self.into.arrival_ms.resize(end, self.arrival_ms);
            return Ok(());
        }
        for (index, (delta, value)) in deltas.iter().zip(values).enumerate() {
            let time = base_ns.checked_add(i64::from_le_bytes(*delta)).map_or(Value::Beyond, Value::Int);
            let value = Value::Float(f64::from_le_bytes(*value));
            let quality = qualities.get(index).map_or(Ok(Quality::Good), |quality| quality_of(*quality));
            self.row(|accepted| Ok((series, check::time(time, accepted)?, check::finite(value)?, quality?)))?;
        }
        Ok(())
    }
}

/// The deltas whose sum with `base_ns` lies within `accepted`; none, as an empty range, if no delta does.
fn deltas_within(base_ns: i64, accepted: &RangeInclusive<i64>) -> (i64, i64) {
    let first = i128::from(*accepted.start()) - i128::from(base_ns);
    let last = i128::from(*accepted.end()) - i128::from(base_ns);
    if first > i128::from(i64::MAX) || last < i128::from(i64::MIN) {
        return (1, 0);
    }
    let clamp = |delta: i128| delta.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    (clamp(first), clamp(last))
}

fn quality_of(byte: u8) -> Result<Quality, Refusal> {
    match byte {
        0 => Ok(Quality::Good),
        1 => Ok(Quality::Uncertain),
        2 => Ok(Quality::Bad),
        _ => Err(&reject::BAD_QUALITY),
    }
}
