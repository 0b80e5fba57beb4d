//! What came from outside, as a terminal may show it and as JSON.

use mantis_kafka::letters::{LETTERS_MAX, Place};
use serde_json::{Value, json};

use crate::output;

/// Bytes of a payload that are shown to people.
const SHOWN_BYTES_MAX: usize = 4 << 10;

/// How to go on behind the bound on letters.
pub fn more(from: &Place) -> String {
    format!(
        "only the first dead letters were looked at, {} at least: the same command with `--from {from}` goes on behind them",
        output::grouped(LETTERS_MAX as u64)
    )
}

/// UTF-8 as text, anything else as hexadecimal digits, so that no byte is lost.
pub fn bytes_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => json!({"text": text}),
        Some(Err(_)) => json!({"hex": hex(bytes.unwrap_or_default())}),
    }
}

/// The same for people, cut where it is long.
pub fn bytes_text(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "(none)".into() };
    let more = if bytes.len() > SHOWN_BYTES_MAX { " ... (--json has all of it)" } else { "" };
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{}{more}", printable(&text[..text.floor_char_boundary(SHOWN_BYTES_MAX)])),
        Err(_) => format!("hex {}{more}", hex(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)])),
    }
}

/// Text without what could steer a terminal; quotes and line ends stay, so that it can be copied.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let steers = c.is_control() && c != '\n' && c != '\t'
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
