//! What a reading takes in the archive, on the recordings of SKAB.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use mantis_pipeline::{Record, TopicPartition};
use mantis_schemas::{Quality, SeriesInterner};
use mantis_stores::archive::{
    columns::{ArchiveColumns, Decoded, Kind},
    object::{self, Digest, Head},
};

use crate::figures::Figure;

/// Labels, which are no sensors.
const LABELS: [&str; 2] = ["anomaly", "changepoint"];
/// As a gateway sends them by default.
const READINGS_PER_RECORD: usize = 50;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with the CSV files of SKAB (`datetime;sensor;...`, an asset each); where there is none, nothing is measured
    #[arg(long, default_value = "../shared/data/skab/data")]
    archive_recordings: PathBuf,
}

/// One object of all files, as the worker makes it.
pub fn run(args: &Args) -> Result<Vec<Figure>> {
    if !args.archive_recordings.is_dir() {
        return Ok(Vec::new());
    }
    let mut series = SeriesInterner::new(10_000);
    let mut columns = ArchiveColumns::new(Kind::Readings);
    let mut offset = 0;
    for file in files(&args.archive_recordings)? {
        offset = read(&file, offset, &mut series, &mut columns).with_context(|| file.display().to_string())?;
    }
    let partition = TopicPartition::new("mantis.readings", 0);
    let head = Head { cluster_id: "measured".into(), partition, start: 0, end: offset, digest: Digest::of(columns.marks()) };
    let bytes = object::encode(&head, &columns.rows, &series.table())?;
    let per_reading = bytes.len() as f64 / columns.rows.len() as f64;
    Ok(vec![Figure::at_most("archive of the SKAB recordings", per_reading, "bytes/reading", 4.0)])
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files.extend(self::files(&path)?),
            false => files.extend(path.extension().is_some_and(|extension| extension == "csv").then_some(path)),
        }
    }
    files.sort();
    Ok(files)
}

/// Appends a file's readings, sensor by sensor in records of some, as a gateway does.
fn read(file: &Path, mut offset: i64, series: &mut SeriesInterner, columns: &mut ArchiveColumns) -> Result<i64> {
    let text = fs::read_to_string(file)?;
    let mut lines = text.lines();
    let header = lines.next().context("the file is empty")?;
    let sensors: Vec<&str> = header.split(';').skip(1).filter(|name| !LABELS.contains(name)).collect();
    let mut rows: Vec<(i64, Vec<f64>)> = Vec::new();
    for line in lines {
        let (time, values) = line.split_once(';').context("a row has one cell")?;
        let time = time.parse::<jiff::civil::DateTime>()?.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_nanosecond();
        rows.push((i64::try_from(time)?, values.split(';').map(str::parse).collect::<Result<_, _>>()?));
    }
    let asset = file.with_extension("").display().to_string();
    for rows in rows.chunks(READINGS_PER_RECORD) {
        for (number, sensor) in sensors.iter().enumerate() {
            let id = series.intern(&asset, sensor).context("there are too many series")?;
            let arrival_ms = 1_700_000_000_000 + offset / 3;
            columns.begin(&Record { offset, timestamp_ms: Some(arrival_ms), key: None, payload: None });
            for (index, (time_ns, values)) in (0..).zip(rows) {
                if let Decoded::Readings(into) = &mut columns.rows.decoded {
                    into.series.push(id);
                    into.time_ns.push(*time_ns);
                    into.value.push(*values.get(number).context("a row is short")?);
                    into.quality.push(Quality::Good);
                    into.arrival_ms.push(arrival_ms);
                }
                columns.rows.placed(offset, index);
            }
            offset += 1;
        }
    }
    Ok(offset)
}
