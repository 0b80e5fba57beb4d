//! Messages to Kafka: gathered while the batch before them is on its way, each with its own acknowledgement.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use mantis_kafka::{ClientConfig, Error, OutRecord, Producer};
use mantis_pipeline::Header;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant, sleep},
};

use crate::{Message, Publish, PublishError};

/// Messages that are sent together at most, and as many may wait.
const BATCH_MESSAGES_MAX: usize = 4_096;

/// How often it is looked whether the brokers refuse this client, and for how long they may before its messages are given up.
const REFUSED_LOOK: Duration = Duration::from_secs(1);
const REFUSED_MAX: Duration = Duration::from_secs(60);

type Answer = oneshot::Sender<Result<(), PublishError>>;

/// Publishes to Kafka. One batch is on its way at a time, so that the order of messages is that of their publishing.
#[derive(Debug)]
pub struct KafkaPublisher(mpsc::Sender<(OutRecord, Answer)>);

impl KafkaPublisher {
    /// Starts the task that sends; it ends when the publisher is dropped. Needs a tokio runtime. Brokers that are away are waited
    /// for without end: a message that was given up would come behind later ones of its key.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(client: &ClientConfig) -> Result<Self, Error> {
        let producer = Producer::patient(client)?;
        let (sender, mut waiting) = mpsc::channel(BATCH_MESSAGES_MAX);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while waiting.recv_many(&mut batch, BATCH_MESSAGES_MAX).await > 0 {
                let (records, answers): (Vec<OutRecord>, Vec<Answer>) = batch.drain(..).unzip();
                let sent = tokio::select! {
                    sent = producer.send_all(&records) => sent.into_iter().map(|sent| sent.map(drop).map_err(refusal)).collect(),
                    refused = refused_for_long(&producer) => vec![Err(PublishError::Fatal(refused.to_string())); answers.len()],
                };
                for (answer, sent) in answers.into_iter().zip(sent) {
                    // Whoever does not wait any more need not know.
                    let _ = answer.send(sent);
                }
            }
        });
        Ok(Self(sender))
    }
}

/// Ends when the brokers have refused this client for so long that it is no passing trouble.
async fn refused_for_long(producer: &Producer) -> Error {
    let mut since = Instant::now();
    loop {
        sleep(REFUSED_LOOK).await;
        match producer.refused() {
            Some(error) if since.elapsed() >= REFUSED_MAX => return error,
            Some(_) => {}
            None => since = Instant::now(),
        }
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
