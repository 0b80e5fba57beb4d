//! Producers: recordings replayed to Kafka as a gateway would publish them.
