//! How long to wait after a fault.

use std::time::Duration;

use crate::{Fault, Retry};

/// Waits of one thing that is tried again: exponential with jitter, reset by success.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    policy: Retry,
    attempts: u32,
    random: u64,
}

impl Backoff {
    /// A fresh one; `stream` tells apart those that share a seed.
    pub(crate) fn new(policy: &Retry, stream: u64) -> Self {
        Self { policy: policy.clone(), attempts: 0, random: policy.seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }

    /// Forgets earlier faults.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The wait after a passing fault; `asked` is the store's own wish, which wins when it is longer.
    pub(crate) fn passing(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = self.policy.first_ms.saturating_mul(1_u64.checked_shl(self.attempts).unwrap_or(u64::MAX));
        self.attempts = self.attempts.saturating_add(1);
        let own = self.jittered(doubled.min(self.policy.max_ms));
        own.max(asked.unwrap_or_default().min(Duration::from_millis(self.policy.retry_after_max_ms)))
    }

    /// The wait after refused credentials.
    pub(crate) fn credentials(&mut self) -> Duration {
        self.jittered(self.policy.credentials_ms)
    }

    /// The wait after `fault`; `None` if it must not be retried.
    pub(crate) fn after(&mut self, fault: &Fault) -> Option<Duration> {
        match fault {
            Fault::Retry { after, .. } => Some(self.passing(*after)),
            Fault::Credentials { .. } => Some(self.credentials()),
            Fault::Fatal { .. } => None,
        }
    }

    /// Between half of `wait_ms` and all of it, so that workers which failed together do not come back together.
    fn jittered(&mut self, wait_ms: u64) -> Duration {
        let half = wait_ms / 2;
        Duration::from_millis(wait_ms - half + self.random() % (half + 1))
    }

    // SplitMix64 (Steele, Lea, Flood 2014).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Retry {
        Retry { first_ms: 100, max_ms: 1_000, credentials_ms: 5_000, retry_after_max_ms: 60_000, seed: 7 }
    }

    #[test]
    fn waits_double_up_to_their_bound_and_start_again_after_success() {
        let mut backoff = Backoff::new(&policy(), 0);
        for bound_ms in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = backoff.passing(None).as_millis();
            assert!(bound_ms / 2 <= wait && wait <= bound_ms, "{wait} ms is not within {bound_ms} ms");
        }
        for _ in 0..200 {
            assert!(backoff.passing(None).as_millis() <= 1_000);
        }
        backoff.reset();
        assert!(backoff.passing(None).as_millis() <= 100);
    }

    #[test]
    fn the_stores_own_wish_wins_when_it_is_longer_and_is_bounded() {
        let mut backoff = Backoff::new(&policy(), 0);
        assert_eq!(backoff.passing(Some(Duration::from_secs(20))), Duration::from_secs(20));
        assert_eq!(backoff.passing(Some(Duration::from_secs(86_400))), Duration::from_secs(60));
        assert!(backoff.passing(Some(Duration::from_millis(1))) >= Duration::from_millis(200));
    }

    #[test]
    fn workers_that_fail_together_come_back_apart() {
        let waits: std::collections::BTreeSet<_> = (0..20).map(|stream| Backoff::new(&policy(), stream).passing(None)).collect();
        assert!(waits.len() > 10, "only {} different waits", waits.len());
    }
}
