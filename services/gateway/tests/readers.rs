//! What each kind of file becomes, row by row.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{io::Write, path::PathBuf};

use mantis_gateway::{Error, Format, Mapping, Piece, Recording, Totals};
use mantis_schemas::{Quality, SampleFormat};
use proptest::prelude::*;

const WIDE: &str = "asset = '{file.stem}'\n[time]\nvalue = '{t}'\n[sensors]\n'*' = {}\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn open(&self, mapping: &str, batch: usize, format: Format) -> Result<Recording, Error> {
        Recording::open(Mapping::parse(mapping, "m.toml")?, &[self.0.path().to_path_buf()], batch, format)
    }

    /// `asset/sensor@time=value` of each reading, and the totals.
    fn readings(&self, mapping: &str, batch: usize, format: Format) -> (Vec<String>, Totals) {
        let mut recording = self.open(mapping, batch, format).unwrap();
        let mut found = Vec::new();
        while let Some((_, piece)) = recording.next_piece().unwrap() {
            let Piece::Readings { asset, sensor, times_ns, values, qualities, .. } = piece else { panic!("a frame") };
            assert!(times_ns.len() <= batch && times_ns.len() == values.len());
            for (row, (time_ns, value)) in times_ns.iter().zip(values).enumerate() {
                let quality = qualities.get(row).copied().unwrap_or(Quality::Good);
                let mark = if quality == Quality::Good { "" } else { quality.name() };
                found.push(format!("{asset}/{sensor}@{}={value}{mark}", *time_ns as f64 / 1e9));
            }
        }
        (found, recording.totals().clone())
    }
}

fn words(totals: &Totals) -> Vec<String> {
    totals.refusals.iter().map(ToString::to_string).collect()
}

#[test]
fn a_wide_file_gives_a_reading_per_cell_and_names_what_it_refuses() {
    let folder = Folder::new();
    folder.file(
        "m1.csv",
        "t,a,b\n1970-01-01 00:00:01,1.5,2\n1970-01-01 00:00:02,,x\nnever,1,1\n1970-01-01 00:00:03,1\n1970-01-01 00:00:04,NaN,-3e2\n1970-01-01 00:00:05,1,2,3\n",
    );
    let (found, totals) = folder.readings(WIDE, 1, Format::Avro);
    assert_eq!(found, ["m1/a@1=1.5", "m1/b@1=2", "m1/a@4=NaN", "m1/b@4=-300"]);
    assert_eq!((totals.files, totals.rows, totals.readings, totals.blanks, totals.refused), (1, 6, 4, 1, 4));
    let words = words(&totals);
    for (word, expected) in words.iter().zip([
        "m1.csv:3: `b`: `x` is no number",
        "m1.csv:4: `never`",
        "m1.csv:5: the row has 2",
        "m1.csv:7: the row has 4",
    ]) {
        assert!(word.contains(expected), "{word}");
    }
}

#[test]
fn json_refuses_what_it_cannot_carry() {
    let folder = Folder::new();
    folder.file("m1.csv", "t,a\n1970-01-01 00:00:01,NaN\n1970-01-01 00:00:02,inf\n1970-01-01 00:00:03,1\n");
    let (found, totals) = folder.readings(WIDE, 1, Format::Json);
    assert_eq!(found, ["m1/a@3=1"]);
    assert_eq!(totals.refused, 2);
    assert!(words(&totals)[0].contains("m1.csv:2: `a` is NaN, which JSON cannot carry"));
}

#[test]
fn a_long_file_has_its_sensors_qualities_and_marks_of_no_value() {
    let folder = Folder::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(
        "\u{feff}machine;timestamp;tag;value;status\r\nm1;31.12.2019 23:00:00;\"flow; in\";1,5;192\r\nm1;31.12.2019 23:00:00;temp;NULL;192\r\nm2;1.1.2020 00:00:00;temp;-7;Bad\r\nm2;1.1.2020 00:00:00;temp;8;?\r\n;1.1.2020 00:00:00;temp;8;192\r\n"
            .as_bytes(),
    )
    .unwrap();
    folder.file("plant.csv.gz", gzip.finish().unwrap());
    let mapping = std::fs::read_to_string(mantis_testing::repository().join("examples/long.toml")).unwrap();
    let (found, totals) = folder.readings(&mapping, 1, Format::Avro);
    assert_eq!(found, ["m1/flow; in@1577829600=1.5", "m2/temp@1577833200=-7bad"]);
    assert_eq!((totals.blanks, totals.refused), (1, 2));
    assert!(words(&totals)[0].contains("plant.csv.gz:5: `?` is no quality"), "{:?}", words(&totals));
    assert!(words(&totals)[1].contains("plant.csv.gz:6: the asset is blank"));
}

