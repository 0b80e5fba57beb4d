//! Times of samples, in half the room where they allow it.

const MS_NS: i64 = 1_000_000;
/// Distance of the first time from its base: as much room before it as behind it, 24 days.
const FIRST_MS: u32 = 1 << 31;

/// Strictly ascending times in ns.
///
/// Most gateways send whole milliseconds. As long as all times are some of them apart, and no more than weeks, each takes 4
/// bytes instead of 8, which is a quarter of all memory of a sensor.
#[derive(Clone, Debug)]
pub(super) enum Times {
    /// Milliseconds since a base.
    Ms {
        base_ns: i64,
        since_ms: Vec<u32>,
    },
    Ns(Vec<i64>),
}

impl Default for Times {
    fn default() -> Self {
        Self::with_room(0)
    }
}

impl Times {
    /// None, and room for so many.
    pub(super) fn with_room(times: usize) -> Self {
        Self::Ms { base_ns: 0, since_ms: Vec::with_capacity(times) }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ms { since_ms, .. } => since_ms.len(),
            Self::Ns(times_ns) => times_ns.len(),
        }
    }

    /// Memory that was allocated for them.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Ms { since_ms, .. } => since_ms.capacity() * size_of::<u32>(),
            Self::Ns(times_ns) => times_ns.capacity() * size_of::<i64>(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<i64> {
        match self {
            Self::Ms { base_ns, since_ms } => since_ms.get(index).map(|ms| base_ns + i64::from(*ms) * MS_NS),
            Self::Ns(times_ns) => times_ns.get(index).copied(),
        }
    }

    pub(super) fn last(&self) -> Option<i64> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// How many are before `time_ns`.
    pub(super) fn before(&self, time_ns: i64) -> usize {
        match self {
            Self::Ms { base_ns, since_ms } => since_ms.partition_point(|ms| base_ns + i64::from(*ms) * MS_NS < time_ns),
            Self::Ns(times_ns) => times_ns.partition_point(|time| *time < time_ns),
        }
    }

    /// Adds a time at its place.
    pub(super) fn insert(&mut self, place: usize, time_ns: i64) {
        if self.len() == 0 {
            self.begin(time_ns);
        }
        match self {
            Self::Ms { base_ns, since_ms } => match since(*base_ns, time_ns) {
                Some(ms) => since_ms.insert(place, ms),
                None => self.insert_elsewhere(place, time_ns),
            },
            Self::Ns(times_ns) => times_ns.insert(place, time_ns),
        }
    }

    /// Drops the first `count`.
    pub(super) fn drop_first(&mut self, count: usize) {
        match self {
            Self::Ms { since_ms, .. } => {
                since_ms.drain(..count);
            }
            Self::Ns(times_ns) => {
                times_ns.drain(..count);
            }
        }
    }

    /// Makes room for exactly so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        match self {
            Self::Ms { since_ms, .. } => since_ms.reserve_exact(more),
            Self::Ns(times_ns) => times_ns.reserve_exact(more),
        }
    }

    /// Gives back room for more than so many.
    pub(super) fn shrink_to(&mut self, times: usize) {
        match self {
            Self::Ms { since_ms, .. } => since_ms.shrink_to(times),
            Self::Ns(times_ns) => times_ns.shrink_to(times),
        }
    }

    /// Chooses the base, before the first time comes.
    fn begin(&mut self, time_ns: i64) {
        match (&mut *self, base_before(time_ns)) {
            (Self::Ms { base_ns, .. }, Some(base)) => *base_ns = base,
            (Self::Ns(_), Some(base_ns)) => *self = Self::Ms { base_ns, since_ms: Vec::with_capacity(self.capacity()) },
            (_, None) => *self = Self::Ns(Vec::with_capacity(self.capacity())),
        }
    }

    /// Adds a time that has no place behind the base: moves the base, or spells all times out.
    fn insert_elsewhere(&mut self, place: usize, time_ns: i64) {
        let room = self.capacity();
        let mut times_ns = Vec::with_capacity(room.max(self.len() + 1));
        times_ns.extend(self.iter());
        times_ns.insert(place, time_ns);
        let moved = times_ns.first().copied().and_then(base_before).and_then(|base_ns| {
            let mut since_ms = Vec::with_capacity(room.max(times_ns.len()));
            for time_ns in &times_ns {
                since_ms.push(since(base_ns, *time_ns)?);
            }
            Some(Self::Ms { base_ns, since_ms })
        });
        *self = moved.unwrap_or(Self::Ns(times_ns));
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Ms { since_ms, .. } => since_ms.capacity(),
            Self::Ns(times_ns) => times_ns.capacity(),
        }
    }
}

/// The base for times that begin with this one.
fn base_before(first_ns: i64) -> Option<i64> {
    first_ns.checked_sub(i64::from(FIRST_MS) * MS_NS)
}

/// Milliseconds between a base and a time, where they say all of it.
fn since(base_ns: i64, time_ns: i64) -> Option<u32> {
    let since_ns = time_ns.checked_sub(base_ns)?;
    (since_ns % MS_NS == 0).then(|| u32::try_from(since_ns / MS_NS).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_NS: i64 = 86_400_000 * MS_NS;

    proptest! {
        #[test]
        fn times_come_back_as_they_were_put_whatever_lies_between_them(
            start in prop_oneof![Just(i64::MIN), Just(0), Just(1_700_000_000_123_456_789), Just(i64::MAX - 400 * DAY_NS)],
            steps in prop::collection::vec(
                (0..30_i64, prop_oneof![6 => Just(MS_NS), 2 => Just(DAY_NS), 1 => Just(1_i64)], 0..4_usize, any::<bool>()),
                1..200,
            ),
        ) {
            let (mut times, mut expected) = (Times::default(), Vec::<i64>::new());
            let mut newest = start;
            for (count, unit, dropped, back) in steps {
                let time = if back { newest.saturating_sub(count * unit) } else { newest.saturating_add(count * unit) };
                newest = newest.max(time);
                let place = times.before(time);
                prop_assert_eq!(place, expected.partition_point(|known| *known < time));
                if times.get(place) != Some(time) {
                    times.insert(place, time);
                    expected.insert(place, time);
                }
                if dropped == 0 {
                    times.drop_first(expected.len() / 2);
                    expected.drain(..expected.len() / 2);
                }
                prop_assert!(times.iter().eq(expected.iter().copied()));
                prop_assert_eq!((times.len(), times.last()), (expected.len(), expected.last().copied()));
            }
        }
    }

    #[test]
    fn milliseconds_take_half_the_room_for_as_long_as_a_plant_runs() {
        let mut times = Times::with_room(16);
        for n in 0..100_000_i64 {
            // One every two hours for 22 years; what they have beyond the millisecond stays the same.
            times.insert(times.len(), 1_700_000_000_000_000_123 + n * DAY_NS / 12);
            times.drop_first(times.len().saturating_sub(12));
        }
        assert!(matches!(times, Times::Ms { .. }) && times.bytes() <= 16 * 4, "{times:?}");
        times.insert(times.len(), times.last().unwrap() + 1);
        assert!(matches!(times, Times::Ns(_)), "a nanosecond is no millisecond");
    }
}
