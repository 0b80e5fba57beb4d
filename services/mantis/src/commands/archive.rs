//! `mantis archive`: what is archived, whether it is whole, and its rows.

use std::{io::Write, ops::Range};

use anyhow::{Context, Result, anyhow, bail};
use mantis_pipeline::TopicPartition;
use mantis_schemas::{Feature, SeriesInterner, SeriesTable};
use mantis_stores::archive::{
    ArchiveStore,
    columns::{ArchiveRows, Decoded},
    gaps,
    key::Place,
    object::Manifest,
    scan::{self, Objects, Rows, ScanError},
};
use mantis_workers::{
    archive::{self, Report},
    features::Recomputed,
};
use serde_json::{Value, json};

use crate::{
    cli::{Archive, ArchiveFilter},
    config::Config,
    exit::{Exit, Usage},
    output::{self, grouped},
    parts,
};

/// Does what `command` asks for; exit code 3 when the archive is not whole.
pub async fn archive(config: &Config, command: &Archive, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let store = parts::archive_reader(config);
    match command {
        Archive::List(filter) => list(&store, filter, as_json, out).await.map(|()| Exit::Done),
        Archive::Verify(args) => {
            let client = (!args.offline).then(|| parts::connect(config, args.brokers.as_deref())).transpose()?;
            let report = archive::verify(&store, client.as_ref(), config.decode.series_max).await?;
            if as_json {
                output::json_line(out, &report)?
            } else {
                show(&report, out)?
            }
            Ok(if report.whole { Exit::Done } else { Exit::Attention })
        }
        Archive::Cat { what } => cat(&store, what, config.decode.series_max, out).await.map(|()| Exit::Done),
        Archive::Features => features(config, &store, out).await,
    }
}

async fn list(store: &impl ArchiveStore, filter: &ArchiveFilter, as_json: bool, out: &mut impl Write) -> Result<()> {
    let mut objects = Objects::under(store, "");
    let mut rows = Vec::new();
    while let Some(listed) = objects.next().await? {
        let place = Place::of(&listed.key);
        let topic = place.as_ref().map(|place| &*place.partition.topic);
        if filter.topic.as_deref().is_some_and(|wanted| topic != Some(wanted)) {
            continue;
        }
        let manifest = match &place {
            Some(_) => readable(scan::manifest(store, &listed.key).await)?,
            None => None,
        };
        if as_json {
            let start = place.as_ref().map(|place| place.start);
            let (missing, gaps) = (manifest.as_ref().map(Manifest::missing), manifest.as_ref().map(|manifest| &manifest.gaps));
            let object = json!({
                "key": listed.key, "topic": topic, "start": start, "bytes": listed.bytes, "missing": missing, "gaps": gaps,
            });
            output::json_line(out, &object)?;
        } else {
            let missing = manifest.map_or("?".into(), |manifest| gaps::describe(&manifest.gaps, manifest.missing()));
            rows.push(vec![listed.key, grouped(listed.bytes), missing]);
        }
    }
    if !as_json {
        output::table(out, &["object", "bytes", "missing"], &rows)?;
    }
    Ok(())
}

