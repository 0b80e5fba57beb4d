//! Bad input: an error, never a panic, never a large allocation.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
// A counting allocator has to implement an unsafe trait; it hands everything on to the system's.
#![allow(unsafe_code)]

#[path = "../fuzz/entry.rs"]
#[allow(dead_code, unreachable_pub)]
mod entry;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
};

use mantis_schemas::{Event, EventBody, FrameRecord, Quality, Reading, ReadingBatch, SampleFormat, State, encode};
use proptest::prelude::*;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD_BYTES: Cell<i64> = const { Cell::new(0) };
    static HELD_BYTES_PEAK: Cell<i64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain cells without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        HELD_BYTES.set(HELD_BYTES.get() + layout.size() as i64);
        HELD_BYTES_PEAK.set(HELD_BYTES_PEAK.get().max(HELD_BYTES.get()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD_BYTES.set(HELD_BYTES.get() - layout.size() as i64);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Runs `act` and returns (allocations, largest number of bytes held above the start).
fn measured(act: impl FnOnce()) -> (u64, i64) {
    let (allocations, held) = (ALLOCATIONS.get(), HELD_BYTES.get());
    HELD_BYTES_PEAK.set(held);
    act();
    (ALLOCATIONS.get() - allocations, HELD_BYTES_PEAK.get() - held)
}

/// A refused row takes 64 bytes and can be as short as `{},`; vectors double. The constant is for sentences and names.
fn memory_max(payload: &[u8]) -> i64 {
    64 * payload.len() as i64 + 65_536
}

fn check(payload: &[u8]) {
    let mut decoder = entry::decoder();
    let (_, peak) = measured(|| entry::anything(&mut decoder, payload));
    assert!(peak <= memory_max(payload), "{peak} bytes of memory for a payload of {} bytes", payload.len());
}

const T: i64 = entry::NOW_MS * 1_000_000;

fn batch() -> ReadingBatch<'static> {
    ReadingBatch {
        sensor: "temp",
        times_ns: &[T, T + 1, T + 2],
        values: &[1.5, -2e300, 0.1],
        qualities: &[Quality::Good, Quality::Bad, Quality::Good],
        first_seq: Some(1),
    }
}

fn reading() -> Reading<'static> {
    Reading { sensor: "tö\"mp", time_ns: T, value: 71.25, quality: Quality::Uncertain, seq: Some(5) }
}

fn valid_payloads() -> Vec<Vec<u8>> {
    let frame = FrameRecord {
        sensor: "x",
        start_ns: T,
        sample_rate_hz: 1e4,
        format: SampleFormat::I16,
        scale: 0.5,
        samples: &[1, 2, 3, 4],
        quality: Quality::Good,
        seq: None,
    };
    let event = Event {
        asset: "a".into(),
        time_ns: T,
        seq: None,
        body: EventBody::MachineState { state: State::Failure, until_ns: Some(T), reason: Some("r".into()) },
    };
    type Write<'a> = &'a dyn Fn(&mut Vec<u8>);
    let writers: [Write<'_>; 10] = [
        &|out| encode::avro::reading(out, "a", &reading()),
        &|out| encode::json::reading(out, "a", &reading()),
        &|out| encode::avro::readings(out, "a", &[reading(), reading()]),
        &|out| encode::json::readings(out, "a", &[reading(), reading()]),
        &|out| encode::avro::reading_columns(out, "a", &batch()),
        &|out| encode::json::reading_columns(out, "a", &batch()),
        &|out| encode::avro::frame(out, "a", &frame),
        &|out| encode::json::frame(out, "a", &frame),
        &|out| encode::avro::event(out, &event),
        &|out| encode::json::event(out, &event),
    ];
    let mut payloads: Vec<Vec<u8>> = writers
        .iter()
        .map(|write| {
            let mut out = Vec::new();
            write(&mut out);
            out
        })
        .collect();
    for case in ["ok.every-type.confluent", "ok.two-blocks.avro", "ok.list.json", "ok.unknown-fields.json"] {
        payloads.push(fs::read(format!("{}/corpus/readings/{case}", env!("CARGO_MANIFEST_DIR"))).unwrap());
    }
    payloads
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    let byte =
        prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[],:-+.eE0123456789ntfu \n\x00\x01\x02\x7f\x80\xff".to_vec())];
    let piece = prop_oneof![
        prop::collection::vec(byte.clone(), 1..4),
        prop::sample::select(vec![
            b"[[[[[[[[".to_vec(),
            b"1e999".to_vec(),
            b"null".to_vec(),
            b"NaN".to_vec(),
            b"\\ud800".to_vec(),
            vec![0xff; 10]
        ]),
    ];
    prop_oneof![
        (at(), byte).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at(), piece).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (at(), 1..9_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (at(), 1..40_usize).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        at().prop_map(Mutation::Cut),
    ]
}

