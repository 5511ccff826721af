//! A batch on its way: built once, and sent again as it is. Only a new identity, or a broker that finds it too large,
//! changes it.

use bytes::Bytes;
use ottla_record::{BATCH_OVERHEAD, BatchBuilder, BatchHeader, Compression, DecompressionLimits, OpenBatch, stamp_crc};
use tokio::time::Instant;

use super::delivery::{Memory, Promise, Written};
use super::identity::Identity;
use crate::error::ClientError;
use crate::retry::Retry;

/// Who sends a batch to the broker, and the number of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) identity: Identity,
    pub(super) base_sequence: i32,
}

impl Stamp {
    /// The stamp of the batch after one of so many records.
    pub(super) fn after(self, records: u32) -> Stamp {
        let next = i64::from(self.base_sequence) + i64::from(records);
        Stamp { base_sequence: (next % (1 << 31)) as i32, ..self }
    }
}

#[derive(Debug)]
pub(super) struct Batch {
    body: Body,
    pub(super) stamp: Option<Stamp>,
    pub(super) accepted: Instant,
    /// Which batch of its partition this is.
    pub(super) order: u64,
    /// Whether nothing may be under way with it: it may be too large still, and what follows must stay behind it.
    pub(super) alone: bool,
    /// Why it was not written; it pauses before it is sent again.
    pub(super) failure: Option<ClientError>,
    /// Whether it was refused for its number, and gets another.
    pub(super) misnumbered: bool,
    /// Set while things go wrong.
    pub(super) retry: Option<Retry>,
    /// Whether an attempt may have been written without our knowing.
    pub(super) uncertain: bool,
    // Settled before the memory is given back: who waits for all memory finds every result.
    promise: Promise,
    memory: Memory,
}

#[derive(Debug)]
enum Body {
    Filled(BatchBuilder),
    Built(Bytes),
}

impl Batch {
    pub(super) fn new(builder: BatchBuilder, promise: Promise, memory: Memory, accepted: Instant) -> Batch {
        let body = Body::Filled(builder);
        Batch {
            body,
            stamp: None,
            accepted,
            order: 0,
            alone: false,
            failure: None,
            misnumbered: false,
            retry: None,
            uncertain: false,
            promise,
            memory,
        }
    }

    pub(super) fn records(&self) -> u32 {
        self.promise.records()
    }

    /// Where it stands among the batches of its partition; parts of one follow each other.
    pub(super) fn place(&self) -> (u64, u32) {
        (self.order, self.promise.first())
    }

    /// The batch as it goes over the wire, under this stamp.
    pub(super) fn bytes(&mut self, stamp: Option<Stamp>) -> Result<Bytes, ClientError> {
        let bytes = match std::mem::replace(&mut self.body, Body::Built(Bytes::new())) {
            Body::Filled(mut builder) => {
                if let Some(stamp) = stamp {
                    let Identity { producer_id, producer_epoch } = stamp.identity;
                    builder.set_producer(producer_id, producer_epoch, stamp.base_sequence);
                }
                builder.finish()?
            }
            Body::Built(bytes) if self.stamp == stamp => bytes,
            Body::Built(bytes) => restamped(&bytes, stamp),
        };
        self.stamp = stamp;
        self.body = Body::Built(bytes.clone());
        Ok(bytes)
    }

    /// Makes two batches of one that was built and has several records; gives it back if that cannot be done. The
    /// sequence numbers stay.
    pub(super) fn split(self, compression: Compression) -> Result<(Batch, Batch), Box<Batch>> {
        let middle = self.records().div_ceil(2);
        let Some((first, second)) = self.halves(middle, compression) else { return Err(Box::new(self)) };
        let Batch { stamp, accepted, order, retry, uncertain, mut promise, mut memory, .. } = self;
        let rest = promise.split_off(middle);
        let half = memory.bytes / 2;
        memory.bytes -= half;
        let rest_memory = Memory { semaphore: memory.semaphore.clone(), bytes: half };
        let batch = |builder, stamp, promise, memory| Batch {
            body: Body::Filled(builder),
            stamp,
            accepted,
            order,
            alone: true,
            failure: None,
            misnumbered: false,
            retry: retry.clone(),
            uncertain,
            promise,
            memory,
        };
        let second_stamp = stamp.map(|stamp| stamp.after(middle));
        Ok((batch(first, stamp, promise, memory), batch(second, second_stamp, rest, rest_memory)))
    }

    fn halves(&self, middle: u32, compression: Compression) -> Option<(BatchBuilder, BatchBuilder)> {
        let Body::Built(bytes) = &self.body else { return None };
        // What we wrote ourselves is as large as we let it be.
        let limits = DecompressionLimits { max_output_bytes: usize::MAX, max_ratio: usize::MAX, ratio_free_bytes: 0 };
        let open = OpenBatch::open(bytes, &limits).ok()?;
        let mut halves = (BatchBuilder::new(compression), BatchBuilder::new(compression));
        for (position, record) in (0..).zip(open.records()) {
            let half = if position < middle { &mut halves.0 } else { &mut halves.1 };
            half.append_record(&record.ok()?).ok()?;
        }
        Some(halves)
    }

    pub(super) fn settle(self, result: Result<Written, ClientError>) {
        self.promise.settle(result);
        drop(self.memory);
    }
}

fn restamped(batch: &Bytes, stamp: Option<Stamp>) -> Bytes {
    let Ok(mut header) = BatchHeader::parse(batch) else { return batch.clone() };
    (header.producer_id, header.producer_epoch, header.base_sequence) = stamp
        .map_or((-1, -1, -1), |Stamp { identity, base_sequence }| {
            (identity.producer_id, identity.producer_epoch, base_sequence)
        });
    let mut bytes = batch.to_vec();
    bytes[..BATCH_OVERHEAD].copy_from_slice(&header.encode());
    stamp_crc(&mut bytes);
    bytes.into()
}
