//! The batches on their way to one partition.
//!
//! Several requests may be under way; they leave and are answered in order. When one fails, nothing new leaves until
//! every answer is there; what was not written then leaves again, in order, under its old sequence numbers, so that an
//! idempotent producer writes everything once. Where the numbering is broken (a batch was given up whose fate is not
//! known, or the broker lost what it had of this producer) it begins anew under a raised epoch.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use ottla_protocol::{ApiKey, StrBytes};
use ottla_types::{ErrorCode, TopicPartition};
use tokio::time::Instant;

use super::accumulator::Accumulator;
use super::batch::{Batch, Stamp};
use super::delivery::Written;
use super::identity::{Identities, Identity};
use super::settings::{Acks, ProducerSettings};
use crate::client::{Client, Lane};
use crate::connection::Connection;
use crate::error::{ClientError, failure};
use crate::topics::Leader;

/// From this version on a produce request names topics by id only.
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 13;

pub(super) struct PartitionQueue {
    client: Client,
    settings: Arc<ProducerSettings>,
    partition: TopicPartition,
    accumulator: Arc<Accumulator>,
    identities: Arc<Identities>,
    /// The last identity used here, if it cannot be used any more.
    spent: Option<Identity>,
    /// Who was last asked.
    leader: Option<Leader>,
    /// The next new batch's; `None` before the first one, and after one whose fate is not known.
    next_stamp: Option<Stamp>,
    in_flight: VecDeque<InFlight>,
    /// What leaves before anything new, in order.
    again: VecDeque<Batch>,
    /// Whether a request failed while others were under way, which are waited for.
    recovering: bool,
    /// How many batches there were.
    batches: u64,
    /// What went wrong last, for batches that find no time to go wrong themselves.
    last_failure: Option<ClientError>,
}

/// `None`: it left, and nobody answers it.
type Answer = Pin<Box<dyn Future<Output = Result<Option<ProduceResponse>, ClientError>> + Send>>;

/// A request that may leave.
struct Prepared {
    connection: Arc<Connection>,
    request: ProduceRequest,
    highest: i16,
    timeout: Duration,
}

impl Prepared {
    /// Gives the batch to its leader's connection. Without acknowledgement there is no answer to come, but it has to leave.
    async fn start(self, batch: &mut Batch) -> Result<Answer, ClientError> {
        let Prepared { connection, request, highest, timeout } = self;
        if request.acks == Acks::None.code() {
            let left = connection.start_unanswered_at_most(&request, highest, timeout).await?;
            return Ok(Box::pin(async move { Ok(left.await.map(|()| None)?) }));
        }
        batch.uncertain = true;
        let started = connection.start_at_most(&request, highest, timeout).await?;
        Ok(Box::pin(async move { Ok(Some(started.answer().await?)) }))
    }
}

struct InFlight {
    /// `None` once it was given up. The answer is still waited for: it says what the connection and the numbers are
    /// worth.
    batch: Option<Batch>,
    answer: Answer,
}

/// What an answer says of a batch that was not written.
enum Refusal {
    /// It may be written later.
    Retriable(ClientError),
    /// Its sequence number is not the next one.
    OutOfOrder(ClientError),
    TooLarge(ClientError),
    /// The broker does not know who sends it, or only someone newer.
    UnknownProducer(ClientError),
    Final(ClientError),
}

impl PartitionQueue {
    pub(super) fn new(
        client: Client,
        settings: Arc<ProducerSettings>,
        partition: TopicPartition,
        accumulator: Arc<Accumulator>,
        identities: Arc<Identities>,
    ) -> PartitionQueue {
        PartitionQueue {
            client,
            settings,
            partition,
            accumulator,
            identities,
            spent: None,
            leader: None,
            next_stamp: None,
            in_flight: VecDeque::new(),
            again: VecDeque::new(),
            recovering: false,
            batches: 0,
            last_failure: None,
        }
    }

