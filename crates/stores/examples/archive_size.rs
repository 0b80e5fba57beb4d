//! How many bytes a reading takes in the archive: `cargo run -p mantis-stores --example archive_size [FOLDER]`.
//!
//! Reads CSV files as those of SKAB (`datetime;sensor;...`, one asset per file), makes one object of them as the worker would, and
//! prints its size per reading, column by column.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use mantis_pipeline::{Record, TopicPartition};
use mantis_schemas::{Quality, SeriesInterner};
use mantis_stores::archive::{
    columns::{ArchiveColumns, Decoded, Kind},
    object::{self, Digest, Head},
};
use parquet::file::reader::{FileReader, SerializedFileReader};

/// Labels, which are no sensors.
const LABELS: [&str; 2] = ["anomaly", "changepoint"];
/// As a gateway sends them by default.
const READINGS_PER_RECORD: usize = 50;

fn main() {
    let recordings = || mantis_testing::recordings().map(|folder| folder.join("skab/data"));
    let Some(folder) = std::env::args().nth(1).map(PathBuf::from).or_else(recordings) else { return };
    let mut series = SeriesInterner::new(10_000);
    let mut columns = ArchiveColumns::new(Kind::Readings);
    let mut offset = 0;
    for file in files(&folder) {
        offset = read(&file, offset, &mut series, &mut columns);
    }
    let partition = TopicPartition::new("mantis.readings", 0);
    let head = Head { cluster_id: "measured".into(), partition, start: 0, end: offset, digest: Digest::of(columns.marks()) };
    let begun = Instant::now();
    let bytes = object::encode(&head, &columns.rows, &series.table()).unwrap();
    let readings = columns.rows.len() as f64;
    println!(
        "{readings} readings, {} bytes, {:.3} bytes per reading, {:?}",
        bytes.len(),
        bytes.len() as f64 / readings,
        begun.elapsed()
    );
    let file = SerializedFileReader::new(bytes).unwrap();
    for group in file.metadata().row_groups() {
        for column in group.columns() {
            let size = column.compressed_size();
            println!("  {:<26} {:>9} {:.3}", column.column_path().string(), size, size as f64 / readings);
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.extend(path.extension().is_some_and(|extension| extension == "csv").then_some(path)),
        }
    }
    files.sort();
    files
}

/// Appends a file's readings, sensor by sensor in records of some, as a gateway does.
fn read(file: &Path, mut offset: i64, series: &mut SeriesInterner, columns: &mut ArchiveColumns) -> i64 {
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    let sensors: Vec<&str> = lines.next().unwrap().split(';').skip(1).filter(|name| !LABELS.contains(name)).collect();
    let rows: Vec<(i64, Vec<f64>)> = lines
        .map(|line| {
            let (time, values) = line.split_once(';').unwrap();
            let time: jiff::civil::DateTime = time.replace(' ', "T").parse().unwrap();
            let time = time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_nanosecond() as i64;
            (time, values.split(';').map(|value| value.parse().unwrap()).collect())
        })
        .collect();
    let asset = file.file_stem().unwrap().to_str().unwrap();
    let asset = format!("skab-{}-{asset}", file.parent().unwrap().file_name().unwrap().to_str().unwrap());
    for rows in rows.chunks(READINGS_PER_RECORD) {
        for (number, sensor) in sensors.iter().enumerate() {
            let arrival_ms = 1_700_000_000_000 + offset / 3;
            columns.begin(&Record { offset, timestamp_ms: Some(arrival_ms), key: None, payload: None });
            for (index, (time_ns, values)) in (0..).zip(rows) {
                if let Decoded::Readings(into) = &mut columns.rows.decoded {
                    into.series.push(series.intern(&asset, sensor).unwrap());
                    into.time_ns.push(*time_ns);
                    into.value.push(values[number]);
                    into.quality.push(Quality::Good);
                    into.arrival_ms.push(arrival_ms);
                }
                columns.rows.placed(offset, index);
            }
            offset += 1;
        }
    }
    offset
}
