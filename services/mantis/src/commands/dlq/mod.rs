//! `mantis dlq`: dead letters, by the position of the record that was refused.

use std::{collections::BTreeMap, io::Write, time::SystemTime};

use anyhow::{Result, bail};
use mantis_kafka::{
    Admin, ClientConfig, OutRecord, Producer, Reader,
    dead_letter::{self, Origin},
};
use mantis_pipeline::{Header, Record, RecordBatch};
use mantis_schemas::topics::{SOURCES, dead_letter as dead_letter_topic};
use serde_json::{Value, json};

use crate::{
    cli::{self, Dlq, DlqFilter},
    config::Config,
    exit::{Exit, Usage},
    output, parts,
};

/// Letters that are sent again together.
const REPLAY_LETTERS_MAX: usize = 500;
/// Bytes of a payload that are shown to people.
const SHOWN_BYTES_MAX: usize = 4 << 10;

/// Lists, shows or replays dead letters.
pub async fn dlq(config: &Config, dlq: &Dlq, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    if let Dlq::List(DlqFilter { topic: Some(topic), .. }) | Dlq::Replay(DlqFilter { topic: Some(topic), .. }) = dlq
        && !SOURCES.contains(&topic.as_str())
    {
        bail!(Usage(anyhow::anyhow!("{topic} is no source topic: use one of {}", SOURCES.join(", "))));
    }
    match dlq {
        Dlq::List(filter) => list(&client(config, &filter.source)?, filter, as_json, out).await,
        Dlq::Show { position, source } => show(&client(config, source)?, position, as_json, out).await,
        Dlq::Replay(filter) => replay(&client(config, &filter.source)?, filter, as_json, out).await,
    }
}

fn client(config: &Config, source: &cli::DlqSource) -> Result<ClientConfig> {
    parts::connect(config, source.brokers.as_deref())
}

/// What is known of a dead letter: the last one of its identity, and whether it was replayed since.
#[derive(Debug)]
struct Listed {
    origin: Origin,
    replayed_ms: Option<i64>,
    payload_bytes: usize,
    written_ms: Option<i64>,
    /// Where the letter itself lies.
    letter: (String, i32, i64),
}

impl Listed {
    fn position(&self) -> String {
        format!("{}/{}", self.origin.partition, self.origin.offset)
    }

