//! Where messages go.

use std::future::Future;

use crate::Message;

/// Why a message was not taken or not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Passing trouble: the message is sent again.
    #[error("{0}")]
    Retry(String),
    /// The message, or any message, can never be delivered: the replay stops.
    #[error("{0}")]
    Fatal(String),
}

/// A producer. Messages of one key are delivered in the order in which they were published.
pub trait Publish: Send + Sync {
    /// Ends when the message's delivery is acknowledged by the broker, or given up.
    type Delivery: Future<Output = Result<(), PublishError>> + Send + Unpin;

    /// Takes a message; waits while the producer's queue is full. Cancel safe: a dropped future has not taken it.
    fn publish(&self, message: &Message) -> impl Future<Output = Result<Self::Delivery, PublishError>> + Send;
}
