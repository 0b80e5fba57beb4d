//! Messages to Kafka: gathered while the batch before them is on its way, each with its own acknowledgement.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use mantis_kafka::{Error, OutRecord, Producer};
use mantis_pipeline::Header;
use tokio::sync::{mpsc, oneshot};

use crate::{Message, Publish, PublishError};

/// Messages that are sent together at most, and as many may wait.
const BATCH_MESSAGES_MAX: usize = 4_096;

type Answer = oneshot::Sender<Result<(), PublishError>>;

/// Publishes to Kafka. One batch is on its way at a time, so that the order of messages is that of their publishing.
#[derive(Debug)]
pub struct KafkaPublisher(mpsc::Sender<(OutRecord, Answer)>);

impl KafkaPublisher {
    /// Starts the task that sends; it ends when the publisher is dropped. Needs a tokio runtime.
    pub fn new(producer: Producer) -> Self {
        let (sender, mut waiting) = mpsc::channel(BATCH_MESSAGES_MAX);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while waiting.recv_many(&mut batch, BATCH_MESSAGES_MAX).await > 0 {
                let (records, answers): (Vec<OutRecord>, Vec<Answer>) = batch.drain(..).unzip();
                for (answer, sent) in answers.into_iter().zip(producer.send_all(&records).await) {
                    // Whoever does not wait any more need not know.
                    let _ = answer.send(sent.map(drop).map_err(refusal));
                }
            }
        });
        Self(sender)
    }
}

impl Publish for KafkaPublisher {
    type Delivery = Delivery;

    async fn publish(&self, message: &Message) -> Result<Delivery, PublishError> {
        let place = self.0.reserve().await.map_err(|_| ended())?;
        let source = Header { key: Message::SOURCE_HEADER.to_owned(), value: Some(message.source.clone().into_bytes()) };
        let record = OutRecord {
            topic: Arc::from(message.topic),
            partition: None,
            key: Some(message.key.as_bytes().to_vec()),
            payload: Some(message.payload.clone()),
            headers: vec![source],
            timestamp_ms: None,
        };
        let (answer, delivery) = oneshot::channel();
        place.send((record, answer));
        Ok(Delivery(delivery))
    }
}

/// Ends when the message is durable, or was given up.
#[derive(Debug)]
pub struct Delivery(oneshot::Receiver<Result<(), PublishError>>);

impl Future for Delivery {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(context)).unwrap_or_else(|_| Err(ended())))
    }
}

fn refusal(error: Error) -> PublishError {
    match error {
        Error::Unavailable(_) => PublishError::Retry(error.to_string()),
        _ => PublishError::Fatal(error.to_string()),
    }
}

fn ended() -> PublishError {
    PublishError::Fatal("the producer has ended: start the replay again, it goes on where it stopped".into())
}
