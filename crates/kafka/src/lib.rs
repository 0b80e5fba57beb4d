//! The only user of rdkafka: batch consumer, acknowledged producer, admin.
