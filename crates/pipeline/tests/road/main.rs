//! The road between ends that live in memory: thousands of seeded schedules, and each known way of losing data by name.

// The modules of this test see each other and nobody else does; all of it may panic, as tests do.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod broken;
mod failures;
mod simulation;
mod world;