#[test]
fn a_long_file_leaves_out_sensors_that_the_mapping_does_not_name() {
    let folder = Folder::new();
    folder.file("a.csv", "t,s,v\n1,x,1\n2,y,2\n3,x,3\n");
    let mapping =
        "asset = 'm'\n[time]\nvalue = '{t}'\nformat = 's'\n[long]\nsensor = 's'\nvalue = 'v'\n[sensors]\nx = { name = 'ex' }\n";
    let (found, totals) = folder.readings(mapping, 1, Format::Avro);
    assert_eq!(found, ["m/ex@1=1", "m/ex@3=3"]);
    assert_eq!(totals.ignored, 1);
}

#[test]
fn short_rows_are_read_where_the_mapping_says_so() {
    let folder = Folder::new();
    folder.file("a.csv", "t,x,y\n1,5\n2,6,7,\n");
    let mapping = "asset = 'm'\n[time]\nvalue = '{t}'\nformat = 's'\n[csv]\nshort_rows = 'blank'\n[sensors]\n'*' = {}\n";
    let (found, totals) = folder.readings(mapping, 1, Format::Avro);
    assert_eq!(found, ["m/x@1=5", "m/x@2=6", "m/y@2=7"]);
    assert_eq!((totals.blanks, totals.refused), (1, 0));
}

#[test]
fn a_mapping_that_does_not_fit_a_file_is_an_error_before_the_first_message() {
    let folder = Folder::new();
    folder.file("a.csv", "t,presure\n1,5\n");
    let mapping = "asset = 'm'\n[time]\nvalue = '{t}'\nformat = 's'\n[sensors]\npressure = {}\n";
    let Err(error) = folder.open(mapping, 1, Format::Avro) else { panic!("it was opened") };
    let error = error.to_string();
    assert!(error.contains("a.csv: the mapping names a column `pressure`") && error.contains("`presure`"), "{error}");
}

#[test]
fn files_that_overlap_are_merged_by_time_and_an_empty_one_harms_none() {
    let folder = Folder::new();
    folder.file("0.csv", "");
    folder.file("b.csv", "t,x\n1,1\n3,3\n5,5\n");
    folder.file("a.csv", "t,x\n2,2\n4,4\n6,6\n");
    let mapping = "asset = '{file.stem}'\n[time]\nvalue = '{t}'\nformat = 's'\n[sensors]\nx = {}\n";
    let (found, totals) = folder.readings(mapping, 1, Format::Avro);
    assert_eq!(totals.files, 3);
    assert_eq!(found, ["b/x@1=1", "a/x@2=2", "b/x@3=3", "a/x@4=4", "b/x@5=5", "a/x@6=6"]);
}

#[test]
fn files_with_a_time_of_day_go_on_over_midnight() {
    let folder = Folder::new();
    folder.file("1.csv", "t,x\n23:59:58,1\n23:59:59,2\n00:00:01,3\n");
    folder.file("2.csv", "t,x\n00:00:02,4\n");
    let mapping = "asset = 'm'\n[time]\nvalue = '1970-01-01 {t}'\nday_rolls_over = true\n[sensors]\nx = {}\n";
    let (found, _) = folder.readings(mapping, 1, Format::Avro);
    assert_eq!(found, ["m/x@86398=1", "m/x@86399=2", "m/x@86401=3", "m/x@86402=4"]);
}

fn frames(folder: &Folder, mapping: &str) -> (Vec<(String, i64, Vec<f64>)>, Totals) {
    let mut recording = folder.open(mapping, 1, Format::Avro).unwrap();
    let mut found = Vec::new();
    while let Some((_, piece)) = recording.next_piece().unwrap() {
        let Piece::Frame { sensor, start_ns, format, scale, samples, .. } = piece else { panic!("readings") };
        found.push((sensor.to_string(), start_ns, format.values(scale, &samples).collect()));
    }
    (found, recording.totals().clone())
}

#[test]
fn a_waveform_file_becomes_frames_that_break_where_samples_are_missing() {
    let folder = Folder::new();
    folder.file("a.csv", "x,y\n1,10\n2,20\n,30\n4,oops\n5,50\n");
    let mapping = "asset = 'm'\n[time]\nvalue = '1970-01-01'\n[frames]\nrate_hz = 1000\nsamples = 2\n[sensors]\n'*' = {}\n";
    let (mut found, totals) = frames(&folder, mapping);
    found.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
    let expected = [
        ("x", 0, vec![1.0, 2.0]),
        ("x", 3_000_000, vec![4.0, 5.0]),
        ("y", 0, vec![10.0, 20.0]),
        ("y", 2_000_000, vec![30.0]),
        ("y", 4_000_000, vec![50.0]),
    ];
    assert_eq!(found, expected.map(|(sensor, start_ns, samples)| (sensor.to_owned(), start_ns, samples)));
    assert_eq!((totals.samples, totals.frames, totals.blanks, totals.refused), (8, 5, 1, 1));
}

