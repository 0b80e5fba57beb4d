//! Exports of a raw store.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use arrow_array::{Array, Float64Array, ListArray, StringArray, TimestampNanosecondArray, cast::AsArray};
use mantis_pipeline::{Assigned, Columns, Part, Sink, Span, TopicPartition};
use mantis_schemas::{Frame, FrameColumns, Quality, ReadingColumns, SampleFormat, SeriesInterner};
use mantis_stores::raw::{
    RawColumns,
    export::{self, Export, ExportFormat},
    sqlite::{LedgerIdentity, SqliteConfig, SqliteRaw, SqliteRawReader},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const ALL: Export = Export { format: ExportFormat::Csv, time_ns: i64::MIN..i64::MAX, with_arrival: false };

/// Rows (asset, sensor, time, value), in the order in which they are written, one record each.
async fn stored(rows: &[(&str, &str, i64, f64)], arrival_ms: i64) -> (tempfile::TempDir, SqliteRawReader) {
    let mut interner = SeriesInterner::new(1_000_000);
    let mut columns = ReadingColumns::default();
    for (asset, sensor, time_ns, value) in rows {
        columns.series.push(interner.intern(asset, sensor).unwrap());
        columns.time_ns.push(*time_ns);
        columns.value.push(*value);
        columns.quality.push(if *value < 0.0 { Quality::Uncertain } else { Quality::Good });
        columns.arrival_ms.push(arrival_ms);
    }
    write(interner, RawColumns::Readings(columns)).await
}

async fn write(interner: SeriesInterner, columns: RawColumns) -> (tempfile::TempDir, SqliteRawReader) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let identity = LedgerIdentity { cluster_id: "cluster".to_owned(), group: "raw".to_owned() };
    let sink = SqliteRaw::open(&file, interner.table(), identity, SqliteConfig::default()).unwrap();
    let partition = TopicPartition::new("mantis.readings", 0);
    let assigned = Assigned { partition: partition.clone(), committed: None, log_start: 0, log_end: 1 };
    sink.start(&[assigned]).await.unwrap();
    let spans = [Span { partition, from: 0, next: 1 }];
    sink.write(Part { columns: &columns, rows: 0..columns.rows(), spans: &spans, last: true }).await.unwrap();
    (folder, SqliteRawReader::open(&file).unwrap())
}

async fn csv(reader: &SqliteRawReader, export: &Export) -> String {
    let mut out = Vec::new();
    export::readings(reader, export, &mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn readings_are_sorted_by_identity_and_read_back_as_the_same_doubles() {
    let rows =
        [("b", "x", 2, 0.1), ("b", "x", 1, -0.0), ("a,\"q\"", "y", -1, 1e300), ("a", "z", 1_700_000_000_000_000_001, 5e-324)];
    let (_folder, reader) = stored(&rows, 7).await;
    assert_eq!(
        csv(&reader, &ALL).await,
        "asset,sensor,time,time_ns,value,quality\n\
         a,z,2023-11-14T22:13:20.000000001Z,1700000000000000001,5e-324,good\n\
         \"a,\"\"q\"\"\",y,1969-12-31T23:59:59.999999999Z,-1,1e300,good\n\
         b,x,1970-01-01T00:00:00.000000001Z,1,-0.0,good\n\
         b,x,1970-01-01T00:00:00.000000002Z,2,0.1,good\n"
    );
    let some = Export { time_ns: 1..2, with_arrival: true, ..ALL };
    assert_eq!(
        csv(&reader, &some).await,
        "asset,sensor,time,time_ns,value,quality,arrival_ms\nb,x,1970-01-01T00:00:00.000000001Z,1,-0.0,good,7\n"
    );
}

#[tokio::test]
async fn the_same_readings_give_the_same_bytes_whatever_the_order_and_time_of_their_arrival() {
    let rows: Vec<_> = (0..50_000).map(|row| (["fan", "pump"][row % 2], "temp", row as i64 / 2, row as f64 * 0.3)).collect();
    let backwards: Vec<_> = rows.iter().rev().copied().collect();
    let (_one, one) = stored(&rows, 1).await;
    let (_other, other) = stored(&backwards, 2).await;
    for format in [ExportFormat::Csv, ExportFormat::Parquet] {
        let export = Export { format, ..ALL };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        assert_eq!(export::readings(&one, &export, &mut first).await.unwrap(), 50_000);
        assert_eq!(export::readings(&other, &export, &mut second).await.unwrap(), 50_000);
        assert!(first == second, "{format:?} differs");
    }
}

#[tokio::test]
async fn readings_in_parquet_are_what_was_stored() {
    let rows: Vec<_> =
        (0..70_000).map(|row| ("pump", ["flow", "temp"][row / 35_000], row as i64, row as f64 * 0.1 - 1.0)).collect();
    let (folder, reader) = stored(&rows, 7).await;
    let file = folder.path().join("out.parquet");
    let out = std::fs::File::create(&file).unwrap();
    export::readings(&reader, &Export { format: ExportFormat::Parquet, with_arrival: true, ..ALL }, out).await.unwrap();
    let batches = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file).unwrap()).unwrap().build().unwrap();
    let mut read = Vec::new();
    for batch in batches {
        let batch = batch.unwrap();
        let sensor: &StringArray = batch.column_by_name("sensor").unwrap().as_string();
        let time: &TimestampNanosecondArray = batch.column_by_name("time").unwrap().as_primitive();
        let value: &Float64Array = batch.column_by_name("value").unwrap().as_primitive();
        let quality: &StringArray = batch.column_by_name("quality").unwrap().as_string();
        assert_eq!(batch.num_columns(), 6);
        for row in 0..batch.num_rows() {
            assert_eq!(quality.value(row), if value.value(row) < 0.0 { "uncertain" } else { "good" });
            read.push((sensor.value(row).to_owned(), time.value(row), value.value(row)));
        }
    }
    let expected: Vec<_> = rows.iter().map(|(_, sensor, time_ns, value)| ((*sensor).to_owned(), *time_ns, *value)).collect();
    assert!(read == expected);
}

