//! Figures from end to end: real recordings into `mantis up`, and what its stores hold of them.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic)]

mod archive;
#[path = "../common/mod.rs"]
mod common;
mod kills;
mod late;
mod servers;
mod stored;
mod truth;
mod twice;
