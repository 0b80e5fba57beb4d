//! `/letter`: a refused record, whole.

use std::{fmt::Write, sync::Arc};

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Console, KAFKA_WAIT, Shell, Time, not_found, render};
use crate::{
    Site,
    letters::{Letters, Whole, WholeRefusal},
    text,
};

/// Bytes of a key, value or header that a page shows; all of it is in `mantis dlq show --json`.
const SHOWN_BYTES_MAX: usize = 64 << 10;
/// Refused rows that a page shows.
const ROWS_SHOWN_MAX: usize = 200;
/// Bytes in a line of a hexadecimal view.
const HEX_WIDTH: usize = 16;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    position: String,
}

#[derive(Template)]
#[template(path = "letter.html")]
struct Page {
    shell: Shell,
    position: String,
    replay: String,
    record: Result<View, String>,
}

/// A record and those who refused it.
struct View {
    timestamp: Option<Time>,
    refusals: Vec<RefusalView>,
    key: Bytes,
    payload: Bytes,
    headers: Vec<(String, Bytes)>,
}

struct RefusalView {
    group: String,
    written: Option<Time>,
    replayed: Option<Time>,
    reason: Option<(String, String)>,
    rows: Vec<(u32, String, String)>,
    rows_left: usize,
}

/// Bytes as people can read them.
struct Bytes {
    /// `text`, `hex` or `none`.
    kind: &'static str,
    text: String,
    size: String,
    is_cut: bool,
}

pub(super) async fn page<S: Site>(State(console): State<Arc<Console<S>>>, Query(asked): Query<Asked>) -> Response {
    let shell = Shell::new(format!("Dead letter {}", text::visible(&asked.position)), "letters", 0);
    let (letters, position) = (console.site.letters(), asked.position.clone());
    let found = console.asker.ask("Kafka", KAFKA_WAIT, async move { letters.show(position).await }).await;
    let record = match found {
        Ok(Some(whole)) => Ok(view(&whole, shell.now)),
        Ok(None) => return not_found("There is no dead letter of a record at this position; retention may have removed it."),
        Err(text) => Err(text),
    };
    render(&Page {
        position: text::visible(&asked.position),
        replay: format!("/replay?{}", text::query(&[("position", &asked.position)])),
        record,
        shell,
    })
}

fn view(whole: &Whole, now: Timestamp) -> View {
    let timestamp_ms = whole.letters.first().and_then(|letter| letter.origin.timestamp_ms);
    View {
        timestamp: timestamp_ms.map(|ms| Time::of_ms(ms, now)),
        refusals: whole.letters.iter().map(|letter| refusal(letter, now)).collect(),
        key: bytes(whole.key.as_deref()),
        payload: bytes(whole.payload.as_deref()),
        headers: whole.headers.iter().map(|header| (text::visible(&header.key), bytes(header.value.as_deref()))).collect(),
    }
}

fn refusal(letter: &WholeRefusal, now: Timestamp) -> RefusalView {
    let origin = &letter.origin;
    let rows = origin.rows.iter().take(ROWS_SHOWN_MAX);
    RefusalView {
        group: text::visible(&origin.group),
        written: letter.written_ms.map(|ms| Time::of_ms(ms, now)),
        replayed: letter.replayed_ms.map(|ms| Time::of_ms(ms, now)),
        reason: origin.reason.as_ref().map(|why| (text::visible(&why.code), text::visible(&why.detail))),
        rows: rows.map(|refused| (refused.row, text::visible(&refused.why.code), text::visible(&refused.why.detail))).collect(),
        rows_left: origin.rows.len().saturating_sub(ROWS_SHOWN_MAX),
    }
}

/// UTF-8 as text, anything else as hexadecimal digits beside what of it is ASCII.
fn bytes(bytes: Option<&[u8]>) -> Bytes {
    let Some(all) = bytes else { return Bytes { kind: "none", text: String::new(), size: String::new(), is_cut: false } };
    let (size, is_cut) = (text::bytes(all.len()), all.len() > SHOWN_BYTES_MAX);
    let (kind, text) = match std::str::from_utf8(all) {
        Ok(text) => ("text", text::visible(&text[..text.floor_char_boundary(SHOWN_BYTES_MAX)])),
        Err(_) => ("hex", hex(all.get(..SHOWN_BYTES_MAX).unwrap_or(all))),
    };
    Bytes { kind, text, size, is_cut }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 5);
    for (index, line) in bytes.chunks(HEX_WIDTH).enumerate() {
        // Writing to a String does not fail.
        let _ = write!(text, "{:06x} ", index * HEX_WIDTH);
        for place in 0..HEX_WIDTH {
            let _ = match line.get(place) {
                Some(byte) => write!(text, " {byte:02x}"),
                None => write!(text, "   "),
            };
        }
        text.push_str("  ");
        text.extend(line.iter().map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }));
        text.push('\n');
    }
    text
}
