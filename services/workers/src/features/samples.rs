//! A sensor's samples, sorted by time.

use std::ops::Range;

use mantis_schemas::Quality;

use super::times::Times;

/// Room that is added or left unused at least.
const ROOM_MIN: usize = 8;

/// Columns of equal length, times strictly ascending.
///
/// With many sensors this is where the memory is: it grows by eighths instead of doubling, and has no column of
/// qualities while all are good.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    times: Times,
    values: Vec<f64>,
    qualities: Vec<Quality>,
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is new.
    New,
    /// It was there with the same value and quality.
    Same,
    /// It was there with others, which it replaced.
    Replaced,
}

impl Samples {
    /// No samples, and room for so many.
    pub(super) fn with_room(samples: usize) -> Self {
        Self { times: Times::with_room(samples), values: Vec::with_capacity(samples), qualities: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Memory that was allocated for them.
    pub(super) fn bytes(&self) -> usize {
        self.times.bytes() + self.values.capacity() * size_of::<f64>() + self.qualities.capacity() * size_of::<Quality>()
    }

    /// Time of the sample at this place.
    pub(super) fn time_ns(&self, place: usize) -> Option<i64> {
        self.times.get(place)
    }

    /// How many samples lie before `time_ns`.
    pub(super) fn before(&self, time_ns: i64) -> usize {
        self.times.before(time_ns)
    }

    /// Samples as (time, value, quality), in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, f64, Quality)> + '_ {
        self.times.iter().zip(&self.values).enumerate().map(|(place, (time_ns, value))| (time_ns, *value, self.quality(place)))
    }

    /// Adds a sample at its place.
    pub(super) fn put(&mut self, time_ns: i64, value: f64, quality: Quality) -> Put {
        let is_newest = self.times.last().is_none_or(|last| last < time_ns);
        let place = if is_newest { self.len() } else { self.times.before(time_ns) };
        if self.times.get(place) == Some(time_ns) {
            return self.replace(place, value, quality);
        }
        if quality != Quality::Good {
            self.spell_qualities();
        }
        if self.len() == self.values.capacity() {
            let more = (self.len() / 8).max(ROOM_MIN);
            self.times.reserve(more);
            self.values.reserve_exact(more);
        }
        self.times.insert(place, time_ns);
        self.values.insert(place, value);
        if !self.qualities.is_empty() || quality != Quality::Good {
            self.qualities.insert(place, quality);
        }
        Put::New
    }

    fn replace(&mut self, place: usize, value: f64, quality: Quality) -> Put {
        if self.values[place].to_bits() == value.to_bits() && self.quality(place) == quality {
            return Put::Same;
        }
        self.values[place] = value;
        if quality != self.quality(place) {
            self.spell_qualities();
            self.qualities[place] = quality;
        }
        Put::Replaced
    }

    /// The samples from `from_ns` on and before `to_ns`.
    pub(super) fn between(&self, from_ns: i64, to_ns: i64) -> Slice<'_> {
        let from = self.before(from_ns);
        Slice { samples: self, places: from..self.before(to_ns).max(from) }
    }

    /// Drops what lies before `time_ns`.
    pub(super) fn drop_before(&mut self, time_ns: i64) {
        let dropped = self.before(time_ns);
        if dropped == 0 {
            return;
        }
        // Room that is not needed until something is dropped again is left of a burst. Other room stays: it will be needed again.
        let needed = self.len();
        self.times.drop_first(dropped);
        self.values.drain(..dropped);
        if !self.qualities.is_empty() {
            self.qualities.drain(..dropped);
        }
        if self.qualities.iter().all(|quality| *quality == Quality::Good) {
            self.qualities = Vec::new();
        }
        if self.values.capacity() > 2 * needed + ROOM_MIN {
            self.shrink_to(needed);
        }
    }

    /// Gives back room for more than so many; what is there stays.
    pub(super) fn shrink_to(&mut self, samples: usize) {
        self.times.shrink_to(samples);
        self.values.shrink_to(samples);
        self.qualities.shrink_to(samples);
    }

    fn quality(&self, place: usize) -> Quality {
        self.qualities.get(place).copied().unwrap_or(Quality::Good)
    }

    fn spell_qualities(&mut self) {
        self.qualities.resize(self.len(), Quality::Good);
    }
}

/// Samples of a stretch of time.
#[derive(Clone, Debug)]
pub(super) struct Slice<'a> {
    samples: &'a Samples,
    places: Range<usize>,
}

impl<'a> Slice<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Values of all samples.
    pub(super) fn values(&self) -> &'a [f64] {
        &self.samples.values[self.places.clone()]
    }

    /// How many samples are of this quality.
    pub(super) fn count(&self, quality: Quality) -> usize {
        match (self.samples.qualities.get(self.places.clone()), quality) {
            (None, Quality::Good) => self.places.len(),
            (None, _) => 0,
            (Some(qualities), _) => qualities.iter().filter(|found| **found == quality).count(),
        }
    }

    /// The samples that may enter figures, as (time, value).
    pub(super) fn usable(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        let usable = |place: &usize| self.samples.quality(*place) != Quality::Bad;
        self.places.clone().filter(usable).filter_map(|place| Some((self.samples.time_ns(place)?, self.samples.values[place])))
    }
}
