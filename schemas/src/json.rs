//! Reads JSON (RFC 8259) in place. No recursion: nothing that is nested can overflow the stack.

use std::borrow::Cow;

use crate::{
    reject::{self, Refusal},
    time,
    value::{Slots, Value},
};

/// How deep arrays and objects may nest.
const NESTING_MAX: usize = 64;

/// A field of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) slot: usize,
    /// True where the value is a time as RFC 3339 text.
    pub(crate) text_time: bool,
}

/// A place in a payload that is known to be UTF-8.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The start of a payload.
    pub(crate) fn new(payload: &'a [u8]) -> Result<Self, Refusal> {
        std::str::from_utf8(payload).map_err(|_| &reject::JSON_UTF8)?;
        let mut cursor = Self { text: payload, at: 0 };
        cursor.space();
        Ok(cursor)
    }

    /// The place of a [`Value::Nested`].
    pub(crate) fn to(&self, at: usize) -> Self {
        Self { text: self.text, at }
    }

    /// The byte to be read next.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), Refusal> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(&reject::JSON_TRAILING) }
    }

    /// Reads an object. Fields that are not in `keys` are skipped; a field of ours that is given twice is an error, also
    /// where it was given under its two names.
    pub(crate) fn object<const N: usize>(&mut self, keys: &[Key], slots: &mut Slots<'a, N>) -> Result<(), Refusal> {
        let mut given = 0_u64;
        self.expect(b'{')?;
        if self.next_is(b'}') {
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.space();
            self.expect(b':')?;
            self.space();
            match find(keys, name)? {
                Some(key) => {
                    if given & (1 << key.slot) != 0 {
                        return Err(&reject::JSON_DUPLICATE);
                    }
                    given |= 1 << key.slot;
                    let value = self.value()?;
                    if let Some(place) = slots.get_mut(key.slot) {
                        *place = if key.text_time { text_time(value) } else { value };
                    }
                }
                None => self.skip()?,
            }
            if !self.another(b'}')? {
                return Ok(());
            }
        }
    }

    /// Reads the next item of an array; `begun` is false before the first. `None` at the array's end.
    pub(crate) fn item(&mut self, begun: &mut bool) -> Result<Option<Value<'a>>, Refusal> {
        if self.at_item(begun)? { self.value().map(Some) } else { Ok(None) }
    }

    /// Moves to the next item of an array; `begun` is false before the first. False at the array's end.
    pub(crate) fn at_item(&mut self, begun: &mut bool) -> Result<bool, Refusal> {
        if *begun {
            return self.another(b']');
        }
        *begun = true;
        self.expect(b'[')?;
        Ok(!self.next_is(b']'))
    }

    /// Reads a number as it is written.
    pub(crate) fn number_text(&mut self) -> Result<&'a str, Refusal> {
        let from = self.at;
        self.number()?;
        self.text.get(from..self.at).and_then(|text| std::str::from_utf8(text).ok()).ok_or(&reject::JSON_SYNTAX)
    }

    fn value(&mut self) -> Result<Value<'a>, Refusal> {
        match self.peek().ok_or(&reject::JSON_SHORT)? {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b'{' | b'[' => {
                let at = self.at;
                self.skip()?;
                Ok(Value::Nested(at))
            }
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Result<Value<'a>, Refusal> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(&reject::JSON_SYNTAX)
    }

    /// Skips a value of any kind; it is checked as strictly as any other.
    fn skip(&mut self) -> Result<(), Refusal> {
        // One bit per open bracket: 1 for an object.
        let mut open = 0_u64;
        let mut depth = 0_usize;
        loop {
            let bracket = self.peek();
            match bracket {
                Some(b'{' | b'[') => {
                    if depth == NESTING_MAX {
                        return Err(&reject::JSON_NESTING);
                    }
                    self.at += 1;
                    let object = bracket == Some(b'{');
                    if !self.next_is(if object { b'}' } else { b']' }) {
                        depth += 1;
                        open = open << 1 | u64::from(object);
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => drop(self.value()?),
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = open & 1 == 1;
                if self.another(if object { b'}' } else { b']' })? {
                    if object {
                        self.key()?;
                    }
                    break;
                }
                depth -= 1;
                open >>= 1;
            }
        }
    }

    fn key(&mut self) -> Result<(), Refusal> {
        self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }

    /// A string's content: [`Value::Text`], or [`Value::Escaped`] if it has escapes.
    fn string(&mut self) -> Result<Value<'a>, Refusal> {
        self.expect(b'"')?;
        let from = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = plain_bytes(rest).ok_or(&reject::JSON_SHORT)?;
            self.at += plain + 1;
            match rest.get(plain) {
                Some(b'"') => {
                    let content = self.text.get(from..self.at - 1).unwrap_or_default();
                    return Ok(if escaped { Value::Escaped(content) } else { Value::Text(content) });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(&reject::JSON_SYNTAX),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Refusal> {
        let kind = self.peek().ok_or(&reject::JSON_SHORT)?;
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4).ok_or(&reject::JSON_SHORT)?;
                self.at += 4;
                if digits.iter().all(u8::is_ascii_hexdigit) { Ok(()) } else { Err(&reject::JSON_SYNTAX) }
            }
            _ => Err(&reject::JSON_SYNTAX),
        }
    }

    /// An integer that fits 64 bits is exact; any other number is the nearest double, infinite where it is too large.
    fn number(&mut self) -> Result<Value<'a>, Refusal> {
        let from = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let mut mantissa = 0_u64;
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits(&mut mantissa);
        if whole == 0 || leading_zero && whole > 1 {
            return Err(&reject::JSON_SYNTAX);
        }
        let mut fraction = 0;
        let mut exponent = 0_i32;
        let mut integer = true;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            fraction = self.digits(&mut mantissa);
            if fraction == 0 {
                return Err(&reject::JSON_SYNTAX);
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            exponent = self.exponent()?;
        }
        let digits = whole + fraction;
        // Nanoseconds of today have 19 digits. A negative zero is a double.
        if integer
            && digits <= 19
            && let Ok(magnitude) = i64::try_from(mantissa)
            && !(negative && magnitude == 0)
        {
            return Ok(Value::Int(if negative { -magnitude } else { magnitude }));
        }
        // Clinger's fast path: both operands are exact doubles, so the one rounding is the right one.
        if digits <= 18 && mantissa < 1 << 53 {
            let scale = exponent.saturating_sub(fraction as i32);
            let power = POWERS_OF_TEN.get(scale.unsigned_abs() as usize);
            if let Some(power) = power {
                let value = if scale < 0 { mantissa as f64 / power } else { mantissa as f64 * power };
                return Ok(Value::Float(if negative { -value } else { value }));
            }
        }
        let text = self.text.get(from..self.at).and_then(|text| std::str::from_utf8(text).ok()).ok_or(&reject::JSON_SYNTAX)?;
        if integer
            && let Ok(value) = text.parse::<i64>()
            && value != 0
        {
            return Ok(Value::Int(value));
        }
        text.parse().map(Value::Float).map_err(|_| &reject::JSON_SYNTAX)
    }

    /// Appends digits to `mantissa` and counts them; beyond 19 of them `mantissa` means nothing.
    fn digits(&mut self, mantissa: &mut u64) -> usize {
        let from = self.at;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        self.at - from
    }

    fn exponent(&mut self) -> Result<i32, Refusal> {
        self.at += 1;
        let negative = self.peek() == Some(b'-');
        if let Some(b'+' | b'-') = self.peek() {
            self.at += 1;
        }
        let from = self.at;
        let mut exponent = 0_i32;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            exponent = exponent.saturating_mul(10).saturating_add(i32::from(digit - b'0'));
            self.at += 1;
        }
        if self.at == from {
            return Err(&reject::JSON_SYNTAX);
        }
        Ok(if negative { -exponent } else { exponent })
    }

    /// After an item: true if a comma announces another, false if `close` ends them.
    fn another(&mut self, close: u8) -> Result<bool, Refusal> {
        self.space();
        match self.peek().ok_or(&reject::JSON_SHORT)? {
            b',' => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(&reject::JSON_SYNTAX),
        }
    }

    /// After an opening bracket: true, and past it, if `close` follows.
    fn next_is(&mut self, close: u8) -> bool {
        self.space();
        let closed = self.peek() == Some(close);
        self.at += usize::from(closed);
        closed
    }

    fn expect(&mut self, byte: u8) -> Result<(), Refusal> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(&reject::JSON_SYNTAX),
            None => Err(&reject::JSON_SHORT),
        }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }
}

