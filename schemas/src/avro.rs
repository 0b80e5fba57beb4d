//! Reads Avro binary by plan, in place.

use crate::{
    plan::{Read, Step},
    reject::{self, Refusal},
    schema::{Schema, Type, TypeId},
    value::{Slots, Value, slot},
};

/// How deep the types of skipped fields may nest.
const NESTING_MAX: u32 = 64;
/// How many values may be skipped in one record: an array of nulls takes no bytes, so bytes alone do not bound it.
const SKIPPED_VALUES_MAX: u32 = 1 << 21;

/// A place in a payload.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    skips_left: u32,
}

/// The list of readings of a record, found but not yet read.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    cursor: Cursor<'a>,
    steps: &'a [Step],
    schema: &'a Schema,
    /// True where the record ends with them.
    last: bool,
}

/// Reads a whole record. What follows the record is an error, except for rows, which [`Rows::each`] reads and checks.
pub(crate) fn record<'a, const N: usize>(
    body: &'a [u8],
    schema: &'a Schema,
    steps: &'a [Step],
    slots: &mut Slots<'a, N>,
) -> Result<Option<Rows<'a>>, Refusal> {
    let mut cursor = Cursor { rest: body, skips_left: SKIPPED_VALUES_MAX };
    let rows = cursor.fields(schema, steps, slots)?;
    if rows.as_ref().is_none_or(|rows| !rows.last) {
        cursor.end()?;
    }
    Ok(rows)
}

impl<'a> Rows<'a> {
    /// Reads row after row. `row` is called with the slots of each, which begin as `outer`.
    pub(crate) fn each<const N: usize>(
        mut self,
        outer: &Slots<'a, N>,
        mut row: impl FnMut(&Slots<'a, N>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let (schema, steps, last) = (self.schema, self.steps, self.last);
        self.cursor.items(|cursor| {
            let mut slots = *outer;
            cursor.fields(schema, steps, &mut slots)?;
            row(&slots)
        })?;
        if last { self.cursor.end() } else { Ok(()) }
    }
}

impl<'a> Cursor<'a> {
    fn end(&self) -> Result<(), Refusal> {
        if self.rest.is_empty() { Ok(()) } else { Err(&reject::AVRO_TRAILING) }
    }

    fn fields<const N: usize>(
        &mut self,
        schema: &'a Schema,
        steps: &'a [Step],
        slots: &mut Slots<'a, N>,
    ) -> Result<Option<Rows<'a>>, Refusal> {
        let mut rows = None;
        for step in steps {
            match step {
                Step::Read(slot, read) => {
                    let value = self.value(read)?;
                    if let Some(place) = slots.get_mut(*slot) {
                        *place = value;
                    }
                }
                Step::Skip(of) => self.skip(schema, *of, 0)?,
                Step::Rows { array, row, last } => {
                    rows = Some(Rows { cursor: self.clone(), steps: row, schema, last: *last });
                    if !last {
                        self.skip(schema, *array, 0)?;
                    }
                }
                Step::Body(branches) => {
                    let branch = usize::try_from(self.long()?).ok().and_then(|index| branches.get(index));
                    let (body, steps) = branch.ok_or(&reject::AVRO_BRANCH)?.as_ref().ok_or(&reject::UNKNOWN_EVENT)?;
                    if let Some(place) = slots.get_mut(slot::BODY) {
                        *place = Value::Int(*body);
                    }
                    self.fields(schema, steps, slots)?;
                }
            }
        }
        Ok(rows)
    }

