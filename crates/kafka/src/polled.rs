//! A producer with a thread that takes its delivery reports.
//!
//! rdkafka has one too (`ThreadedProducer`), but that spins through the last millisecond of each poll, because the wait
//! that is left is rounded down to 0 ms: a hundredth of a core for nothing.

use std::{
    io,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rdkafka::producer::{BaseProducer, ProducerContext};

/// Longest wait for a report, and so for the end. A little above a whole number of milliseconds, so that rounding down
/// leaves nothing to spin through.
const POLL_WAIT: Duration = Duration::from_micros(100_050);

pub(crate) struct Polled<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> Polled<C> {
    pub(crate) fn new(producer: BaseProducer<C>) -> io::Result<Self> {
        let (producer, stop) = (Arc::new(producer), Arc::<AtomicBool>::default());
        let (polled, stopped) = (Arc::clone(&producer), Arc::clone(&stop));
        let polling = move || {
            while !stopped.load(Ordering::Relaxed) {
                polled.poll(POLL_WAIT);
            }
        };
        let thread = thread::Builder::new().name("kafka-deliveries".into()).spawn(polling)?;
        Ok(Self { producer, stop, thread: Some(thread) })
    }
}

impl<C: ProducerContext + 'static> Deref for Polled<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &Self::Target {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for Polled<C> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has told of its panic already.
            let _ = thread.join();
        }
    }
}