const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
    1e22,
];

/// How many bytes there are in front of the first that ends a string or does not belong into one; `None` without such a byte.
/// Eight at a time: most of a message is text.
fn plain_bytes(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // The high bit of each byte that is zero. The lowest that is set is right; a borrow may set others above it.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, rest) = text.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (zeros(word ^ (ONES * b'"' as u64)) | zeros(word ^ (ONES * b'\\' as u64)) | control) & (ONES * 0x80);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let tail = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    Some(words.len() * 8 + tail)
}

fn find<'k>(keys: &'k [Key], name: Value<'_>) -> Result<Option<&'k Key>, Refusal> {
    match name {
        Value::Text(name) => Ok(keys.iter().find(|key| key.name.as_bytes() == name)),
        Value::Escaped(raw) => {
            let name = unescape(raw).ok_or(&reject::JSON_SYNTAX)?;
            Ok(keys.iter().find(|key| key.name == name))
        }
        _ => Ok(None),
    }
}

fn text_time(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Text(text) => time::parse(text),
        Value::Null => Value::Null,
        // RFC 3339 needs no escapes, and a number would have no unit.
        _ => Value::BadTime,
    }
}

/// The text that a string's content, whose escapes are well-formed, stands for; `None` if it has half a surrogate pair.
pub(crate) fn unescape(raw: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = std::str::from_utf8(raw).ok()?;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut after = escape.chars();
        match after.next()? {
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'u' => {
                let mut unit = hex(escape.get(1..5)?)?;
                after = escape.get(5..)?.chars();
                if (0xd800..0xdc00).contains(&unit) {
                    let low = hex(after.as_str().strip_prefix("\\u")?.get(..4)?)?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return None;
                    }
                    unit = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    after = after.as_str().get(6..)?.chars();
                }
                text.push(char::from_u32(unit)?);
            }
            same => text.push(same),
        }
        rest = after.as_str();
    }
    text.push_str(rest);
    Some(text)
}

fn hex(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok()
}

/// A value's text, borrowed where it has no escapes.
pub(crate) fn text<'a>(value: Value<'a>) -> Option<Cow<'a, [u8]>> {
    match value {
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Escaped(raw) => unescape(raw).map(|text| Cow::Owned(text.into_bytes())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_ends_plain_text_is_found_wherever_it_stands() {
        for before in 0..20 {
            for byte in 0..=u8::MAX {
                for around in [b'a', 0x7f, 0xc3, 0xff, byte.wrapping_add(1).max(b']')] {
                    let mut text = vec![around; 24];
                    text[before] = byte;
                    let ends = byte == b'"' || byte == b'\\' || byte < b' ';
                    assert_eq!(plain_bytes(&text), ends.then_some(before), "{byte:#x} after {before} of {around:#x}");
                }
            }
        }
    }
}
