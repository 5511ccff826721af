//! Code of the user's that sees every record, and every result.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::ProducerRecord;
use super::delivery::Delivery;
use crate::error::ClientError;

/// Sees records on their way out and what becomes of them. What it panics with is logged and otherwise ignored.
pub trait ProducerInterceptor: fmt::Debug + Send + Sync {
    /// A record before anything is decided about it; what is returned is sent in its place.
    fn on_send(&self, record: ProducerRecord) -> ProducerRecord {
        record
    }

    /// The result of a record. It is called by the task that sends to the partition, so it must not wait.
    /// `partition` is `None` where none was chosen.
    fn on_acknowledgement(&self, topic: &str, partition: Option<i32>, result: &Result<Delivery, ClientError>) {
        let _ = (topic, partition, result);
    }
}

/// All interceptors of a producer, in order.
pub(super) type Interceptors = Arc<[Arc<dyn ProducerInterceptor>]>;

/// The record as the interceptors want it; one that panics changes nothing.
pub(super) fn on_send(interceptors: &Interceptors, mut record: ProducerRecord) -> ProducerRecord {
    for interceptor in interceptors.iter() {
        let unchanged = record.clone();
        record = catch_unwind(AssertUnwindSafe(|| interceptor.on_send(record))).unwrap_or_else(|_| {
            tracing::warn!(?interceptor, "a producer's interceptor panicked at a record");
            unchanged
        });
    }
    record
}

pub(super) fn on_acknowledgement(
    interceptors: &Interceptors,
    topic: &str,
    partition: Option<i32>,
    result: &Result<Delivery, ClientError>,
) {
    for interceptor in interceptors.iter() {
        let told = catch_unwind(AssertUnwindSafe(|| interceptor.on_acknowledgement(topic, partition, result)));
        if told.is_err() {
            tracing::warn!(?interceptor, "a producer's interceptor panicked at a result");
        }
    }
}
