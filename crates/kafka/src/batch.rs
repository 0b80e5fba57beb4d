//! Records of one partition, as they lie in librdkafka's buffers.

use std::{fmt, sync::Arc};

use mantis_pipeline::{Header, Record, RecordBatch, TopicPartition};

use crate::raw::{Client, Message, Messages};

/// Records of one partition, in order of offset, borrowed from librdkafka's fetch buffers: nothing is copied, and the
/// buffers are given back when the batch is dropped.
pub struct MessageBatch {
    partition: TopicPartition,
    messages: Messages,
    bytes: usize,
}

impl MessageBatch {
    /// `messages` are of `partition`, at least one.
    pub(crate) fn new(partition: TopicPartition, messages: Vec<Message>, client: Arc<Client>) -> Self {
        let bytes = messages.iter().map(Message::bytes).sum();
        Self { partition, messages: Messages::new(messages, client), bytes }
    }
}

impl RecordBatch for MessageBatch {
    fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    fn len(&self) -> usize {
        self.messages.as_slice().len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        self.messages.as_slice()[index].record()
    }

    fn headers(&self, index: usize) -> Vec<Header> {
        self.messages.headers(index)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl fmt::Debug for MessageBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageBatch({}, {} records)", self.partition, self.len())
    }
}
