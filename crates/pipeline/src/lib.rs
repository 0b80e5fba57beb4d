//! The road: consume, decode, batch, write, dead-letter, commit. It knows neither Kafka nor any store.
