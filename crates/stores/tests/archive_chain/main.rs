//! The chain of objects: single failures, and seeded mixtures of all of them.

// The modules of this test see each other and nobody else does; all of it may panic, as tests do.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod failures;
mod simulation;
mod world;
