//! `mantis dlq`: dead letters, by the position of the record that was refused.

mod replay;

use std::io::Write;

use anyhow::{Result, bail};
use mantis_kafka::{
    ClientConfig, Reader,
    dead_letter::{self, Origin},
    letters::{self, DeadLetterLog, Filter, LETTERS_MAX, Place},
};
use mantis_pipeline::{Record, RecordBatch};
use mantis_schemas::topics::{FEATURES, SOURCES};
use serde_json::{Value, json};

use crate::{
    cli::{self, Dlq, DlqFilter},
    config::Config,
    exit::{Exit, Usage},
    output, parts,
};

/// Bytes of a payload that are shown to people.
const SHOWN_BYTES_MAX: usize = 4 << 10;

/// Lists, shows or replays dead letters.
pub async fn dlq(config: &Config, dlq: &Dlq, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    if let Dlq::List(DlqFilter { topic: Some(topic), .. }) | Dlq::Replay(DlqFilter { topic: Some(topic), .. }) = dlq
        && !SOURCES.contains(&topic.as_str())
        && topic != FEATURES
    {
        bail!(Usage(anyhow::anyhow!("{topic} has no dead letters: use one of {}, {FEATURES}", SOURCES.join(", "))));
    }
    match dlq {
        Dlq::List(filter) => list(&client(config, &filter.source)?, filter, as_json, out).await,
        Dlq::Show { position, source } => show(&client(config, source)?, position, as_json, out).await,
        Dlq::Replay(filter) => replay::replay(&client(config, &filter.source)?, filter, as_json, out).await,
    }
}

fn client(config: &Config, source: &cli::DlqSource) -> Result<ClientConfig> {
    parts::connect(config, source.brokers.as_deref())
}

/// The letters that a command's arguments mean.
fn wanted(filter: &DlqFilter) -> Filter {
    let DlqFilter { topic, reason, position, all, from, .. } = filter.clone();
    Filter { topic, reason, position, all, from }
}

/// A dead letter as it is shown.
#[derive(Debug)]
struct Letter {
    origin: Origin,
    replayed_ms: Option<i64>,
    payload_bytes: usize,
    written_ms: Option<i64>,
}

impl Letter {
    fn new(record: &Record<'_>, origin: Origin, replayed_ms: Option<i64>) -> Self {
        let payload_bytes = record.payload.map_or(0, <[u8]>::len);
        Self { origin, replayed_ms, payload_bytes, written_ms: record.timestamp_ms }
    }

    fn detail(&self) -> &str {
        let why = self.origin.reason.as_ref().or_else(|| self.origin.rows.first().map(|refused| &refused.why));
        why.map_or("", |why| why.detail.as_str())
    }

    fn json(&self) -> Value {
        let reason = self.origin.reason.as_ref().map(|why| json!({"code": why.code, "detail": why.detail}));
        let rows: Vec<Value> = self
            .origin
            .rows
            .iter()
            .map(|refused| json!({"row": refused.row, "code": refused.why.code, "detail": refused.why.detail}))
            .collect();
        json!({
            "position": letters::position(&self.origin),
            "group": self.origin.group,
            "topic": &*self.origin.partition.topic,
            "partition": self.origin.partition.partition,
            "offset": self.origin.offset,
            "timestamp_ms": self.origin.timestamp_ms,
            "reason": reason,
            "rows": rows,
            "payload_bytes": self.payload_bytes,
            "written_ms": self.written_ms,
            "replayed_ms": self.replayed_ms,
        })
    }
}

async fn list(client: &ClientConfig, filter: &DlqFilter, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let found = letters::find(client, &wanted(filter)).await?;
    let mut log = DeadLetterLog::of(client, &found);
    let mut listed = 0_usize;
    while let Some(batch) = log.next().await? {
        for index in 0..batch.len() {
            let record = batch.record(index);
            let Some(replayed_ms) = found.get(batch.partition(), record.offset) else { continue };
            let Some(origin) = dead_letter::origin(&batch.headers(index)) else { continue };
            let letter = Letter::new(&record, origin, replayed_ms);
            if as_json {
                output::json_line(out, &letter.json())?
            } else {
                line(&letter, out)?
            }
            listed += 1;
        }
    }
    match (&found.more_from, as_json) {
        (Some(more_from), true) => output::json_line(out, &json!({"more_from": more_from.to_string()}))?,
        (Some(more_from), false) => writeln!(out, "{}", more(more_from))?,
        (None, _) => {}
    }
    match (as_json, listed) {
        (true, _) => {}
        (false, 0) => writeln!(out, "no dead letters")?,
        (false, _) => writeln!(out, "{listed} dead letters; `mantis dlq show POSITION` shows one whole")?,
    }
    Ok(if listed == 0 && found.more_from.is_none() { Exit::Done } else { Exit::Attention })
}

