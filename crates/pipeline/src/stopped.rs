//! Why a road ended before it was asked to.

/// Why a worker stopped. What it had not committed is read again by the next owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The source can never give anything again.
    #[error("the source has ended: {0}")]
    Source(String),
    /// Writing on could lose rows or make them wrong.
    #[error("the store cannot be written safely: {0}")]
    Sink(String),
    /// Dead letters can never be kept, so nothing may be refused.
    #[error("dead letters cannot be kept: {0}")]
    DeadLetters(String),
    /// A part of the worker panicked. Nothing of its batch is committed.
    #[error(
        "a write was cut off by a defect of the program ({0}); nothing of it is committed: start the worker again and report it"
    )]
    Panicked(String),
}
