//! Transforms and windows by length of frame, kept for the next frame.

use std::{f64::consts::PI, sync::Arc};

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Longest frame. A message of 1 MiB, the most that a topic takes, cannot hold more 16-bit samples.
pub const FRAME_SAMPLES_MAX: usize = 1 << 19;
/// Lengths of frame kept planned; the one not used for longest goes.
pub const PLANS_MAX: usize = 16;
/// Samples of all lengths kept planned. A plan takes up to about 150 bytes a sample, least for lengths with small factors.
pub const PLANNED_SAMPLES_MAX: usize = FRAME_SAMPLES_MAX;

/// What frames of one length need.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) forward: Arc<dyn RealToComplex<f64>>,
    pub(crate) inverse: Arc<dyn ComplexToReal<f64>>,
    /// Periodic Hann.
    pub(crate) window: Arc<[f64]>,
}

/// The plans, the one used last at the end.
#[derive(Default)]
pub(crate) struct Plans(Vec<Plan>);

impl Plans {
    /// The plan for frames of `samples`, at least 1.
    pub(crate) fn plan(&mut self, samples: usize) -> Plan {
        let found = self.0.iter().position(|plan| plan.window.len() == samples);
        let plan = found.map_or_else(|| Plan::new(samples), |at| self.0.remove(at));
        while self.0.len() >= PLANS_MAX || (!self.0.is_empty() && self.samples() + samples > PLANNED_SAMPLES_MAX) {
            self.0.remove(0);
        }
        self.0.push(plan.clone());
        plan
    }

    fn samples(&self) -> usize {
        self.0.iter().map(|plan| plan.window.len()).sum()
    }
}

impl Plan {
    fn new(samples: usize) -> Self {
        // A planner keeps all it ever planned: a new one for each length leaves the bound to `Plans`.
        let mut planner = RealFftPlanner::new();
        let hann = |at: usize| (PI * at as f64 / samples as f64).sin().powi(2);
        Self {
            forward: planner.plan_fft_forward(samples),
            inverse: planner.plan_fft_inverse(samples),
            window: (0..samples).map(hann).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lengths_used_last_are_kept_within_the_bounds() {
        let mut plans = Plans::default();
        let first = plans.plan(8);
        for samples in 9..9 + PLANS_MAX - 1 {
            plans.plan(samples);
        }
        assert!(Arc::ptr_eq(&plans.plan(8).window, &first.window), "still there, and now the one used last");
        plans.plan(100);
        assert_eq!(plans.0.len(), PLANS_MAX);
        assert!(Arc::ptr_eq(&plans.plan(8).window, &first.window));
        plans.plan(FRAME_SAMPLES_MAX);
        assert_eq!(plans.0.len(), 1);
    }
}
