//! Objects: what is put in comes out bit for bit, and nothing that is damaged is taken for whole.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use mantis_pipeline::{Header, Record, TopicPartition};
use mantis_schemas::{Feature, Figure, Frame, Quality, SampleFormat, SeriesInterner};
use mantis_stores::archive::{
    columns::{ArchiveColumns, Decoded, EventRow, Kind, Original},
    gaps,
    object::{self, Digest, Head, ObjectError},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

fn head(topic: &str, end: i64, columns: &ArchiveColumns) -> Head {
    let partition = TopicPartition::new(topic, 3);
    Head { cluster_id: "cluster".into(), partition, start: 0, end, digest: Digest::of(columns.marks()) }
}

/// Writes, reads back, and writes again what was read.
fn check(topic: &str, end: i64, columns: &ArchiveColumns, series: &SeriesInterner) {
    let head = head(topic, end, columns);
    let bytes = object::encode(&head, &columns.rows, &series.table()).unwrap();
    let mut names = SeriesInterner::new(1_000);
    let (manifest, rows) = object::rows(&bytes, &mut names).unwrap();
    assert_eq!((manifest.start, manifest.end, manifest.topic.as_str(), manifest.partition), (0, end, topic, 3));
    assert_eq!((manifest.rows, manifest.undecoded), (columns.rows.decoded.len() as u64, columns.rows.originals.len() as u64));
    assert_eq!(manifest.digest(), head.digest);
    assert_eq!(object::manifest(&bytes).unwrap(), manifest);
    assert_eq!((object::peek(&bytes), object::peek(&bytes[bytes.len() - 8..])), (Some(manifest.clone()), None));
    let held: Vec<i64> = columns.marks().iter().map(|mark| mark.offset).collect();
    assert!((0..end).all(|offset| gaps::contains(&manifest.gaps, offset) != held.contains(&offset)), "{:?}", manifest.gaps);
    assert_eq!(manifest.missing(), end as u64 - held.len() as u64);
    assert_eq!((&rows.offset, &rows.row), (&columns.rows.offset, &columns.rows.row));
    assert_eq!(rows.originals, columns.rows.originals);
    assert_eq!(named(&rows.decoded, &names), named(&columns.rows.decoded, series));
    assert_eq!(object::encode(&head, &rows, &names.table()).unwrap(), bytes, "the same rows give the same bytes");
}

/// Rows as text, names in the place of ids and numbers by their bits.
fn named(decoded: &Decoded, series: &SeriesInterner) -> Vec<String> {
    let table = series.table();
    let name = |id: mantis_schemas::SeriesId| table.read()[id.index()].clone();
    match decoded {
        Decoded::Readings(r) => (0..r.len())
            .map(|i| {
                let (series, bits) = (name(r.series[i]), r.value[i].to_bits());
                format!("{series:?} {} {bits:x} {:?} {}", r.time_ns[i], r.quality[i], r.arrival_ms[i])
            })
            .collect(),
        Decoded::Frames(f) => (0..f.len())
            .map(|i| {
                let f = f.frame(i);
                let (rate, scale) = (f.sample_rate_hz.to_bits(), f.scale.to_bits());
                let (series, format, quality) = (name(f.series), f.format, f.quality);
                format!("{series:?} {} {rate:x} {scale:x} {format:?} {quality:?} {} {:?}", f.start_ns, f.arrival_ms, f.samples)
            })
            .collect(),
        Decoded::Features(f) => f.series.iter().zip(&f.rows).map(|(id, row)| format!("{:?} {row:?}", name(*id))).collect(),
        Decoded::Events(events) => events.rows().iter().map(|row| format!("{row:?}")).collect(),
        Decoded::Records => Vec::new(),
    }
}

const NAMES: [&str; 5] = ["a", "pump 1", "ä/ö", "x\"y", "\u{10ffff}"];

fn name() -> impl Strategy<Value = &'static str> {
    select(&NAMES[..])
}

fn quality() -> impl Strategy<Value = Quality> {
    select(vec![Quality::Good, Quality::Uncertain, Quality::Bad])
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |x| x.is_finite()),
        select(vec![0.0, -0.0, f64::MIN_POSITIVE, f64::MAX, 5e-324])
    ]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), 0..5_i64, select(vec![i64::MIN, i64::MAX])]
}

