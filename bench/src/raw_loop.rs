//! The yardstick: librdkafka by itself, in a loop that takes batches and looks at nothing but lengths.

// rdkafka's safe API has no batches.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char},
    ptr,
};

use anyhow::{Result, bail, ensure};
use rdkafka::bindings::{self as rd, rd_kafka_resp_err_t as Code};

/// As many as our consumer takes at once.
const BATCH_MESSAGES: usize = 4_096;
const BATCH_WAIT_MS: i32 = 100;

/// Consumes `messages` of a topic from its start, without a group, and returns the bytes of their values.
pub fn consume(settings: &[(&str, &str)], topic: &str, partitions: i32, messages: u64) -> Result<u64> {
    let topic = CString::new(topic)?;
    let mut why = [0 as c_char; 512];
    // SAFETY: every handle is used as librdkafka's documentation says, by one thread, and is alive until its destroy; texts
    // end with 0; the batch's pointers are valid and ours as far as was said.
    unsafe {
        let config = rd::rd_kafka_conf_new();
        for (key, value) in settings {
            let (key, value) = (CString::new(*key)?, CString::new(*value)?);
            let set = rd::rd_kafka_conf_set(config, key.as_ptr(), value.as_ptr(), why.as_mut_ptr(), why.len());
            ensure!(set == rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK, "{:?}", CStr::from_ptr(why.as_ptr()));
        }
        let client = rd::rd_kafka_new(rd::rd_kafka_type_t::RD_KAFKA_CONSUMER, config, why.as_mut_ptr(), why.len());
        ensure!(!client.is_null(), "{:?}", CStr::from_ptr(why.as_ptr()));
        rd::rd_kafka_poll_set_consumer(client);
        let from = rd::rd_kafka_topic_partition_list_new(partitions);
        for partition in 0..partitions {
            (*rd::rd_kafka_topic_partition_list_add(from, topic.as_ptr(), partition)).offset = 0;
        }
        let assigned = rd::rd_kafka_assign(client, from);
        ensure!(assigned == Code::RD_KAFKA_RESP_ERR_NO_ERROR, "librdkafka does not assign: {assigned:?}");
        rd::rd_kafka_topic_partition_list_destroy(from);

        let queue = rd::rd_kafka_queue_get_consumer(client);
        let mut batch = vec![ptr::null_mut(); BATCH_MESSAGES];
        let (mut taken, mut bytes) = (0, 0);
        while taken < messages {
            let count = rd::rd_kafka_consume_batch_queue(queue, BATCH_WAIT_MS, batch.as_mut_ptr(), batch.len());
            for message in batch.iter().take(usize::try_from(count)?) {
                let error = (**message).err;
                if error != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    bail!("librdkafka hands out an error: {error:?}");
                }
                taken += 1;
                bytes += (**message).len as u64;
                rd::rd_kafka_message_destroy(*message);
            }
        }
        rd::rd_kafka_queue_destroy(queue);
        rd::rd_kafka_consumer_close(client);
        rd::rd_kafka_destroy(client);
        Ok(bytes)
    }
}
