//! Series: an asset's sensor, interned once per process.

use std::{
    hash::BuildHasher,
    sync::{Arc, RwLock, RwLockReadGuard},
};

use foldhash::fast::RandomState;

/// An asset's sensor. (asset, sensor, source time in ns) is the identity of a reading.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// The asset: a machine, a line, a turbine.
    pub asset: Box<str>,
    /// The sensor's name within the asset.
    pub sensor: Box<str>,
}

/// Number of a series within this process: dense, from 0, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

impl SeriesId {
    /// As an index into per-series tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The names behind the ids, shared with those who write rows. Append-only.
#[derive(Clone, Debug, Default)]
pub struct SeriesTable(Arc<RwLock<Vec<Arc<Series>>>>);

impl SeriesTable {
    /// A view of all series known now, by id. Take it once per batch.
    pub fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<Series>>> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn push(&self, series: Arc<Series>) {
        self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()).push(series);
    }
}

/// Gives out the ids; owned by the one who decodes.
#[derive(Debug)]
pub struct SeriesInterner {
    table: SeriesTable,
    known: Vec<Arc<Series>>,
    hasher: RandomState,
    // Open addressing over `known`: a slot is an id + 1, 0 is free. At most half full.
    slots: Vec<(u32, u32)>,
    series_max: usize,
}

impl SeriesInterner {
    /// An empty interner that knows at most `series_max` series.
    pub fn new(series_max: usize) -> Self {
        Self {
            table: SeriesTable::default(),
            known: Vec::new(),
            hasher: RandomState::default(),
            slots: vec![(0, 0); 64],
            series_max: series_max.min(u32::MAX as usize - 1),
        }
    }

    /// The table that goes with the ids.
    pub fn table(&self) -> SeriesTable {
        self.table.clone()
    }

    /// The id of (asset, sensor); `None` when the bound on series is reached and this one is new.
    pub fn intern(&mut self, asset: &str, sensor: &str) -> Option<SeriesId> {
        self.find(asset.as_bytes(), sensor.as_bytes()).or_else(|| self.add(asset, sensor))
    }

    /// The id of (asset, sensor) if it is known. Takes bytes: those of a known series need no further check.
    pub fn find(&self, asset: &[u8], sensor: &[u8]) -> Option<SeriesId> {
        let hash = self.hasher.hash_one((asset, sensor));
        let mark = (hash >> 32) as u32;
        let mut slot = hash as usize & (self.slots.len() - 1);
        loop {
            let (entry, entry_mark) = self.slots[slot];
            if entry == 0 {
                return None;
            }
            if entry_mark == mark {
                let series = &self.known[entry as usize - 1];
                if series.asset.as_bytes() == asset && series.sensor.as_bytes() == sensor {
                    return Some(SeriesId(entry - 1));
                }
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    fn add(&mut self, asset: &str, sensor: &str) -> Option<SeriesId> {
        if self.known.len() >= self.series_max {
            return None;
        }
        let series = Arc::new(Series { asset: asset.into(), sensor: sensor.into() });
        self.known.push(series.clone());
        self.table.push(series);
        if self.known.len() * 2 > self.slots.len() {
            self.slots = vec![(0, 0); self.slots.len() * 2];
            for id in 0..self.known.len() {
                self.place(id);
            }
        } else {
            self.place(self.known.len() - 1);
        }
        Some(SeriesId(self.known.len() as u32 - 1))
    }

    fn place(&mut self, id: usize) {
        let series = &self.known[id];
        let hash = self.hasher.hash_one((series.asset.as_bytes(), series.sensor.as_bytes()));
        let mut slot = hash as usize & (self.slots.len() - 1);
        while self.slots[slot].0 != 0 {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = (id as u32 + 1, (hash >> 32) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_and_stay_through_growth_up_to_the_bound() {
        let mut interner = SeriesInterner::new(1_000);
        let table = interner.table();
        for round in 0..2 {
            for id in 0..1_000_u32 {
                let sensor = format!("s{id}");
                assert_eq!(interner.find(b"a", sensor.as_bytes()), (round == 1).then_some(SeriesId(id)));
                assert_eq!(interner.intern("a", &sensor), Some(SeriesId(id)));
            }
        }
        assert_eq!(interner.intern("a", "one more"), None);
        assert_eq!(table.read().len(), 1_000);
        assert_eq!(&*table.read()[999].sensor, "s999");
    }

    #[test]
    fn a_byte_moved_from_the_asset_to_the_sensor_makes_another_series() {
        let mut interner = SeriesInterner::new(10);
        assert_ne!(interner.intern("ab", "c"), interner.intern("a", "bc"));
    }
}