#[test]
fn a_waveform_with_times_breaks_where_they_jump() {
    let folder = Folder::new();
    folder.file("a.csv", "t,x\n0.0,1\n0.5,2\n9.0,3\n9.5,4\n");
    let mapping = "asset = 'm'\n[time]\nvalue = '{t}'\nformat = 's'\n[frames]\nrate_hz = 2\n[sensors]\nx = {}\n";
    let (found, _) = frames(&folder, mapping);
    assert_eq!(found, [("x".to_owned(), 0, vec![1.0, 2.0]), ("x".to_owned(), 9_000_000_000, vec![3.0, 4.0])]);
}

#[test]
fn raw_channels_are_taken_apart_and_a_sample_that_is_not_finite_breaks_its_frame_only() {
    let folder = Folder::new();
    let samples = [1.0f32, 10.0, f32::NAN, 20.0, 3.0, 30.0];
    let bytes: Vec<u8> =
        [0u8; 4].into_iter().chain(samples.iter().flat_map(|sample| sample.to_le_bytes())).chain([1, 2, 3]).collect();
    folder.file("a.f32", bytes);
    let mapping = "asset = 'm'\n[time]\nvalue = '1970-01-01'\n[raw]\nsamples = 'f32le'\nchannels = ['x', 'y']\nskip_bytes = 4\n[frames]\nrate_hz = 10\n";
    let (found, totals) = frames(&folder, mapping);
    let expected = [("x", 0, vec![1.0]), ("y", 0, vec![10.0, 20.0, 30.0]), ("x", 200_000_000, vec![3.0])];
    let mut found = found;
    found.sort_by_key(|(_, start_ns, _)| *start_ns);
    assert_eq!(found, expected.map(|(sensor, start_ns, samples)| (sensor.to_owned(), start_ns, samples)));
    assert_eq!((totals.rows, totals.samples, totals.refused), (3, 5, 2));
}

#[test]
fn raw_integers_keep_their_form_and_scale() {
    let folder = Folder::new();
    folder.file("a.i16", [1i16, -2, 300].iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>());
    let mapping = "asset = 'm'\n[time]\nvalue = '1970-01-01'\n[raw]\nsamples = 'i16le'\nchannels = ['x']\nscale = 0.5\n[frames]\nrate_hz = 10\n";
    let mut recording = folder.open(mapping, 1, Format::Avro).unwrap();
    let (_, piece) = recording.next_piece().unwrap().unwrap();
    let Piece::Frame { format, scale, samples, .. } = piece else { panic!("readings") };
    assert_eq!((format, scale, samples), (SampleFormat::I16, 0.5, vec![1, 0, 0xfe, 0xff, 0x2c, 0x01]));
}

#[test]
fn every_mapping_in_the_examples_is_a_mapping() {
    let mut checked = 0;
    for folder in ["examples", "examples/demo"] {
        for entry in std::fs::read_dir(mantis_testing::repository().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                Mapping::read(&path).unwrap();
                checked += 1;
            }
        }
    }
    assert!(checked >= 10, "{checked}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever goes into a message, the readings of each sensor are the same, in the same order.
    #[test]
    fn any_batch_size_gives_the_same_readings(rows in prop::collection::vec((0u32..3, 0u32..1_000, -1e6f64..1e6), 1..200), batch in 2usize..300) {
        let folder = Folder::new();
        let lines: String = rows.iter().map(|(machine, time, value)| format!("{machine},{time},{value},{}\n", -value)).collect();
        folder.file("a.csv", format!("machine,t,x,y\n{lines}"));
        let mapping = "asset = 'm{machine}'\n[time]\nvalue = '{t}'\nformat = 's'\n[sensors]\n'*' = {}\n";
        let by_series = |batch| {
            let (mut found, totals) = folder.readings(mapping, batch, Format::Avro);
            found.sort_by_key(|text| text.split('@').next().unwrap().to_owned());
            (found, totals)
        };
        let (one, many) = (by_series(1), by_series(batch));
        prop_assert_eq!(one.0.len(), 2 * rows.len());
        prop_assert_eq!(one, many);
    }
}

