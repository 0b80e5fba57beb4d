//! Decoding alone, on one core.

use std::{hint::black_box, time::Instant};

use anyhow::Result;
use mantis_schemas::{Decoder, DecoderConfig, ReadingColumns, RecordMeta};

use crate::{
    figures::{Figure, median},
    workload::{Messages, Packing},
};

const RUNS: usize = 5;
const READINGS_PER_RUN: usize = 5_000_000;
/// Messages that are decoded again and again: as many as a few prefetched batches, not all in the nearest cache.
const MESSAGES: usize = 20_000;
const BATCH_ROWS: usize = 20_000;

/// Readings per second from each packing.
pub fn run() -> Result<Vec<Figure>> {
    [(Packing::Columns, 50e6), (Packing::Avro, 5e6), (Packing::Json, 2.5e6)]
        .into_iter()
        .map(|(packing, wanted)| {
            let rates = (0..RUNS).map(|_| rate(packing)).collect::<Result<Vec<_>>>()?;
            Ok(Figure::at_least(&format!("decode, {}", packing.name()), median(rates), "readings/s", wanted))
        })
        .collect()
}

fn rate(packing: Packing) -> Result<f64> {
    let mut messages = Messages::new(packing);
    let mut payloads = Vec::new();
    let mut ends = vec![0];
    for _ in 0..MESSAGES {
        payloads.extend_from_slice(messages.message().1);
        ends.push(payloads.len());
    }
    let mut decoder = Decoder::new(DecoderConfig::default())?;
    let (mut columns, mut rejects) = (ReadingColumns::default(), Vec::new());
    let meta = RecordMeta { key: None, timestamp_ms: Some(1_800_000_000_000) };
    let mut decoded = 0;
    let start = Instant::now();
    while decoded < READINGS_PER_RUN {
        for range in ends.windows(2) {
            decoder
                .readings(meta, &payloads[range[0]..range[1]], &mut columns, &mut rejects)
                .map_err(|reject| anyhow::anyhow!("{reject}"))?;
            if columns.len() >= BATCH_ROWS {
                decoded += black_box(&columns).len();
                columns.truncate(0);
            }
        }
    }
    anyhow::ensure!(rejects.is_empty(), "the workload has rows that are refused: {:?}", rejects.first());
    Ok(decoded as f64 / start.elapsed().as_secs_f64())
}