    fn reasons(&self) -> Vec<&str> {
        let mut codes: Vec<&str> = self.origin.reason.iter().map(|why| why.code.as_str()).collect();
        codes.extend(self.origin.rows.iter().map(|refused| refused.why.code.as_str()));
        codes.sort_unstable();
        codes.dedup();
        codes
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
            "position": self.position(),
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

    fn is_wanted(&self, filter: &DlqFilter) -> bool {
        (filter.all || self.replayed_ms.is_none())
            && filter.topic.as_ref().is_none_or(|topic| **topic == *self.origin.partition.topic)
            && filter.reason.as_ref().is_none_or(|code| self.reasons().contains(&code.as_str()))
            && filter.position.as_ref().is_none_or(|position| *position == self.position())
    }
}

/// All dead letters by identity. A mark counts for the letters before it.
async fn letters(client: &ClientConfig) -> Result<Vec<Listed>> {
    let mut listed: BTreeMap<(String, i32, i64, String), Listed> = BTreeMap::new();
    each(client, |topic, partition, record, headers| {
        let Some(origin) = dead_letter::origin(&headers) else { return };
        let identity = (origin.partition.topic.to_string(), origin.partition.partition, origin.offset, origin.group.clone());
        if let Some(replayed_ms) = origin.replayed_ms {
            if let Some(letter) = listed.get_mut(&identity) {
                letter.replayed_ms = Some(replayed_ms);
            }
            return;
        }
        let replayed_ms = listed.get(&identity).and_then(|earlier| earlier.replayed_ms);
        let letter = Listed {
            origin,
            replayed_ms,
            payload_bytes: record.payload.map_or(0, <[u8]>::len),
            written_ms: record.timestamp_ms,
            letter: (topic.to_owned(), partition, record.offset),
        };
        listed.insert(identity, letter);
    })
    .await?;
    Ok(listed.into_values().collect())
}

/// Calls `found` with every record of the dead-letter topics.
async fn each(client: &ClientConfig, mut found: impl FnMut(&str, i32, Record<'_>, Vec<Header>)) -> Result<()> {
    let admin = Admin::new(client)?;
    let known = admin.topics().await?;
    for topic in SOURCES.map(dead_letter_topic) {
        if !known.iter().any(|(name, _)| *name == topic) {
            continue;
        }
        for partition in admin.partitions(&topic).await? {
            let (start, end) = admin.watermarks(&partition).await?;
            let number = partition.partition;
            let mut reader = Reader::open(client, partition, start, end)?;
            while let Some(batch) = reader.next().await? {
                for index in 0..batch.len() {
                    found(&topic, number, batch.record(index), batch.headers(index));
                }
            }
        }
    }
    Ok(())
}

async fn list(client: &ClientConfig, filter: &DlqFilter, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let letters: Vec<Listed> = letters(client).await?.into_iter().filter(|letter| letter.is_wanted(filter)).collect();
    if as_json {
        for letter in &letters {
            output::json_line(out, &letter.json())?;
        }
    } else if letters.is_empty() {
        writeln!(out, "no dead letters")?;
    } else {
        for letter in &letters {
            let when = letter.written_ms.map_or_else(|| "-".into(), output::time_ms);
            let rows = letter.origin.rows.len();
            let what = if rows > 0 { format!("{rows} rows") } else { "record".into() };
            let replayed = if letter.replayed_ms.is_some() { "  (replayed)" } else { "" };
            writeln!(out, "{}  {when}  {what}  {}{replayed}", letter.position(), letter.reasons().join(", "))?;
            writeln!(out, "    {}", printable(letter.detail()))?;
        }
        writeln!(out, "{} dead letters; `mantis dlq show POSITION` shows one whole", letters.len())?;
    }
    Ok(if letters.is_empty() { Exit::Done } else { Exit::Attention })
}

async fn show(client: &ClientConfig, position: &str, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let Some(letter) = letters(client).await?.into_iter().find(|letter| letter.position() == position) else {
        bail!("there is no dead letter of {position}: `mantis dlq list --all` lists what there is");
    };
    let (topic, partition, offset) = &letter.letter;
    let mut reader = Reader::open(client, mantis_pipeline::TopicPartition::new(topic.as_str(), *partition), *offset, offset + 1)?;
    let Some(batch) = reader.next().await? else {
        bail!("the dead letter of {position} is gone: retention removed it meanwhile");
    };
    let (record, headers) = (batch.record(0), batch.headers(0));
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

/// A letter on its way back, and the mark that follows it.
type Returned = (OutRecord, OutRecord);

async fn replay(client: &ClientConfig, filter: &DlqFilter, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let wanted: BTreeMap<(String, i32, i64), ()> =
        letters(client).await?.into_iter().filter(|letter| letter.is_wanted(filter)).map(|letter| (letter.letter, ())).collect();
    if let (Some(position), true) = (&filter.position, wanted.is_empty()) {
        bail!(Usage(anyhow::anyhow!("there is no open dead letter of {position}: `mantis dlq list --all` lists what there is")));
    }
    let now_ms = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?;
    let mut returned: Vec<Returned> = Vec::new();
    each(client, |topic, partition, record, headers| {
        let here = (topic.to_owned(), partition, record.offset);
        if let (true, Some(origin)) = (wanted.contains_key(&here), dead_letter::origin(&headers)) {
            returned.push((dead_letter::replay(&origin, &record, headers), dead_letter::replayed(&origin, &record, now_ms)));
        }
    })
    .await?;
    let producer = Producer::new(client)?;
    let (mut replayed, mut failed) = (0_u64, Vec::new());
    for some in returned.chunks(REPLAY_LETTERS_MAX) {
        let (records, marks): (Vec<_>, Vec<_>) = some.iter().cloned().unzip();
        let mut sent = Vec::new();
        for (result, mark) in producer.send_all(&records).await.into_iter().zip(marks) {
            match result {
                Ok(_) => sent.push(mark),
                Err(error) => failed.push(error.to_string()),
            }
        }
        replayed += sent.len() as u64;
        // Without its mark a letter only stays in the list; the record itself is back.
        for result in producer.send_all(&sent).await {
            result?;
        }
    }
    producer.close().await?;
    if as_json {
        output::json_line(out, &json!({"replayed": replayed, "failed": failed}))?;
    } else {
        writeln!(out, "{replayed} records sent to their topics again; what is refused once more becomes a new dead letter")?;
        for error in &failed {
            writeln!(out, "  not sent: {error}")?;
        }
    }
    Ok(if failed.is_empty() { Exit::Done } else { Exit::Attention })
}