/// `None` for an object that cannot be read: `verify` says why.
fn readable(manifest: Result<Manifest, ScanError>) -> Result<Option<Manifest>> {
    match manifest {
        Ok(manifest) => Ok(Some(manifest)),
        Err(ScanError::Object { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub fn show(report: &Report, out: &mut impl Write) -> Result<()> {
    let rows: Vec<Vec<String>> = report
        .partitions
        .iter()
        .map(|chain| {
            let behind = chain.log.as_ref().map_or("-".into(), |log| grouped((log.end - chain.end).max(0).unsigned_abs()));
            let compared = chain.log.as_ref().map_or(0, |log| log.compared);
            let numbers =
                [chain.objects, compared, chain.records, chain.missing, chain.rows, chain.undecoded, chain.bytes].map(grouped);
            [format!("{}/{}", chain.topic, chain.partition), chain.start.to_string(), chain.end.to_string(), behind]
                .into_iter()
                .chain(numbers)
                .collect()
        })
        .collect();
    let header = ["chain", "from", "to", "behind", "objects", "compared", "records", "missing", "rows", "undecoded", "bytes"];
    output::table(out, &header, &rows)?;
    for finding in &report.findings {
        writeln!(out, "WRONG    {:?} {}: {}", finding.what, finding.place, finding.detail)?;
    }
    let more = report.wrong.saturating_sub(report.findings.len() as u64);
    if more > 0 {
        writeln!(out, "WRONG    and {} more", grouped(more))?;
    }
    writeln!(out, "{}", if report.whole { "whole: each position is in exactly one object" } else { "NOT WHOLE" })?;
    Ok(())
}

/// Prints rows, a JSON object per line: of an object, or of a range of positions.
async fn cat(store: &impl ArchiveStore, what: &str, series_max: usize, out: &mut impl Write) -> Result<()> {
    let mut series = SeriesInterner::new(series_max);
    if Place::of(what).is_some() {
        let (manifest, rows) = scan::read(store, what, &mut series).await?;
        return print(&manifest, &rows, &series.table(), out);
    }
    let (partition, range) = parse(what).map_err(Usage)?;
    let mut found = false;
    for cluster_id in clusters(store, &partition).await? {
        let mut objects = Rows::of(store, &cluster_id, partition.clone(), range.clone());
        while let Some((manifest, rows)) = objects.next(&mut series).await? {
            found = true;
            print(&manifest, &rows, &series.table(), out)?;
        }
    }
    if !found {
        bail!("the archive has nothing of {what}: `mantis archive list` shows what there is");
    }
    Ok(())
}

/// Prints features as the configuration defines them now, whatever was configured when the readings came.
async fn features(config: &Config, store: &impl ArchiveStore, out: &mut impl Write) -> Result<Exit> {
    let (defined, sensors) = (parts::features(config).map_err(Usage)?, parts::sensors(config).map_err(Usage)?);
    let mut recomputed = Recomputed::new(store, defined, sensors, config.decode.series_max).await?;
    while let Some(rows) = recomputed.next().await? {
        for (series, row) in &rows {
            output::json_line(out, &feature(&series.asset, &series.sensor, row))?;
        }
    }
    if recomputed.missing() == 0 {
        return Ok(Exit::Done);
    }
    tracing::warn!(
        missing = recomputed.missing(),
        "positions of the archive hold no record: windows are cut where the log had lost one; `mantis archive verify` names them, and tells \
         them from marks of transactions while the log has them"
    );
    Ok(Exit::Attention)
}

/// `topic/partition/offset` or `topic/partition/from-to`, the end not included.
fn parse(what: &str) -> Result<(TopicPartition, Range<i64>)> {
    let wrong = || anyhow!("{what} is neither an object's key nor topic/partition/offset nor topic/partition/from-to");
    let mut parts = what.rsplitn(3, '/');
    let (Some(range), Some(partition), Some(topic)) = (parts.next(), parts.next(), parts.next()) else { bail!(wrong()) };
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0).with_context(wrong);
    let range = match range.split_once('-') {
        Some((from, to)) => number(from)?..number(to)?,
        None => number(range)?..number(range)?.saturating_add(1),
    };
    let partition = partition.parse().ok().filter(|partition| *partition >= 0).with_context(wrong)?;
    Ok((TopicPartition::new(topic, partition), range))
}

/// The clusters that have a chain of the partition.
async fn clusters(store: &impl ArchiveStore, partition: &TopicPartition) -> Result<Vec<String>> {
    let mut objects = Objects::under(store, "");
    let mut found: Vec<String> = Vec::new();
    while let Some(listed) = objects.next().await? {
        match Place::of(&listed.key) {
            Some(place) if place.partition == *partition && found.last() != Some(&place.cluster_id) => {
                found.push(place.cluster_id)
            }
            _ => {}
        }
    }
    Ok(found)
}

fn print(manifest: &Manifest, rows: &ArchiveRows, series: &SeriesTable, out: &mut impl Write) -> Result<()> {
    let (mut decoded, mut kept) = (0, 0);
    for (offset, row) in rows.offset.iter().zip(&rows.row) {
        let mut line = json!({"topic": manifest.topic, "partition": manifest.partition, "offset": offset});
        if *row == ArchiveRows::ORIGINAL {
            merge(&mut line, original(rows, kept));
            kept += 1;
        } else {
            line["row"] = json!(row);
            merge(&mut line, value(&rows.decoded, decoded, series)?);
            decoded += 1;
        }
        output::json_line(out, &line)?;
    }
    Ok(())
}

fn merge(line: &mut Value, more: Value) {
    if let (Value::Object(line), Value::Object(more)) = (line, more) {
        line.extend(more);
    }
}

fn value(decoded: &Decoded, row: usize, table: &SeriesTable) -> Result<Value> {
    let table = table.read();
    let name = |series: mantis_schemas::SeriesId| {
        let series = table.get(series.index()).context("a series has no name: this is a defect")?;
        Ok::<_, anyhow::Error>((series.asset.to_string(), series.sensor.to_string()))
    };
    Ok(match decoded {
        Decoded::Readings(readings) => {
            let (asset, sensor) = name(readings.series[row])?;
            json!({
                "asset": asset, "sensor": sensor, "time": output::time(readings.time_ns[row]), "value": readings.value[row],
                "quality": readings.quality[row].name(), "arrival_ms": readings.arrival_ms[row],
            })
        }
        Decoded::Frames(frames) => {
            let frame = frames.frame(row);
            let (asset, sensor) = name(frame.series)?;
            json!({
                "asset": asset, "sensor": sensor, "start": output::time(frame.start_ns), "sample_rate_hz": frame.sample_rate_hz,
                "format": frame.format.name(), "scale": frame.scale, "quality": frame.quality.name(), "arrival_ms": frame.arrival_ms,
                "samples": frame.format.values(frame.scale, frame.samples).collect::<Vec<_>>(),
            })
        }
        Decoded::Features(features) => {
            let (asset, sensor) = name(features.series[row])?;
            feature(&asset, &sensor, &features.rows[row])
        }
        Decoded::Events(events) => serde_json::from_str(&events.rows()[row].json)?,
        Decoded::Records => Value::Null,
    })
}

fn feature(asset: &str, sensor: &str, feature: &Feature) -> Value {
    let mut line = json!({
        "asset": asset, "sensor": sensor, "window": mantis_schemas::window_name(feature.window_ns),
        "start": output::time(feature.start_ns), "end": output::time(feature.end_ns), "version": feature.version,
        "count": feature.count, "uncertain": feature.uncertain, "bad": feature.bad, "coverage": feature.coverage,
        "exact": feature.exact, "provisional": feature.provisional, "revision": feature.revision,
        "processed_ms": feature.processed_ms, "extras": &*feature.extras,
    });
    for (figure, value) in feature.figures.iter() {
        line[figure.name()] = json!(value);
    }
    line
}

fn original(rows: &ArchiveRows, kept: usize) -> Value {
    let original = &rows.originals[kept];
    let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(text);
    let headers: Vec<Value> =
        original.headers.iter().map(|header| json!({"name": header.key, "value": text(&header.value)})).collect();
    json!({
        "code": original.code, "reason": original.reason, "timestamp_ms": original.timestamp_ms, "key": text(&original.key),
        "payload": text(&original.payload), "headers": headers,
    })
}

/// Text as it is, other bytes in hexadecimal.
fn text(bytes: &[u8]) -> String {
    let hex = |_| bytes.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}"));
    std::str::from_utf8(bytes).map_or_else(hex, str::to_owned)
}

#[cfg(test)]
mod tests {
    use mantis_stores::archive::{
        columns::Kind,
        folder::FolderArchive,
        key::key,
        object::{self, Digest, Head},
    };

    use super::*;

    #[tokio::test]
    async fn a_list_names_the_positions_without_a_record_and_marks_what_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderArchive::open(folder.path()).unwrap();
        let partition = TopicPartition::new("mantis.readings", 2);
        let head = Head { cluster_id: "c".into(), partition: partition.clone(), start: 0, end: 10, digest: Digest::default() };
        let torn = object::encode(&head, &ArchiveRows::new(Kind::Readings), &SeriesTable::default()).unwrap();
        store.create(&key("c", &partition, 0), torn).await.unwrap();
        store.create(&key("c", &partition, 10), "no object".into()).await.unwrap();
        let mut out = Vec::new();
        list(&store, &ArchiveFilter { topic: None }, false, &mut out).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert!(lines[1].ends_with("  [0, 10)") && lines[2].ends_with("  ?"), "{text}");
        let mut out = Vec::new();
        list(&store, &ArchiveFilter { topic: None }, true, &mut out).await.unwrap();
        let first: Value = serde_json::from_slice(out.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
        assert_eq!((&first["missing"], &first["gaps"]), (&json!(10), &json!([{"start": 0, "end": 10}])));
    }

    #[test]
    fn a_position_and_a_range_of_positions_are_told_apart() {
        let partition = || TopicPartition::new("mantis.readings", 2);
        assert_eq!(parse("mantis.readings/2/7").unwrap(), (partition(), 7..8));
        assert_eq!(parse("mantis.readings/2/7-9").unwrap(), (partition(), 7..9));
        for wrong in
            ["", "mantis.readings", "mantis.readings/2", "mantis.readings/x/7", "mantis.readings/2/x", "t/2/7-", "t/-1/7"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
