//! The road between ends that live in memory: thousands of seeded schedules, and each known way of losing data by name.

// The modules of this test see each other; nobody else does.
#![allow(unreachable_pub)]

mod broken;
mod failures;
mod simulation;
mod world;