#[tokio::test]
async fn frames_keep_their_samples_in_both_formats() {
    let mut interner = SeriesInterner::new(10);
    let series = interner.intern("pump", "vibration").unwrap();
    let shorts: Vec<u8> = [i16::MIN, 0, 7].iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let singles: Vec<u8> = [0.1f32, -0.0].iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let mut columns = FrameColumns::default();
    for (start_ns, format, scale, samples) in [(1, SampleFormat::I16, 0.5, &shorts), (0, SampleFormat::F32, 1.0, &singles)] {
        let quality = Quality::Good;
        columns.push(Frame { series, start_ns, sample_rate_hz: 12_000.0, format, scale, quality, arrival_ms: 3, samples });
    }
    let (folder, reader) = write(interner, RawColumns::Frames(columns)).await;

    let mut out = Vec::new();
    assert_eq!(export::frames(&reader, &ALL, &mut out).await.unwrap(), 2);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "asset,sensor,start,start_ns,sample_rate_hz,format,scale,quality,samples\n\
         pump,vibration,1970-01-01T00:00:00.000000000Z,0,12000.0,f32,1.0,good,0.10000000149011612 -0.0\n\
         pump,vibration,1970-01-01T00:00:00.000000001Z,1,12000.0,i16,0.5,good,-32768.0 0.0 7.0\n"
    );

    let file = folder.path().join("out.parquet");
    let out = std::fs::File::create(&file).unwrap();
    export::frames(&reader, &Export { format: ExportFormat::Parquet, ..ALL }, out).await.unwrap();
    let mut batches = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file).unwrap()).unwrap().build().unwrap();
    let batch = batches.next().unwrap().unwrap();
    let samples: &ListArray = batch.column_by_name("samples").unwrap().as_list();
    let of = |row: usize| samples.value(row).as_primitive::<arrow_array::types::Float64Type>().values().to_vec();
    assert_eq!((samples.len(), of(0), of(1)), (2, vec![f64::from(0.1f32), -0.0], vec![-32768.0, 0.0, 7.0]));
}

#[tokio::test]
async fn an_empty_store_gives_a_valid_empty_file() {
    let (folder, reader) = stored(&[], 0).await;
    assert_eq!(csv(&reader, &ALL).await, "asset,sensor,time,time_ns,value,quality\n");
    let file = folder.path().join("out.parquet");
    let out = std::fs::File::create(&file).unwrap();
    assert_eq!(export::readings(&reader, &Export { format: ExportFormat::Parquet, ..ALL }, out).await.unwrap(), 0);
    let rows = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file).unwrap())
        .unwrap()
        .metadata()
        .file_metadata()
        .num_rows();
    assert_eq!(rows, 0);
}