    #[inline]
    fn value(&mut self, read: &'a Read) -> Result<Value<'a>, Refusal> {
        Ok(match read {
            Read::Text => Value::Text(self.bytes()?),
            Read::Time { unit_ns } => self.long()?.checked_mul(*unit_ns).map_or(Value::Beyond, Value::Int),
            Read::Double => Value::Float(f64::from_le_bytes(self.array()?)),
            Read::Symbol(symbols) => {
                let symbol = usize::try_from(self.long()?).ok().and_then(|index| symbols.get(index));
                Value::Text(symbol.ok_or(&reject::AVRO_SYMBOL)?.as_bytes())
            }
            Read::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok().and_then(|index| branches.get(index));
                // Unions do not contain unions, so this goes one level deep.
                self.value(branch.ok_or(&reject::AVRO_BRANCH)?)?
            }
            Read::Null => Value::Null,
            Read::Boolean => Value::Bool(self.boolean()?),
            Read::Int => Value::Int(self.int()?),
            Read::Long => Value::Int(self.long()?),
            Read::Float => Value::Float(f64::from(f32::from_le_bytes(self.array()?))),
            Read::Bytes => Value::Bytes(self.bytes()?),
            Read::Fixed(size) => Value::Bytes(self.take(*size)?),
        })
    }

    fn skip(&mut self, schema: &Schema, of: TypeId, depth: u32) -> Result<(), Refusal> {
        if depth > NESTING_MAX {
            return Err(&reject::AVRO_NESTING);
        }
        self.skips_left = self.skips_left.checked_sub(1).ok_or(&reject::AVRO_SKIPS)?;
        match schema.of(of) {
            Type::Null => Ok(()),
            Type::Boolean => self.boolean().map(drop),
            Type::Int(_) => self.int().map(drop),
            Type::Long(_) => self.long().map(drop),
            Type::Float => self.take(4).map(drop),
            Type::Double => self.take(8).map(drop),
            Type::Bytes(_) => self.bytes().map(drop),
            Type::String => std::str::from_utf8(self.bytes()?).map(drop).map_err(|_| &reject::AVRO_UTF8),
            Type::Fixed(size, _) => self.take(*size).map(drop),
            Type::Enum(symbols) => match usize::try_from(self.long()?) {
                Ok(index) if index < symbols.len() => Ok(()),
                _ => Err(&reject::AVRO_SYMBOL),
            },
            Type::Array(item) => self.items(|cursor| cursor.skip(schema, *item, depth + 1)),
            Type::Map(item) => self.items(|cursor| {
                cursor.bytes()?;
                cursor.skip(schema, *item, depth + 1)
            }),
            Type::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok().and_then(|index| branches.get(index));
                self.skip(schema, *branch.ok_or(&reject::AVRO_BRANCH)?, depth + 1)
            }
            Type::Record(record) => record.fields.iter().try_for_each(|field| self.skip(schema, field.of, depth + 1)),
        }
    }

    /// The items of an array or map: blocks, each a count and, where the count is negative, a size in bytes.
    fn items(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Refusal>) -> Result<(), Refusal> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            let end = if count < 0 { Some(self.block_end()?) } else { None };
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
            if end.is_some_and(|end| end != self.rest.len()) {
                return Err(&reject::AVRO_BLOCK);
            }
        }
    }

    /// How many bytes of the payload are left behind the block.
    fn block_end(&mut self) -> Result<usize, Refusal> {
        let size = self.length()?;
        self.rest.len().checked_sub(size).ok_or(&reject::AVRO_SHORT)
    }

    fn boolean(&mut self) -> Result<bool, Refusal> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(&reject::AVRO_BOOLEAN),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.length()?;
        self.take(length)
    }

    fn length(&mut self) -> Result<usize, Refusal> {
        usize::try_from(self.long()?).map_err(|_| &reject::AVRO_SHORT)
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(&reject::AVRO_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(&reject::AVRO_SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn int(&mut self) -> Result<i64, Refusal> {
        let value = self.long()?;
        if i32::try_from(value).is_ok() { Ok(value) } else { Err(&reject::AVRO_VARINT) }
    }

    /// A zigzag varint of at most 64 bits.
    #[inline]
    fn long(&mut self) -> Result<i64, Refusal> {
        let mut bits = 0_u64;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte holds the last bit.
            if index == 9 && *byte > 1 {
                return Err(&reject::AVRO_VARINT);
            }
            bits |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        Err(&reject::AVRO_SHORT)
    }
}
