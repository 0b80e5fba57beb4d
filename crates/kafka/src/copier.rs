//! Writes records of the log again, into another topic or the same one.

use std::sync::OnceLock;

use crate::{ClientConfig, Error, OutRecord, Producer, producer::Delivered};

/// Sends copies of records, whatever their size and however they were compressed when they came.
///
/// A topic bounds batches as they are sent, so a copy has to be compressed as well as the record was. LZ4 is tried first: what is
/// compressed much better is unpacked by every reader, whose memory is bounded by compressed bytes.
#[derive(Debug)]
pub(crate) struct Copier {
    client: ClientConfig,
    producer: Producer,
    dense: OnceLock<Producer>,
}

impl Copier {
    pub(crate) fn new(client: &ClientConfig) -> Result<Self, Error> {
        Ok(Self { client: client.clone(), producer: Producer::copier(client, "lz4")?, dense: OnceLock::new() })
    }

    /// As [`Producer::send_all`].
    pub(crate) async fn send_all(&self, records: &[OutRecord]) -> Vec<Result<Delivered, Error>> {
        let mut results = self.producer.send_all(records).await;
        for (result, record) in results.iter_mut().zip(records) {
            if matches!(result, Err(Error::Refused(_))) {
                *result = self.send_dense(record).await;
            }
        }
        results
    }

    /// As [`Producer::close`]; what was sent has ended.
    pub(crate) async fn close(self) -> Result<(), Error> {
        self.producer.close().await
    }

    async fn send_dense(&self, record: &OutRecord) -> Result<Delivered, Error> {
        let producer = match self.dense.get() {
            Some(producer) => producer,
            None => {
                let made = Producer::copier(&self.client, "zstd")?;
                self.dense.get_or_init(|| made)
            }
        };
        producer.send(record.clone()).await
    }
}