    pub(super) async fn run(mut self) {
        let window = self.settings.window();
        let linger = self.settings.linger;
        loop {
            self.recovering &= !self.in_flight.is_empty();
            while self.has_room(window) {
                // Whoever failed pauses, and alone: answers are not kept waiting.
                let alone = self.in_flight.is_empty();
                let may_leave = |batch: &Batch| alone || (batch.failure.is_none() && !batch.alone);
                if !self.again.front().is_some_and(may_leave) {
                    break;
                }
                let Some(batch) = self.again.pop_front() else { break };
                self.resend(batch).await;
            }
            let new = self.again.is_empty() && self.has_room(window);
            if self.in_flight.is_empty() && !new {
                continue;
            }
            let overdue = self.next_overdue();
            tokio::select! {
                biased;
                answer = first(&mut self.in_flight), if !self.in_flight.is_empty() => self.accept(answer),
                mut batch = self.accumulator.next(linger), if new => {
                    batch.order = self.batches;
                    self.batches += 1;
                    self.send(batch).await;
                }
                () = tokio::time::sleep_until(overdue), if !self.in_flight.is_empty() => self.give_up_overdue(),
            }
        }
    }

    /// When the oldest batch has had its time.
    fn next_overdue(&self) -> Instant {
        let under_way = self.in_flight.iter().filter_map(|sent| sent.batch.as_ref());
        let oldest = under_way.chain(&self.again).map(|batch| batch.accepted).min();
        let oldest = oldest.or_else(|| self.accumulator.waiting().since);
        // Without one, whatever comes has more time than what is under way.
        oldest.unwrap_or_else(Instant::now) + self.settings.delivery_timeout
    }

    /// Gives up what has had its time, wherever it is.
    fn give_up_overdue(&mut self) {
        let Some(limit) = Instant::now().checked_sub(self.settings.delivery_timeout) else { return };
        let overdue = |batch: &Batch| batch.accepted <= limit;
        let mut given_up: Vec<Batch> = Vec::new();
        for sent in &mut self.in_flight {
            given_up.extend(sent.batch.take_if(|batch| overdue(batch)));
        }
        for batch in std::mem::take(&mut self.again) {
            if overdue(&batch) { given_up.push(batch) } else { self.again.push_back(batch) }
        }
        given_up.extend(self.accumulator.begun_until(limit));
        for batch in given_up {
            let error = self.timed_out();
            self.fail(batch, error);
        }
    }

    /// Whether another batch may leave.
    fn has_room(&self, window: usize) -> bool {
        let last = self.in_flight.back();
        !self.recovering
            && self.in_flight.len() < window
            && last.is_none_or(|last| last.batch.as_ref().is_some_and(|batch| !batch.alone))
    }

    /// Sends a batch that was sent before, after a pause if it is its own fault.
    async fn resend(&mut self, mut batch: Batch) {
        if let Some(error) = batch.failure.take() {
            let TopicPartition { topic, partition } = &self.partition;
            match self.leader.take() {
                Some(leader) => self.client.forget_leader(topic, *partition, leader),
                None => self.client.forget_topic(topic),
            }
            let mut retry = batch.retry.take().unwrap_or_else(|| self.client.retry_within(self.time_left(&batch)));
            // Under a new identity the broker could not tell that it has the batch already.
            let ambiguous = batch.uncertain && self.settings.idempotent() && !self.is_current(&batch);
            let paused = if ambiguous {
                Err(error)
            } else if std::mem::take(&mut batch.misnumbered) {
                retry.pause_anyway(error).await
            } else {
                let passes = error.retriable();
                retry.pause(error).await.map_err(|error| if passes { self.timed_out() } else { error })
            };
            if let Err(error) = paused {
                return self.fail(batch, error);
            }
            batch.retry = Some(retry);
        }
        self.send(batch).await;
    }

    /// How much longer a batch may be tried.
    fn time_left(&self, batch: &Batch) -> Duration {
        self.settings.delivery_timeout.saturating_sub(batch.accepted.elapsed())
    }

