//! A sensor's samples, sorted by time.

use mantis_schemas::Quality;

/// Columns of equal length, times strictly ascending.
///
/// With many sensors this is where the memory is: it grows by eighths instead of doubling, and has no column of
/// qualities while all are good.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples {
    times_ns: Vec<i64>,
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
    pub(super) fn len(&self) -> usize {
        self.times_ns.len()
    }

    pub(super) fn times_ns(&self) -> &[i64] {
        &self.times_ns
    }

    /// Samples as (time, value, quality), in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, f64, Quality)> + '_ {
        (0..self.len()).map(|index| (self.times_ns[index], self.values[index], self.quality(index)))
    }

    /// Adds a sample at its place.
    pub(super) fn put(&mut self, time_ns: i64, value: f64, quality: Quality) -> Put {
        let place = match self.times_ns.last() {
            Some(last) if *last < time_ns => self.len(),
            None => 0,
            Some(_) => match self.times_ns.binary_search(&time_ns) {
                Err(place) => place,
                Ok(found) if self.values[found].to_bits() == value.to_bits() && self.quality(found) == quality => {
                    return Put::Same;
                }
                Ok(found) => {
                    self.values[found] = value;
                    if quality != self.quality(found) {
                        self.spell_qualities();
                        self.qualities[found] = quality;
                    }
                    return Put::Replaced;
                }
            },
        };
        if quality != Quality::Good {
            self.spell_qualities();
        }
        if self.len() == self.times_ns.capacity() {
            let more = (self.len() / 8).max(8);
            self.times_ns.reserve_exact(more);
            self.values.reserve_exact(more);
        }
        self.times_ns.insert(place, time_ns);
        self.values.insert(place, value);
        if !self.qualities.is_empty() || quality != Quality::Good {
            self.qualities.insert(place, quality);
        }
        Put::New
    }

    /// The samples from `from_ns` on and before `to_ns`.
    pub(super) fn between(&self, from_ns: i64, to_ns: i64) -> Slice<'_> {
        let from = self.times_ns.partition_point(|time| *time < from_ns);
        let to = from + self.times_ns[from..].partition_point(|time| *time < to_ns);
        let qualities = if self.qualities.is_empty() { &[] } else { &self.qualities[from..to] };
        Slice { times_ns: &self.times_ns[from..to], values: &self.values[from..to], qualities }
    }

    /// Drops what lies before `time_ns`.
    pub(super) fn drop_before(&mut self, time_ns: i64) {
        let dropped = self.times_ns.partition_point(|time| *time < time_ns);
        if dropped > 0 {
            self.times_ns.drain(..dropped);
            self.values.drain(..dropped);
            if !self.qualities.is_empty() {
                self.qualities.drain(..dropped);
            }
            if self.qualities.iter().all(|quality| *quality == Quality::Good) {
                self.qualities = Vec::new();
            }
        }
    }

    fn quality(&self, index: usize) -> Quality {
        self.qualities.get(index).copied().unwrap_or(Quality::Good)
    }

    fn spell_qualities(&mut self) {
        self.qualities.resize(self.len(), Quality::Good);
    }
}

/// Samples of a stretch of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice<'a> {
    pub(super) times_ns: &'a [i64],
    pub(super) values: &'a [f64],
    /// Empty: all are good.
    qualities: &'a [Quality],
}

impl Slice<'_> {
    /// How many samples are of this quality.
    pub(super) fn count(&self, quality: Quality) -> usize {
        match (self.qualities.is_empty(), quality) {
            (true, Quality::Good) => self.values.len(),
            (true, _) => 0,
            (false, _) => self.qualities.iter().filter(|found| **found == quality).count(),
        }
    }

    /// The samples that may enter figures, as (time, value).
    pub(super) fn usable(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        let usable = |index: &usize| self.qualities.get(*index).is_none_or(|quality| *quality != Quality::Bad);
        (0..self.values.len()).filter(usable).map(|index| (self.times_ns[index], self.values[index]))
    }
}
