//! What a state takes.

use std::ops::{AddAssign, SubAssign};

use serde::{Deserialize, Serialize};

/// What a state holds, and the memory that was allocated for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSize {
    /// Sensors that were seen, silent ones too.
    pub sensors: usize,
    /// Windows without a final row, and those that are kept as moments.
    pub open_windows: usize,
    /// Samples that are kept one by one.
    pub samples: usize,
    /// Bytes of all that, without what the allocator adds.
    pub bytes: usize,
}

impl AddAssign for StateSize {
    fn add_assign(&mut self, other: Self) {
        self.sensors += other.sensors;
        self.open_windows += other.open_windows;
        self.samples += other.samples;
        self.bytes += other.bytes;
    }
}

impl SubAssign for StateSize {
    fn sub_assign(&mut self, other: Self) {
        self.sensors -= other.sensors;
        self.open_windows -= other.open_windows;
        self.samples -= other.samples;
        self.bytes -= other.bytes;
    }
}