    /// Sends a batch, after all that are under way. One that waited too long behind others is given up: where a leader
    /// cannot be reached, each would otherwise take its time after the one before.
    async fn send(&mut self, mut batch: Batch) {
        let left = self.time_left(&batch);
        // Nothing is lost where it is cut off: the batch has its numbers only when nothing is waited for any more.
        let prepared = match left {
            Duration::ZERO => None,
            left => tokio::time::timeout(left, self.prepare(&mut batch)).await.ok(),
        };
        let Some(prepared) = prepared else {
            let error = self.timed_out();
            return self.fail(batch, error);
        };
        let started = match prepared {
            Ok(prepared) => prepared.start(&mut batch).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(answer) => self.in_flight.push_back(InFlight { batch: Some(batch), answer }),
            Err(error) => self.refused(batch, Refusal::Retriable(error)),
        }
    }

    fn timed_out(&self) -> ClientError {
        ClientError::DeliveryTimedOut {
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition,
            timeout: self.settings.delivery_timeout,
            last: self.last_failure.clone().map(Box::new),
        }
    }

    /// Finds the leader's connection, and gives the batch its numbers.
    async fn prepare(&mut self, batch: &mut Batch) -> Result<Prepared, ClientError> {
        let leader = self.client.leader(&self.partition.topic, self.partition.partition).await?;
        self.leader = Some(leader);
        let connection = self.client.broker(leader.node_id, Lane::General).await?;
        let highest = if leader.topic_id.is_zero() { FIRST_VERSION_WITH_TOPIC_IDS - 1 } else { i16::MAX };
        let timeout = self.client.settings().request_timeout;
        let (stamp, next_stamp) = self.stamp(batch).await?;
        let records = batch.bytes(stamp)?;
        // Nothing fails any more before the batch has its numbers: they are not another's then.
        self.next_stamp = next_stamp;
        let request = ProduceRequest {
            acks: self.settings.acks.code(),
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: StrBytes::from(&self.partition.topic),
                topic_id: leader.topic_id,
                partition_data: vec![PartitionProduceData { index: self.partition.partition, records: Some(records) }],
            }],
            ..Default::default()
        };
        Ok(Prepared { connection, request, highest, timeout })
    }

    /// The batch's stamp, the one it has or the next one, and the one that comes next then.
    async fn stamp(&mut self, batch: &Batch) -> Result<(Option<Stamp>, Option<Stamp>), ClientError> {
        if !self.settings.idempotent() || self.is_current(batch) {
            return Ok((batch.stamp, self.next_stamp));
        }
        let stamp = if let Some(stamp) = self.next_stamp {
            stamp
        } else {
            Stamp { identity: self.identities.after(self.spent, &self.client).await?, base_sequence: 0 }
        };
        Ok((Some(stamp), Some(stamp.after(batch.records()))))
    }

    /// Whether the batch was stamped with the identity in use.
    fn is_current(&self, batch: &Batch) -> bool {
        let of = |stamp: Stamp| stamp.identity;
        batch.stamp.is_some() && batch.stamp.map(of) == self.next_stamp.map(of)
    }

    /// Takes the answer to the oldest request.
    fn accept(&mut self, answer: Result<Option<ProduceResponse>, ClientError>) {
        let Some(mut batch) = self.in_flight.pop_front().and_then(|sent| sent.batch) else { return };
        let judged = answer.map_err(Refusal::Retriable).and_then(|response| {
            batch.uncertain = false;
            match response {
                Some(response) => self.judge(response),
                None => Ok(Written { base_offset: None, log_append_time: None }),
            }
        });
        match judged {
            Ok(written) => {
                self.last_failure = None;
                batch.settle(Ok(written));
            }
            Err(refusal) => self.refused(batch, refusal),
        }
    }

    fn judge(&self, response: ProduceResponse) -> Result<Written, Refusal> {
        let mut partitions = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
        let answer = partitions.find(|answer| answer.index == self.partition.partition);
        let answer = answer.ok_or(Refusal::Final(ClientError::Incomplete(ApiKey::Produce)))?;
        let Some(code) = failure(answer.error_code) else {
            return Ok(Written {
                base_offset: Some(answer.base_offset).filter(|&offset| offset >= 0),
                log_append_time: Some(answer.log_append_time_ms).filter(|&timestamp| timestamp >= 0),
            });
        };
        let error = self.error(code, &answer);
        Err(match code {
            // The broker has the batch from an earlier attempt.
            ErrorCode::DuplicateSequenceNumber => return Ok(Written { base_offset: None, log_append_time: None }),
            ErrorCode::MessageTooLarge => Refusal::TooLarge(error),
            ErrorCode::OutOfOrderSequenceNumber => Refusal::OutOfOrder(error),
            ErrorCode::InvalidProducerEpoch | ErrorCode::UnknownProducerId => Refusal::UnknownProducer(error),
            code if code.is_retriable() => Refusal::Retriable(error),
            _ => Refusal::Final(error),
        })
    }

    fn error(&self, code: ErrorCode, answer: &PartitionProduceResponse) -> ClientError {
        let record_error = answer.record_errors.iter().find_map(|error| {
            let message = error.batch_index_error_message.as_ref()?;
            Some(format!("record {} of the batch: {message}", error.batch_index))
        });
        ClientError::Partition {
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition,
            code,
            message: record_error.or_else(|| answer.error_message.as_ref().map(ToString::to_string)),
        }
    }

    /// Decides what becomes of a batch that was not written, as far as is known.
    fn refused(&mut self, mut batch: Batch, refusal: Refusal) {
        match refusal {
            Refusal::Retriable(error) => {
                self.last_failure = Some(error.clone());
                batch.failure = Some(error);
                self.queue_again(batch);
            }
            // Its forerunner was not written; if that is not why, the broker says so again.
            Refusal::OutOfOrder(_) if self.recovering => self.queue_again(batch),
            Refusal::TooLarge(error) if batch.records() > 1 => match batch.split(self.settings.compression) {
                Ok((first, second)) => {
                    self.queue_again(first);
                    self.queue_again(second);
                }
                Err(batch) => self.fail(*batch, error),
            },
            // The broker answered, so it does not have the batch: nothing is written twice under a new identity.
            Refusal::OutOfOrder(error) | Refusal::UnknownProducer(error) => {
                self.forget_identity();
                self.last_failure = Some(error.clone());
                batch.failure = Some(error);
                batch.misnumbered = true;
                self.queue_again(batch);
            }
            Refusal::TooLarge(error) | Refusal::Final(error) => self.fail(batch, error),
        }
    }

    fn queue_again(&mut self, batch: Batch) {
        self.recovering = true;
        let place = self.again.partition_point(|other| other.place() < batch.place());
        self.again.insert(place, batch);
    }

    /// Gives a batch up. Its sequence numbers are free if nobody may have used them, nor those behind them.
    fn fail(&mut self, batch: Batch, error: ClientError) {
        let last = self.in_flight.is_empty() && self.again.is_empty();
        if self.is_current(&batch) {
            if last && !batch.uncertain {
                self.next_stamp = batch.stamp;
            } else {
                self.recovering = true;
                self.forget_identity();
            }
        }
        batch.settle(Err(error));
    }

    fn forget_identity(&mut self) {
        self.spent = self.next_stamp.take().map(|stamp| stamp.identity).or(self.spent);
    }
}

/// The answer to the oldest request, of which there must be one. Nothing is lost if the future is dropped.
async fn first(in_flight: &mut VecDeque<InFlight>) -> Result<Option<ProduceResponse>, ClientError> {
    match in_flight.front_mut() {
        Some(oldest) => oldest.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Drop for PartitionQueue {
    /// However it ended, nobody waits for what it would have sent.
    fn drop(&mut self) {
        self.accumulator.close();
    }
}