fn mutate(payload: &mut Vec<u8>, mutations: &[Mutation]) {
    for mutation in mutations {
        if payload.is_empty() {
            return;
        }
        match mutation {
            Mutation::Set(at, byte) => {
                let at = at.index(payload.len());
                payload[at] = *byte;
            }
            Mutation::Insert(at, piece) => {
                let at = at.index(payload.len());
                payload.splice(at..at, piece.iter().copied());
            }
            Mutation::Remove(at, count) => {
                let at = at.index(payload.len());
                payload.drain(at..(at + count).min(payload.len()));
            }
            Mutation::Repeat(at, count) => {
                let at = at.index(payload.len());
                let piece = payload[at..(at + count).min(payload.len())].to_vec();
                payload.splice(at..at, piece);
            }
            Mutation::Cut(at) => payload.truncate(at.index(payload.len())),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_behind_every_framing_neither_panic_nor_take_memory(
        start in prop::sample::select(valid_payloads()),
        kept in prop::sample::select(vec![0_usize, 1, 5, 10, 12]),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut payload = start;
        payload.truncate(kept);
        payload.extend(bytes);
        check(&payload);
    }

    #[test]
    fn mutated_payloads_neither_panic_nor_take_memory(
        mut payload in prop::sample::select(valid_payloads()),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        mutate(&mut payload, &mutations);
        check(&payload);
    }

    #[test]
    fn what_serde_json_refuses_is_refused(
        mut payload in prop::sample::select(valid_payloads().into_iter().filter(|payload| matches!(payload[0], b'{' | b'[')).collect::<Vec<_>>()),
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        mutate(&mut payload, &mutations);
        let mut decoder = entry::decoder();
        // serde_json does not look at the UTF-8 of text that it skips.
        let valid = std::str::from_utf8(&payload).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(&payload).is_ok();
        if !valid {
            let mut decoded = entry::Decoded::default();
            prop_assert!(entry::readings(&mut decoder, &payload, &mut decoded).is_err());
            prop_assert!(entry::frames(&mut decoder, &payload, &mut decoded).is_err());
            prop_assert!(entry::event(&decoder, &payload).is_err());
        }
    }
}

#[test]
fn every_file_of_the_corpus_ends_as_its_name_says() {
    let mut files = 0;
    for kind in ["readings", "frames", "events"] {
        for file in fs::read_dir(format!("{}/corpus/{kind}", env!("CARGO_MANIFEST_DIR"))).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            let payload = fs::read(file.path()).unwrap();
            let mut decoder = entry::decoder();
            let mut decoded = entry::Decoded::default();
            let read = match kind {
                "readings" => entry::readings(&mut decoder, &payload, &mut decoded),
                "frames" => entry::frames(&mut decoder, &payload, &mut decoded),
                _ => entry::event(&decoder, &payload).map(drop),
            };
            let code = match (&read, decoded.rejects.first()) {
                (Err(reject), _) => reject.code,
                (Ok(()), Some(row)) => row.reject.code,
                (Ok(()), None) => "ok",
            };
            assert_eq!(code, name.split('.').next().unwrap(), "{kind}/{name}: {read:?} {:?}", decoded.rejects.first());
            check(&payload);
            files += 1;
        }
    }
    assert!(files > 100);
}

#[test]
fn every_prefix_of_a_valid_payload_is_refused() {
    for payload in valid_payloads() {
        for end in 0..payload.len() {
            let mut decoder = entry::decoder();
            let mut decoded = entry::Decoded::default();
            let prefix = &payload[..end];
            assert!(entry::readings(&mut decoder, prefix, &mut decoded).is_err(), "{end} of {payload:?}");
            assert!(entry::frames(&mut decoder, prefix, &mut decoded).is_err());
            assert!(entry::event(&decoder, prefix).is_err());
        }
    }
}

#[test]
fn readings_of_known_series_are_decoded_without_an_allocation() {
    let payloads: Vec<Vec<u8>> =
        valid_payloads().into_iter().take(6).filter(|payload| !payload.windows(2).any(|two| two == b"\\\"")).collect();
    assert!(payloads.len() >= 4);
    let mut decoder = entry::decoder();
    let mut decoded = entry::Decoded::default();
    let mut round = |decoded: &mut entry::Decoded| {
        for payload in &payloads {
            entry::readings(&mut decoder, payload, decoded).unwrap();
        }
    };
    (0..10).for_each(|_| round(&mut decoded));
    decoded.readings.truncate(0);
    let (allocations, _) = measured(|| (0..10).for_each(|_| round(&mut decoded)));
    assert_eq!(allocations, 0);
    assert_eq!(decoded.rejects, []);
}