fn line(letter: &Letter, out: &mut impl Write) -> Result<()> {
    let when = letter.written_ms.map_or_else(|| "-".into(), output::time_ms);
    let rows = letter.origin.rows.len();
    let what = if rows > 0 { format!("{rows} rows") } else { "record".into() };
    let replayed = if letter.replayed_ms.is_some() { "  (replayed)" } else { "" };
    let (position, codes) = (letters::position(&letter.origin), letters::codes(&letter.origin).join(", "));
    writeln!(out, "{position}  {when}  {what}  {codes}{replayed}")?;
    writeln!(out, "    {}", printable(letter.detail()))?;
    Ok(())
}

/// How to go on behind the bound on letters.
fn more(from: &Place) -> String {
    format!(
        "only the first {} dead letters were looked at: the same command with `--from {from}` goes on behind them",
        output::grouped(LETTERS_MAX as u64)
    )
}

async fn show(client: &ClientConfig, position: &str, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let filter = Filter { position: Some(position.to_owned()), all: true, ..Filter::default() };
    let found = letters::find(client, &filter).await?;
    let first = found.letters.iter().find_map(|(partition, letters)| Some((partition, letters.first_key_value()?)));
    let Some((partition, (offset, replayed_ms))) = first else {
        bail!("there is no dead letter of {position}: `mantis dlq list --all` lists what there is");
    };
    let mut reader = Reader::open(client, partition.clone(), *offset, offset + 1)?;
    let Some(batch) = reader.next().await? else {
        bail!("the dead letter of {position} is gone: retention removed it meanwhile");
    };
    let (record, headers) = (batch.record(0), batch.headers(0));
    let Some(origin) = dead_letter::origin(&headers) else {
        bail!("the dead letter of {position} is gone: retention removed it meanwhile");
    };
    let letter = Letter::new(&record, origin, *replayed_ms);
    if as_json {
        let mut object = letter.json();
        object["key"] = bytes_json(record.key);
        object["payload"] = bytes_json(record.payload);
        object["headers"] = headers.iter().map(|h| json!({"key": h.key, "value": bytes_json(h.value.as_deref())})).collect();
        output::json_line(out, &object)?;
        return Ok(Exit::Done);
    }
    writeln!(out, "record    {position}, refused by {}", letter.origin.group)?;
    if let Some(why) = &letter.origin.reason {
        writeln!(out, "reason    {}: {}", why.code, printable(&why.detail))?;
    }
    for refused in &letter.origin.rows {
        writeln!(out, "row {:<5} {}: {}", refused.row, refused.why.code, printable(&refused.why.detail))?;
    }
    writeln!(out, "key       {}", bytes_text(record.key))?;
    for header in &headers {
        writeln!(out, "header    {} = {}", printable(&header.key), bytes_text(header.value.as_deref()))?;
    }
    writeln!(out, "payload   {} bytes\n{}", letter.payload_bytes, bytes_text(record.payload))?;
    Ok(Exit::Done)
}

/// UTF-8 as text, anything else as hexadecimal digits, so that no byte is lost.
fn bytes_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => json!({"text": text}),
        Some(Err(_)) => json!({"hex": hex(bytes.unwrap_or_default())}),
    }
}

fn bytes_text(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "(none)".into() };
    let more = if bytes.len() > SHOWN_BYTES_MAX { " ... (--json has all of it)" } else { "" };
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{}{more}", printable(&text[..text.floor_char_boundary(SHOWN_BYTES_MAX)])),
        Err(_) => format!("hex {}{more}", hex(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)])),
    }
}

/// Text without what could steer a terminal; quotes and line ends stay, so that it can be copied.
fn printable(text: &str) -> String {
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
