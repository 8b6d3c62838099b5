//! The few calls of librdkafka that rdkafka 0.39 does not wrap, and the only place of the journal with `unsafe`: the
//! topic id (KIP-516), whether a record that was not acknowledged can be on the log, the headers of a record by a foreign
//! hand, and a member's generation.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::slice;

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;

use crate::journal::{Header, LogId};

/// Whether a record that was not acknowledged may be on the log all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persisted {
    No,
    Possibly,
    Yes,
}

/// What librdkafka knows of the record of a delivery report.
pub(super) fn persisted(message: &BorrowedMessage<'_>) -> Persisted {
    // SAFETY: the pointer is the message's own and lives as long as the borrow; the call only reads it.
    match unsafe { rd::rd_kafka_message_status(message.ptr()) } {
        rd::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Persisted::No,
        rd::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Persisted::Possibly,
        rd::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => Persisted::Yes,
    }
}

/// The headers of a record that anybody may have written; `None` if librdkafka cannot read them (of more than 100,000, for
/// example, it reads none): that is not the same as no headers. rdkafka's own reading panics at a name that is not UTF-8;
/// here such bytes are replaced, as `String::from_utf8_lossy` does.
pub(super) fn headers_of(message: &BorrowedMessage<'_>) -> Option<Vec<Header>> {
    use rd::rd_kafka_resp_err_t::{RD_KAFKA_RESP_ERR__NOENT as NONE, RD_KAFKA_RESP_ERR_NO_ERROR as SOME};
    let mut all = ptr::null_mut();
    let mut headers = Vec::new();
    // SAFETY: the message lives as long as the borrow, and its headers belong to it. librdkafka answers each index below the
    // count with a name that ends in 0 and with a value of `size` bytes, or none; both are copied at once.
    unsafe {
        match rd::rd_kafka_message_headers(message.ptr(), &mut all) {
            SOME => {}
            NONE => return Some(headers),
            _ => return None,
        }
        let count = rd::rd_kafka_header_cnt(all);
        headers.reserve_exact(count);
        for index in 0..count {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            if rd::rd_kafka_header_get_all(all, index, &mut name, &mut value, &mut size) != SOME {
                return None;
            }
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size).to_vec());
            headers.push((name, value));
        }
    }
    Some(headers)
}

/// The generation of a consumer's group membership, or `None` while it is no member. A transaction that carries the
/// metadata of a non-member is not fenced by the group at all, so nobody may begin one without asking this.
pub(super) fn generation<C: ClientContext>(consumer: &Client<C>) -> Option<i32> {
    // SAFETY: the client outlives the call; the answer is null or an object that is ours to destroy.
    let metadata = Owned::new(
        unsafe { rd::rd_kafka_consumer_group_metadata(consumer.native_ptr()) },
        rd::rd_kafka_consumer_group_metadata_destroy,
    )?;
    // SAFETY: the pointer is not null and is destroyed only when `metadata` goes out of scope.
    let generation = unsafe { rd::rd_kafka_consumer_group_metadata_generation_id(metadata.ptr()) };
    (generation >= 0).then_some(generation)
}

/// How many events (deliveries, errors, log lines) wait in the client's queue to be served.
pub(super) fn events_waiting<C: ClientContext>(client: &Client<C>) -> usize {
    // SAFETY: the client outlives the call; the queue is a reference of ours, destroyed at the end of this function.
    unsafe {
        let queue = Owned::new(rd::rd_kafka_queue_get_main(client.native_ptr()), rd::rd_kafka_queue_destroy);
        queue.map_or(0, |queue| rd::rd_kafka_queue_length(queue.ptr()))
    }
}

/// Groups of the mock cluster inside `client` wait 3 s for more members unless told otherwise.
#[cfg(test)]
pub(super) fn mock_groups_begin_at_once<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the mock cluster belongs to the client, which outlives the call.
    unsafe {
        let cluster = rd::rd_kafka_handle_mock_cluster(client.native_ptr());
        assert!(!cluster.is_null(), "this client has no mock cluster");
        rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 1);
    }
}

/// Asks the cluster for the id of a topic. Blocks for at most `timeout_ms`; creates nothing.
pub(super) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout_ms: i32,
) -> Result<LogId, RDKafkaErrorCode> {
    let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let event = describe(client, &name, timeout_ms).ok_or(RDKafkaErrorCode::OperationTimedOut)?;
    // SAFETY: the event is alive; everything read from it below belongs to it and is copied before it is destroyed.
    unsafe {
        let code: RDKafkaErrorCode = rd::rd_kafka_event_error(event.ptr()).into();
        if code != RDKafkaErrorCode::NoError {
            return Err(code);
        }
        let result = rd::rd_kafka_event_DescribeTopics_result(event.ptr());
        let mut count = 0;
        let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count != 1 {
            return Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        }
        let description = *topics;
        let code: RDKafkaErrorCode = rd::rd_kafka_error_code(rd::rd_kafka_TopicDescription_error(description)).into();
        if code != RDKafkaErrorCode::NoError {
            return Err(code);
        }
        let id = rd::rd_kafka_TopicDescription_topic_id(description);
        let high = rd::rd_kafka_Uuid_most_significant_bits(id);
        let low = rd::rd_kafka_Uuid_least_significant_bits(id);
        Ok(log_id(high, low))
    }
}

fn log_id(high: i64, low: i64) -> LogId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high.to_be_bytes());
    id[8..].copy_from_slice(&low.to_be_bytes());
    LogId(id)
}

fn describe<C: ClientContext>(
    client: &Client<C>,
    name: &CString,
    timeout_ms: i32,
) -> Option<Owned<rd::rd_kafka_event_t>> {
    let rk = client.native_ptr();
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    // SAFETY: `rk` lives as long as `client`. librdkafka copies the collection and the options during the call, so
    // that both may be destroyed at the end of this function; the queue is ours, and the event that is polled from it
    // stays valid after the queue is gone.
    unsafe {
        let queue = Owned::new(rd::rd_kafka_queue_new(rk), rd::rd_kafka_queue_destroy)?;
        let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Owned::new(rd::rd_kafka_AdminOptions_new(rk, operation), rd::rd_kafka_AdminOptions_destroy)?;
        let mut error: [c_char; 256] = [0; 256];
        rd::rd_kafka_AdminOptions_set_request_timeout(options.ptr(), timeout_ms, error.as_mut_ptr(), error.len());
        let topics = Owned::new(
            rd::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            rd::rd_kafka_TopicCollection_destroy,
        )?;
        rd::rd_kafka_DescribeTopics(rk, topics.ptr(), options.ptr(), queue.ptr());
        Owned::new(rd::rd_kafka_queue_poll(queue.ptr(), timeout_ms), rd::rd_kafka_event_destroy)
    }
}

/// An object of librdkafka that is ours to destroy.
struct Owned<T> {
    ptr: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(ptr: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(ptr).map(|ptr| Self { ptr, destroy })
    }

    fn ptr(&self) -> *mut T {
        self.ptr.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the constructor that belongs to `destroy`, and is destroyed only here.
        unsafe { (self.destroy)(self.ptr.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::log_id;

    #[test]
    fn a_topic_id_is_big_endian_as_kafka_prints_it() {
        let id = log_id(0x0123_4567_89ab_cdef, -1);
        assert_eq!(id.to_string(), "0123456789abcdefffffffffffffffff");
    }
}
