//! The chain of objects: single failures, and seeded mixtures of all of them.

// The modules of this test see each other and nobody else does; all of it may panic, as tests do. A list of one range is meant.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::single_range_in_vec_init)]

mod failures;
mod gaps;
mod simulation;
mod world;
