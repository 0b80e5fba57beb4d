//! `mantis dlq list`: the records that were refused, one each, whoever refused them.

use std::io::Write;

use anyhow::Result;
use mantis_kafka::{
    ClientConfig,
    letters::{self, Filter, LETTERS_MAX, Order, Place, Reason, Refusal, RefusedRecord},
};
use serde_json::{Value, json};

use super::text::{more, printable};
use crate::{exit::Exit, output};

/// Lists the newest, or the oldest from a place on or where none of the newest is wanted; exit code 3 when there is something to look at.
pub async fn list(client: &ClientConfig, filter: &Filter, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let found = match filter.from {
        Some(_) => letters::oldest(client, filter, LETTERS_MAX).await?,
        None => letters::newest(client, filter, LETTERS_MAX).await?,
    };
    for record in &found.records {
        if as_json {
            output::json_line(out, &object(record))?;
        } else {
            lines(record, out)?;
        }
    }
    match (&found.more_from, as_json) {
        (Some(from), true) => output::json_line(out, &json!({"more_from": from.to_string()}))?,
        (Some(from), false) if found.order == Order::NewestFirst => writeln!(out, "{}", older(from))?,
        (Some(from), false) => writeln!(out, "{}", more(from))?,
        (None, _) => {}
    }
    match (as_json, found.records.len()) {
        (true, _) => {}
        (false, 0) => writeln!(out, "no dead letters")?,
        (false, records) => writeln!(out, "{records} records; `mantis dlq show POSITION` shows one whole")?,
    }
    Ok(if found.records.is_empty() && found.more_from.is_none() { Exit::Done } else { Exit::Attention })
}

/// How to see what lies before the bound on letters.
fn older(from: &Place) -> String {
    format!(
        "only the newest dead letters were looked at, {} at least; older ones are not shown: the same command with \
         `--from {from}` begins with the oldest",
        output::grouped(LETTERS_MAX as u64)
    )
}

/// The record, and below it each reason with those who refused it for that.
fn lines(record: &RefusedRecord, out: &mut impl Write) -> Result<()> {
    let when = record.written_ms().map_or_else(|| "-".into(), output::time_ms);
    writeln!(out, "{}  {when}", printable(&record.position.to_string()))?;
    for (reason, groups) in by_reason(&record.refusals) {
        let what = match reason.rows {
            None => "record".into(),
            Some(1) => "1 row".into(),
            Some(rows) => format!("{} rows", output::grouped(rows as u64)),
        };
        let Reason { code, detail, .. } = reason;
        writeln!(out, "    {what}  {}  {}: {}", printable(code), printable(&groups.join(", ")), printable(detail))?;
    }
    Ok(())
}

/// The reasons of a record, each once, with the groups that gave it.
fn by_reason(refusals: &[Refusal]) -> Vec<(&Reason, Vec<String>)> {
    let mut reasons: Vec<(&Reason, Vec<String>)> = Vec::new();
    for refusal in refusals {
        let replayed = if refusal.replayed_ms.is_some() { " (replayed)" } else { "" };
        for reason in &refusal.reasons {
            let group = format!("{}{replayed}", refusal.group);
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, groups)) => groups.push(group),
                None => reasons.push((reason, vec![group])),
            }
        }
    }
    reasons.iter_mut().for_each(|(_, groups)| groups.sort_unstable());
    reasons
}

fn object(record: &RefusedRecord) -> Value {
    let refusal = |refusal: &Refusal| {
        let reasons = refusal.reasons.iter();
        json!({
            "group": refusal.group,
            "reasons": reasons
                .map(|reason| json!({"code": reason.code, "detail": reason.detail, "row_count": reason.rows}))
                .collect::<Vec<_>>(),
            "written_ms": refusal.written_ms,
            "replayed_ms": refusal.replayed_ms,
        })
    };
    json!({
        "position": record.position.to_string(),
        "topic": &*record.position.partition.topic,
        "partition": record.position.partition.partition,
        "offset": record.position.offset,
        "timestamp_ms": record.timestamp_ms,
        "payload_bytes": record.payload_bytes,
        "refusals": record.refusals.iter().map(refusal).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use mantis_pipeline::TopicPartition;

    use super::*;

    fn refusal(group: &str, code: &str, rows: Option<usize>, replayed_ms: Option<i64>) -> Refusal {
        let place = Place { partition: TopicPartition::new("mantis.readings.dlq", 0), offset: 1 };
        let reasons = vec![Reason { code: code.into(), detail: format!("{code}\u{202e}!"), rows }];
        Refusal { group: group.into(), reasons, place, written_ms: Some(1_700_000_000_000), replayed_ms }
    }

    #[test]
    fn a_record_is_shown_once_with_each_reason_and_those_who_gave_it() {
        let record = RefusedRecord {
            position: Place { partition: TopicPartition::new("mantis.readings", 0), offset: 42 },
            timestamp_ms: None,
            payload_bytes: 7,
            refusals: vec![
                refusal("mantis-raw", "not-finite", Some(1), None),
                refusal("mantis-features", "too-late", Some(1_234), None),
                refusal("mantis-cache", "not-finite", Some(1), Some(5)),
            ],
        };
        let mut out = Vec::new();
        lines(&record, &mut out).unwrap();
        let text = "mantis.readings/0/42  2023-11-14T22:13:20Z
    1 row  not-finite  mantis-cache (replayed), mantis-raw: not-finite\\u{202e}!
    1 234 rows  too-late  mantis-features: too-late\\u{202e}!
";
        assert_eq!(String::from_utf8(out).unwrap(), text);
        let object = object(&record);
        assert_eq!(object["position"], "mantis.readings/0/42");
        assert_eq!(object["refusals"][1]["reasons"][0]["row_count"], 1_234);
        assert_eq!(object["refusals"][2]["replayed_ms"], 5);
    }
}
