//! `mantis dlq show`: one refused record whole, with what each group says of it.

use std::io::Write;

use anyhow::{Result, bail};
use mantis_kafka::{
    ClientConfig,
    dead_letter::RefusedRow,
    letters::{self, Whole, WholeRefusal},
};
use serde_json::{Value, json};

use super::text::{bytes_json, bytes_text, printable};
use crate::{exit::Exit, output};

/// Shows the record at `position`.
pub async fn show(client: &ClientConfig, position: &str, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let Some(record) = letters::whole(client, position).await? else {
        bail!("there is no dead letter of {position}: `mantis dlq list --all` lists what there is");
    };
    if as_json {
        output::json_line(out, &object(&record))?;
    } else {
        lines(&record, out)?;
    }
    Ok(Exit::Done)
}

fn lines(record: &Whole, out: &mut impl Write) -> Result<()> {
    let time = |ms: Option<i64>| ms.map_or_else(|| "-".into(), output::time_ms);
    writeln!(out, "record    {}", printable(&record.position.to_string()))?;
    for WholeRefusal { origin, written_ms, replayed_ms } in &record.letters {
        let replayed = replayed_ms.map_or_else(String::new, |ms| format!(", replayed at {}", time(Some(ms))));
        writeln!(out, "refused   by {} at {}{replayed}", printable(&origin.group), time(*written_ms))?;
        if let Some(why) = &origin.reason {
            writeln!(out, "  reason  {}: {}", printable(&why.code), printable(&why.detail))?;
        }
        for RefusedRow { row, why } in &origin.rows {
            writeln!(out, "  row {row:<3} {}: {}", printable(&why.code), printable(&why.detail))?;
        }
    }
    writeln!(out, "key       {}", bytes_text(record.key.as_deref()))?;
    for header in &record.headers {
        writeln!(out, "header    {} = {}", printable(&header.key), bytes_text(header.value.as_deref()))?;
    }
    let bytes = record.payload.as_ref().map_or(0, Vec::len);
    writeln!(out, "payload   {bytes} bytes\n{}", bytes_text(record.payload.as_deref()))?;
    Ok(())
}

fn object(record: &Whole) -> Value {
    let refusal = |WholeRefusal { origin, written_ms, replayed_ms }: &WholeRefusal| {
        let reason = origin.reason.as_ref().map(|why| json!({"code": why.code, "detail": why.detail}));
        let row = |refused: &RefusedRow| json!({"row": refused.row, "code": refused.why.code, "detail": refused.why.detail});
        json!({
            "group": origin.group,
            "reason": reason,
            "rows": origin.rows.iter().map(row).collect::<Vec<_>>(),
            "written_ms": written_ms,
            "replayed_ms": replayed_ms,
        })
    };
    let headers = record.headers.iter().map(|h| json!({"key": h.key, "value": bytes_json(h.value.as_deref())}));
    json!({
        "position": record.position.to_string(),
        "topic": &*record.position.partition.topic,
        "partition": record.position.partition.partition,
        "offset": record.position.offset,
        "timestamp_ms": record.letters.first().and_then(|letter| letter.origin.timestamp_ms),
        "payload_bytes": record.payload.as_ref().map_or(0, Vec::len),
        "refusals": record.letters.iter().map(refusal).collect::<Vec<_>>(),
        "key": bytes_json(record.key.as_deref()),
        "payload": bytes_json(record.payload.as_deref()),
        "headers": headers.collect::<Vec<_>>(),
    })
}