fn original() -> impl Strategy<Value = Original> {
    let bytes = || vec(any::<u8>(), 0..20);
    let header = ("\\PC{0,5}", option::of(bytes())).prop_map(|(key, value)| Header { key, value });
    (option::of(any::<i64>()), option::of(bytes()), option::of(bytes()), vec(header, 0..4), "[a-z-]{1,8}", "\\PC{0,20}").prop_map(
        |(timestamp_ms, key, payload, headers, code, reason)| Original { timestamp_ms, key, payload, headers, code, reason },
    )
}

/// A record's rows, and what was kept of it. There is at least one of them.
type Rows<T> = (Vec<T>, Option<Original>);

fn records<T: std::fmt::Debug>(row: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<Rows<T>>> {
    let record = (vec(row, 0..6), option::weighted(0.2, original()));
    vec(record, 0..20).prop_map(|records| records.into_iter().filter(|(rows, kept)| !rows.is_empty() || kept.is_some()).collect())
}

fn columns<T>(kind: Kind, records: Vec<Rows<T>>, mut push: impl FnMut(&mut Decoded, T)) -> (ArchiveColumns, i64) {
    let mut columns = ArchiveColumns::new(kind);
    let mut offset = 0;
    for (rows, kept) in records {
        columns.begin(&Record { offset, timestamp_ms: Some(offset), key: None, payload: None });
        for (row, value) in (0..).zip(rows) {
            push(&mut columns.rows.decoded, value);
            // Refused rows leave holes.
            columns.rows.placed(offset, row * 2);
        }
        if let Some(original) = kept {
            columns.rows.keep(offset, original);
        }
        // Offsets without records, too.
        offset += 1 + offset % 3;
    }
    (columns, offset + 2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn readings_come_back_bit_for_bit_in_order_of_the_log(
        records in records((name(), name(), time(), finite(), quality(), -1..3_i64))
    ) {
        let mut series = SeriesInterner::new(100);
        let (columns, end) = columns(Kind::Readings, records, |decoded, (asset, sensor, time_ns, value, quality, arrival_ms)| {
            let Decoded::Readings(into) = decoded else { return };
            into.series.push(series.intern(asset, sensor).unwrap());
            into.time_ns.push(time_ns);
            into.value.push(value);
            into.quality.push(quality);
            into.arrival_ms.push(arrival_ms);
        });
        check("mantis.readings", end, &columns, &series);
    }

    #[test]
    fn frames_come_back_bit_for_bit_in_order_of_the_log(
        records in records((name(), time(), finite(), finite(), quality(), 0..3_usize, vec(any::<u8>(), 1..40)))
    ) {
        let mut series = SeriesInterner::new(100);
        let (columns, end) = columns(Kind::Frames, records, |decoded, (asset, start_ns, rate, scale, quality, format, samples)| {
            let Decoded::Frames(into) = decoded else { return };
            into.push(Frame {
                series: series.intern(asset, "vibration").unwrap(),
                start_ns,
                sample_rate_hz: rate,
                format: [SampleFormat::F64, SampleFormat::F32, SampleFormat::I16][format],
                scale,
                quality,
                arrival_ms: -1,
                samples: &samples,
            });
        });
        check("mantis.waveforms", end, &columns, &series);
    }

    #[test]
    fn features_come_back_bit_for_bit_in_order_of_the_log(
        records in records((name(), time(), any::<[i64; 7]>(), any::<[bool; 2]>(), option::of(finite()), vec(option::of(finite()), 23), "\\PC{0,9}"))
    ) {
        let mut series = SeriesInterner::new(100);
        let (columns, end) = columns(Kind::Features, records, |decoded, (asset, start_ns, whole, flags, coverage, figures, extras)| {
            let Decoded::Features(into) = decoded else { return };
            let [window_ns, end_ns, count, uncertain, bad, revision, processed_ms] = whole;
            let [exact, provisional] = flags;
            let mut row = Feature {
                window_ns, start_ns, end_ns, version: count as i32, count, uncertain, bad, coverage, exact, provisional, revision,
                processed_ms, extras: extras.into(), ..Feature::default()
            };
            Figure::ALL.into_iter().zip(figures).for_each(|(figure, value)| row.figures.set(figure, value));
            into.push(series.intern(asset, "rms").unwrap(), row);
        });
        check("mantis.features", end, &columns, &series);
    }

    #[test]
    fn events_come_back_in_order_of_the_log(records in records((name(), time(), "[a-z_]{1,9}", "\\PC{0,30}"))) {
        let (columns, end) = columns(Kind::Events, records, |decoded, (asset, time_ns, kind, json)| {
            let Decoded::Events(into) = decoded else { return };
            into.push(EventRow { asset: asset.into(), time_ns, kind: kind.into(), json: json.into() });
        });
        check("mantis.events", end, &columns, &SeriesInterner::new(1));
    }

    #[test]
    fn dead_letters_come_back_whole(records in records(Just(())), ) {
        let records = records.into_iter().filter(|(_, kept)| kept.is_some()).map(|(_, kept)| (Vec::<()>::new(), kept)).collect();
        let (columns, end) = columns(Kind::Records, records, |_, ()| {});
        check("mantis.readings.dlq", end, &columns, &SeriesInterner::new(1));
    }

    #[test]
    fn an_object_with_any_byte_changed_or_its_end_cut_off_is_damaged(at in any::<prop::sample::Index>(), flip in 1..=255_u8, cut in 1..400_usize) {
        let whole = small_object();
        let mut changed = whole.to_vec();
        changed[at.index(whole.len())] ^= flip;
        let cut = whole.slice(..whole.len().saturating_sub(cut));
        for bytes in [changed.into(), cut] {
            prop_assert!(matches!(object::rows(&bytes, &mut SeriesInterner::new(10)), Err(ObjectError::Damaged(_))));
        }
    }

    #[test]
    fn bytes_that_are_no_object_are_refused(mut bytes in vec(any::<u8>(), 0..200), magic in any::<bool>()) {
        if magic {
            bytes.extend_from_slice(b"PAR1");
        }
        prop_assert!(object::manifest(&Bytes::from(bytes)).is_err());
    }
}

fn small_object() -> Bytes {
    let mut series = SeriesInterner::new(10);
    let (columns, end) = columns(Kind::Readings, vec![(vec![1.0, 2.0], None); 5], |decoded, value| {
        let Decoded::Readings(into) = decoded else { return };
        into.series.push(series.intern("pump", "temp").unwrap());
        into.time_ns.push(value as i64);
        into.value.push(value);
        into.quality.push(Quality::Good);
        into.arrival_ms.push(0);
    });
    object::encode(&head("mantis.readings", end, &columns), &columns.rows, &series.table()).unwrap()
}

/// A stretch of the log may be without records: they were removed before the archive came to them.
#[test]
fn an_object_without_records_covers_its_positions() {
    let columns = ArchiveColumns::new(Kind::Readings);
    check("mantis.readings", 100, &columns, &SeriesInterner::new(1));
}

/// Eight sensors once a second with few decimals, as SKAB's: what the archive is made for.
#[test]
fn a_reading_of_a_slow_sensor_takes_few_bytes() {
    let mut series = SeriesInterner::new(100);
    let (mut draw, rows) = (1_u64, 40_000_i64);
    let mut noise = move || {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (draw >> 40) as f64 / (1 << 24) as f64
    };
    let records: Vec<Rows<(usize, i64, f64)>> = (0..rows / 50)
        .flat_map(|block| (0..8_usize).map(move |sensor| (block, sensor)))
        .map(|(block, sensor)| {
            let decimals = 10_f64.powi(2 + sensor as i32 % 3);
            let value = |row: i64| (80.0 + (row as f64 / 900.0).sin() * 4.0 + noise()) * decimals;
            let values: Vec<f64> = (block * 50..block * 50 + 50).map(value).map(|value| value.round() / decimals).collect();
            ((block * 50..).zip(values).map(|(row, value)| (sensor, row, value)).collect(), None)
        })
        .collect();
    let (columns, end) = columns(Kind::Readings, records, |decoded, (sensor, row, value)| {
        let Decoded::Readings(into) = decoded else { return };
        into.series.push(series.intern("skab", &format!("sensor {sensor}")).unwrap());
        into.time_ns.push(1_583_748_873_000_000_000 + row * 1_000_000_000);
        into.value.push(value);
        into.quality.push(Quality::Good);
        into.arrival_ms.push(1_700_000_000_000 + row / 50);
    });
    let bytes = object::encode(&head("mantis.readings", end, &columns), &columns.rows, &series.table()).unwrap();
    let each = bytes.len() as f64 / (rows * 8) as f64;
    println!("{each:.2} bytes per reading");
    assert!(each <= 4.0, "{each} bytes per reading");
}
