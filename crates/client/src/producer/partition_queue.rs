//! The records on their way to one partition.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::PartitionProduceResponse;
use ottla_protocol::{ApiKey, StrBytes};
use ottla_record::{BATCH_OVERHEAD, BatchBuilder, Header};
use ottla_types::{ErrorCode, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::{Acks, Delivery, Identities, ProducerSettings};
use crate::client::{Client, Lane};
use crate::error::{ClientError, check, failure};
use crate::retry::Retry;

/// From this version on a produce request names topics by id only.
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

/// A record that waits for its result.
pub(super) struct Pending {
    pub(super) timestamp: i64,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<(Bytes, Option<Bytes>)>,
    pub(super) size: usize,
    pub(super) accepted: Instant,
    pub(super) delivered: oneshot::Sender<Result<Delivery, ClientError>>,
    pub(super) _memory: OwnedSemaphorePermit,
}

/// Who this queue is to the broker, and how far it has counted.
#[derive(Clone, Copy)]
struct Identity {
    producer_id: i64,
    producer_epoch: i16,
    next_sequence: i32,
}

struct PartitionQueue {
    client: Client,
    settings: Arc<ProducerSettings>,
    partition: TopicPartition,
    shared_identity: Arc<Identities>,
    /// `None` before the first batch, and after one whose fate is not known: its sequence may or may not be used.
    identity: Option<Identity>,
    /// Whether the shared identity is used up here.
    own_identity: bool,
}

/// What became of a batch.
enum Sent {
    Written {
        base_offset: Option<i64>,
        log_append_time: Option<i64>,
    },
    /// The batch must be split.
    TooLarge(ClientError),
    Failed(ClientError),
}

pub(super) async fn run(
    client: Client,
    settings: Arc<ProducerSettings>,
    partition: TopicPartition,
    shared_identity: Arc<Identities>,
    mut records: mpsc::UnboundedReceiver<Pending>,
) {
    let mut queue =
        PartitionQueue { client, settings, partition, shared_identity, identity: None, own_identity: false };
    let mut waiting = VecDeque::new();
    while gather(&queue.settings, &mut records, &mut waiting).await {
        let mut count = fitting(&waiting, queue.settings.batch_bytes);
        loop {
            match queue.deliver(&waiting, count).await {
                Sent::Written { base_offset, log_append_time } => {
                    for (position, pending) in waiting.drain(..count).enumerate() {
                        let offset = base_offset.map(|base_offset| base_offset.saturating_add(position as i64));
                        let timestamp = log_append_time.unwrap_or(pending.timestamp);
                        let partition = queue.partition.partition;
                        let _ = pending.delivered.send(Ok(Delivery { partition, offset, timestamp }));
                    }
                    break;
                }
                Sent::TooLarge(_) if count > 1 => count = count.div_ceil(2),
                Sent::TooLarge(error) | Sent::Failed(error) => {
                    queue.fail(waiting.drain(..count), error);
                    break;
                }
            }
        }
    }
}

/// Waits for records; whether there are any, which there are not once the producer is gone.
async fn gather(
    settings: &ProducerSettings,
    records: &mut mpsc::UnboundedReceiver<Pending>,
    waiting: &mut VecDeque<Pending>,
) -> bool {
    if waiting.is_empty() {
        let Some(first) = records.recv().await else { return false };
        waiting.push_back(first);
    }
    let mut bytes: usize = waiting.iter().map(|pending| pending.size).sum();
    let until = waiting[0].accepted + settings.linger;
    while bytes < settings.batch_bytes {
        let next = match records.try_recv() {
            Ok(next) => Some(next),
            Err(_) => tokio::time::timeout_at(until, records.recv()).await.unwrap_or(None),
        };
        let Some(next) = next else { break };
        bytes += next.size;
        waiting.push_back(next);
    }
    true
}

/// How many of the waiting records make a batch; at least one.
fn fitting(waiting: &VecDeque<Pending>, batch_bytes: usize) -> usize {
    let mut bytes = BATCH_OVERHEAD;
    let beyond = waiting.iter().position(|pending| {
        bytes += pending.size;
        bytes > batch_bytes
    });
    beyond.unwrap_or(waiting.len()).max(1)
}

impl PartitionQueue {
    /// Sends the first `count` records as one batch until there is an answer that stands.
    async fn deliver(&mut self, waiting: &VecDeque<Pending>, count: usize) -> Sent {
        let deadline = waiting[0].accepted + self.settings.delivery_timeout;
        let mut retry = Retry::within(deadline.saturating_duration_since(Instant::now()));
        // Whether an attempt may have been written without our knowing.
        let mut uncertain = false;
        loop {
            let error = match self.attempt(waiting, count, &mut uncertain).await {
                Ok(sent) => {
                    if let (Sent::Written { .. }, Some(identity)) = (&sent, &mut self.identity) {
                        let next = i64::from(identity.next_sequence) + count as i64;
                        identity.next_sequence = (next % (1 << 31)) as i32;
                    }
                    return sent;
                }
                Err(error) => error,
            };
            self.client.forget_topic(&self.partition.topic);
            if let Err(error) = retry.pause(error).await {
                if uncertain {
                    self.forget_identity();
                }
                return Sent::Failed(error);
            }
        }
    }

    async fn attempt(
        &mut self,
        waiting: &VecDeque<Pending>,
        count: usize,
        uncertain: &mut bool,
    ) -> Result<Sent, ClientError> {
        let identity = self.identity().await?;
        let batch = build(&self.settings, identity, waiting.iter().take(count))?;
        let leader = self.client.leader(&self.partition.topic, self.partition.partition).await?;
        let connection = self.client.broker(leader.node_id, Lane::General).await?;
        let highest = if leader.topic_id.is_zero() { FIRST_VERSION_WITH_TOPIC_IDS - 1 } else { i16::MAX };
        let timeout = self.client.settings().request_timeout;
        let request = ProduceRequest {
            acks: self.settings.acks.code(),
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: StrBytes::from(&self.partition.topic),
                topic_id: leader.topic_id,
                partition_data: vec![PartitionProduceData { index: self.partition.partition, records: Some(batch) }],
            }],
            ..Default::default()
        };
        if self.settings.acks == Acks::None {
            connection.send_unanswered_at_most(&request, highest).await?;
            return Ok(Sent::Written { base_offset: None, log_append_time: None });
        }
        *uncertain = true;
        let response = connection.send_at_most(&request, highest, timeout + Duration::from_secs(1)).await?;
        let partitions = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
        let answer = partitions.into_iter().find(|answer| answer.index == self.partition.partition);
        let sent = self.judge(&answer.ok_or(ClientError::Incomplete(ApiKey::Produce))?)?;
        *uncertain = false;
        Ok(sent)
    }

    /// An answer that stands, or an error after which the same batch is sent again.
    fn judge(&mut self, answer: &PartitionProduceResponse) -> Result<Sent, ClientError> {
        let Some(code) = failure(answer.error_code) else {
            return Ok(Sent::Written {
                base_offset: Some(answer.base_offset).filter(|&offset| offset >= 0),
                log_append_time: Some(answer.log_append_time_ms).filter(|&timestamp| timestamp >= 0),
            });
        };
        let record_error = answer.record_errors.iter().find_map(|error| {
            let message = error.batch_index_error_message.as_ref()?;
            Some(format!("record {} of the batch: {message}", error.batch_index))
        });
        let error = ClientError::Partition {
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition,
            code,
            message: record_error.or_else(|| answer.error_message.as_ref().map(ToString::to_string)),
        };
        match code {
            // The broker has the batch from an earlier attempt.
            ErrorCode::DuplicateSequenceNumber => Ok(Sent::Written { base_offset: None, log_append_time: None }),
            ErrorCode::MessageTooLarge => Ok(Sent::TooLarge(error)),
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::InvalidProducerEpoch | ErrorCode::UnknownProducerId => {
                self.forget_identity();
                Ok(Sent::Failed(error))
            }
            code if code.is_retriable() => Err(error),
            _ => Ok(Sent::Failed(error)),
        }
    }

    fn forget_identity(&mut self) {
        self.own_identity |= self.identity.take().is_some();
    }

    async fn identity(&mut self) -> Result<Option<Identity>, ClientError> {
        if self.settings.acks != Acks::All {
            return Ok(None);
        }
        if self.identity.is_none() {
            let (producer_id, producer_epoch) = if self.own_identity {
                init_producer_id(&self.client).await?
            } else {
                *self.shared_identity.get_or_try_init(|| init_producer_id(&self.client)).await?
            };
            self.identity = Some(Identity { producer_id, producer_epoch, next_sequence: 0 });
        }
        Ok(self.identity)
    }

    /// Gives every record the error; the first gets the error itself, the others say the same.
    fn fail(&self, records: impl Iterator<Item = Pending>, error: ClientError) {
        let same = |error: &ClientError| match error {
            ClientError::Partition { topic, partition, code, message } => ClientError::Partition {
                topic: topic.clone(),
                partition: *partition,
                code: *code,
                message: message.clone(),
            },
            _ => ClientError::Partition {
                topic: self.partition.topic.to_string(),
                partition: self.partition.partition,
                code: error.code().unwrap_or(ErrorCode::NetworkException),
                message: Some(error.to_string()),
            },
        };
        let mut error = Some(error);
        let mut copy = None;
        for pending in records {
            let given = match error.take() {
                Some(first) => {
                    copy = Some(same(&first));
                    first
                }
                None => copy.as_ref().map_or(ClientError::ProducerClosed, &same),
            };
            let _ = pending.delivered.send(Err(given));
        }
    }
}

async fn init_producer_id(client: &Client) -> Result<(i64, i16), ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        producer_id: -1,
        producer_epoch: -1,
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let response = client.ask_any(&request, client.settings().request_timeout).await?;
    check(ApiKey::InitProducerId, response.error_code, None)?;
    Ok((response.producer_id, response.producer_epoch))
}

fn build<'a>(
    settings: &ProducerSettings,
    identity: Option<Identity>,
    records: impl Iterator<Item = &'a Pending>,
) -> Result<Bytes, ClientError> {
    let mut builder = BatchBuilder::new(settings.compression);
    if let Some(Identity { producer_id, producer_epoch, next_sequence }) = identity {
        builder.set_producer(producer_id, producer_epoch, next_sequence);
    }
    let mut headers = Vec::new();
    for pending in records {
        headers.clear();
        headers.extend(pending.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }));
        builder.append(pending.timestamp, pending.key.as_deref(), pending.value.as_deref(), &headers)?;
    }
    Ok(builder.finish()?)
}
