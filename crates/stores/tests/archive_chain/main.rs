//! The chain of objects: single failures, and seeded mixtures of all of them.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod failures;
mod simulation;
mod world;