/// Sensor, start in ms, samples and quality of each frame.
fn frame_lengths(folder: &Folder, mapping: &str) -> (Vec<(String, i64, usize, Quality)>, Totals) {
    let mut recording = folder.open(mapping, 1, Format::Avro).unwrap();
    let mut found = Vec::new();
    while let Some((_, piece)) = recording.next_piece().unwrap() {
        let Piece::Frame { sensor, start_ns, samples, quality, .. } = piece else { panic!("a reading") };
        found.push((sensor.to_string(), start_ns / 1_000_000, samples.len() / 8, quality));
    }
    (found, recording.totals().clone())
}

const WAVE: &str = "asset = 'm'\n[time]\nvalue = '{t}'\nformat = 'ms'\n[sensors]\nx = {}\n[frames]\nrate_hz = 100\n";

#[test]
fn a_frame_ends_where_rows_are_missing_or_refused_and_where_the_quality_changes() {
    let folder = Folder::new();
    let mut rows = String::from("t,x,state\n");
    for row in (0..100).filter(|row| !(30..35).contains(row)) {
        let state = if (60..70).contains(&row) { "bad" } else { "good" };
        let value = if row == 80 { "x" } else { "1.5" };
        rows += &format!("{},{value},{state}\n", row * 10);
    }
    folder.file("a.csv", &rows);
    let (found, totals) = frame_lengths(&folder, &format!("{WAVE}[quality]\ncolumn = 'state'\n"));
    let expected = [
        (0, 30, Quality::Good),
        (350, 25, Quality::Good),
        (600, 10, Quality::Bad),
        (700, 10, Quality::Good),
        (810, 19, Quality::Good),
    ];
    assert_eq!(found, expected.map(|(start, samples, quality)| ("x".to_owned(), start, samples, quality)));
    assert_eq!((totals.frames, totals.samples, totals.refused), (5, 94, 1));
}

#[test]
fn a_waveform_below_one_sample_a_second_is_not_cut_into_its_samples() {
    let folder = Folder::new();
    let rows: String = (0..50).map(|row| format!("{},{row}\n", row * 10_000)).collect();
    folder.file("a.csv", format!("t,x\n{rows}"));
    let (found, _) = frame_lengths(&folder, &WAVE.replace("100", "0.1"));
    assert_eq!(found, [("x".to_owned(), 0, 50, Quality::Good)]);
}

#[test]
fn what_a_message_can_hold_bounds_a_frame_in_its_format() {
    let folder = Folder::new();
    folder.file("a.csv", "t,x\n0,1\n");
    let with = |samples: usize| format!("{WAVE}samples = {samples}\n");
    assert!(folder.open(&with(130_560), 1, Format::Avro).is_ok());
    let error = folder.open(&with(130_561), 1, Format::Avro).err().unwrap().to_string();
    assert!(error.contains("`frames.samples` is 130561: give at most 130560"), "{error}");
    let error = folder.open(&with(130_560), 1, Format::Json).err().unwrap().to_string();
    assert!(error.contains("give at most 41779"), "{error}");
}

#[test]
fn a_file_that_cannot_be_unpacked_to_its_end_is_told_and_the_files_behind_it_are_read() {
    let folder = Folder::new();
    let rows: String = (0..10_000).map(|row| format!("1970-01-01 00:00:01.{:06},{}\n", row, row * 7_919 % 10_007)).collect();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(format!("t,a\n{rows}").as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    folder.file("m0.csv.gz", &packed[..15]);
    folder.file("m1.csv.gz", &packed[..packed.len() / 2]);
    folder.file("m2.csv", "t,a\n1970-01-02 00:00:00,5\n");
    let (found, totals) = folder.readings(WIDE, 100, Format::Avro);
    assert_eq!(found.last().map(String::as_str), Some("m2/a@86400=5"));
    assert!(found.len() > 1_000 && found.len() < 10_000, "{} readings", found.len());
    assert_eq!((totals.files, totals.refused), (3, 2));
    for (file, told) in ["m1.csv.gz", "m0.csv.gz"].iter().zip(words(&totals)) {
        assert!(told.contains(file) && told.contains("cannot be read on from here"), "{told}");
    }
}

#[test]
fn rows_of_sensors_that_are_not_named_are_ignored_and_a_named_one_that_never_came_is_told() {
    let folder = Folder::new();
    folder.file("a.csv", "t,s,v\n1970-01-01 00:00:01,temp,1\n1970-01-01 00:00:01,flow,2\n");
    let mapping = "asset = 'm'\n[time]\nvalue = '{t}'\n[sensors]\nTemp = {}\nflow = {}\n[long]\nsensor = 's'\nvalue = 'v'\n";
    let (found, totals) = folder.readings(mapping, 1, Format::Avro);
    assert_eq!((found, totals.ignored, totals.absent_sensors), (vec!["m/flow@1=2".to_owned()], 1, vec!["Temp".to_owned()]));
}
