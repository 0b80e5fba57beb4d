//! Several workers that all think that they own the partition, in a store that fails, with crashes at any step. In the
//! end each record is in exactly one object, and no position was ever committed before it was.

use mantis_pipeline::{Fault, Sink};
use mantis_stores::archive::chain::ChainConfig;

use super::{
    gaps::gaps,
    world::{Fate, Log, Memory, Worker, partition, wide},
};

const SEED: &str = "MANTIS_SEED";
const SEEDS: u64 = 100;
const WORKERS: usize = 3;
const STEPS: usize = 120;

struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// data-loss bug #14 and every other mixture; data-loss bug #15: what may be committed is in the chain at any moment.
#[tokio::test]
async fn each_position_is_in_exactly_one_object_whoever_crashes_when() {
    for seed in seeds() {
        let (log, store) = run(seed, false).await;
        assert_eq!(store.records().await, log.records);
    }
}

/// data-loss bug #22: workers find different records at the same positions, and none of them stops for it.
#[tokio::test]
async fn a_record_that_retention_takes_at_any_time_is_archived_or_its_position_is_named() {
    for seed in seeds() {
        let (log, store) = run(seed, true).await;
        let (records, gaps) = (store.records().await, gaps(&store).await);
        assert!(records.iter().all(|record| log.records.contains(record)), "what is archived was in the log");
        let archived = |offset: i64| records.iter().filter(|record| record.0 == offset).count();
        let named = |offset: i64| gaps.iter().flat_map(|(_, gaps)| gaps).filter(|gap| gap.contains(&offset)).count();
        assert!((0..log.end).all(|offset| archived(offset) + named(offset) == 1), "each position is archived or named, once");
    }
}

fn seeds() -> impl Iterator<Item = u64> {
    let only = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    seeds.inspect(|seed| println!("seed {seed}: alone with {SEED}={seed}"))
}

/// Gives back the log as it was before retention took of it, and the archive.
async fn run(seed: u64, retention: bool) -> (Log, Memory) {
    let mut draw = Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let holes = draw.below(4) as i64;
    let whole = Log::new(400, |offset| offset % 7 < holes);
    let (mut log, mut removed) = (whole.clone(), 0);
    let store = Memory::new();
    let config = ChainConfig { rows_max: 1 + draw.below(40) as usize, ..wide() };
    let mut workers: Vec<Worker> = Vec::new();
    for _ in 0..STEPS {
        store.set([Fate::Good, Fate::Good, Fate::Good, Fate::Fails, Fate::LandsAndFails][draw.below(5) as usize]);
        if workers.len() < WORKERS && draw.below(4) == 0 {
            workers.push(Worker::start(&store, config.clone()).await);
        }
        if workers.is_empty() {
            continue;
        }
        if retention && draw.below(8) == 0 {
            let read = workers.iter().map(|worker| worker.next).max().unwrap_or(0);
            removed = (read + draw.below(10) as i64).min(log.end).max(removed);
            log.remove_before(removed);
        }
        let index = draw.below(workers.len() as u64) as usize;
        let worker = &mut workers[index];
        let ended = match draw.below(20) {
            // Whatever it held is gone with it, and so is what was under way.
            0 => {
                drop(workers.swap_remove(index));
                Ok(())
            }
            1 => {
                worker.chain.release(&[partition()]);
                worker.assigned().await;
                Ok(())
            }
            // The road gives up on a flush that takes too long.
            2 => {
                let flush = worker.flush();
                tokio::pin!(flush);
                for _ in 0..draw.below(3) {
                    tokio::select! { biased; _ = &mut flush => break, () = tokio::task::yield_now() => {} }
                }
                Ok(())
            }
            3..6 => worker.flush().await,
            _ => {
                let to = (worker.next + 1 + draw.below(15) as i64).min(log.end);
                worker.read(&log, to).await
            }
        };
        assert!(!matches!(ended, Err(Fault::Fatal { .. })), "{ended:?}");
        // Asked in this order: what was begun goes on meanwhile.
        let durable = workers.iter().map(Worker::durable).max().unwrap_or(0);
        let end = store.end().await;
        assert!(durable <= end, "{durable} may be committed, the chain ends at {end}");
    }
    store.set(Fate::Good);
    workers.push(Worker::start(&store, config).await);
    for worker in workers.iter_mut().rev() {
        while worker.next < log.end {
            worker.read(&log, (worker.next + 9).min(log.end)).await.unwrap();
        }
        worker.flush().await.unwrap();
        assert_eq!(worker.durable(), log.end, "progress goes on when the faults end");
    }
    (whole, store)
}
