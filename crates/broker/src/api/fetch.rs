//! Fetch: reads record batches; parks until there is enough to answer, or the client's patience ends.
//!
//! A parked fetch is woken by the high watermark of the partitions it asks for. Each wake-up looks afresh, so an answer
//! is always of one moment per partition. Looking only finds where the records are: what is in memory is sent from there,
//! what is in files is sent from the system's cache.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::{CommittedRead, LogRead, ReadChunk, ReadError};
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ottla_protocol::{FetchedRecords, RecordsPart, StrBytes};
use ottla_types::{ErrorCode, TopicId};
use tokio::time::Instant;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::budget::Reserved;
use crate::connection::{Part, Reply};
use crate::context::RequestContext;
use crate::dispatch;
use crate::fetch_session::{Answered, FetchContext, FetchPartition, SessionRequest, Told, TopicKey};
use crate::partition::{FetchWait, Isolation, Partition};

/// From this version on topics are named by id (KIP-516).
const FIRST_TOPIC_ID_VERSION: i16 = 13;
/// A client that knows no leader epoch sends this.
const NO_LEADER_EPOCH: i32 = -1;

/// An answer may have this much (and always one batch) when the pool has nothing left.
const UNRESERVED_BYTES: usize = 64 << 10;

/// What is looked through at once without giving others their turn.
const MUCH_LOOKED_THROUGH: usize = 256 << 10;

/// One partition, read.
struct Read {
    wanted: FetchPartition,
    data: PartitionData,
    told: Told,
    /// The fetch is answered at once: something is wrong, or the client must act.
    urgent: bool,
    /// Where the records are, until they are handed over.
    found: Option<(Arc<Partition>, LogRead)>,
    /// The ranges of files among the records, in their order.
    files: Vec<Part>,
    bytes: usize,
}

/// What bounds one answer.
struct Limits {
    max_bytes: usize,
    min_bytes: usize,
    isolation: Isolation,
    /// Topics the client may not read.
    denied: Vec<TopicKey>,
}

/// A fetch holds the connection until it is answered, as in Kafka: with another one begun meanwhile, a client that never
/// reads could have any number of large answers made.
pub(crate) async fn handle(broker: Arc<Broker>, context: Arc<RequestContext>, request: FetchRequest) -> Reply {
    let Answer { response, files, held } = answer(&broker, &context, request).await;
    match dispatch::encode_parts(&context, &response, context.api_version, files) {
        Ok(parts) => Reply::Held(parts, held),
        Err(reason) => Reply::Close(reason),
    }
}

struct Answer {
    response: FetchResponse,
    /// The records of the response that are in files, in its order.
    files: Vec<Part>,
    held: Option<Reserved>,
}

async fn answer(broker: &Broker, context: &RequestContext, request: FetchRequest) -> Answer {
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // Followers are brokers; a client that calls itself one must not move the high watermark.
        return failed(ErrorCode::ClusterAuthorizationFailed);
    }
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let limits = Limits {
        max_bytes: request.max_bytes.clamp(0, broker.config().fetch.max_bytes) as usize,
        min_bytes: request.min_bytes.max(0) as usize,
        isolation: Isolation::of(request.isolation_level),
        denied: Vec::new(),
    };
    let session = match begin(broker, context, request) {
        Ok(session) => session,
        Err(error) => return failed(error),
    };
    let limits = Limits { denied: denied(broker, context, &session), ..limits };
    let wait = Arc::new(FetchWait::default());
    let registration = Registration::new(broker, &session, &limits.denied, wait);
    registration.count(broker);
    let (mut reads, held) = loop {
        let (reads, held) = read_all(broker, &session, &limits).await;
        let bytes: usize = reads.iter().map(|read| read.bytes).sum();
        let answer_now = reads.is_empty() || bytes >= limits.min_bytes || reads.iter().any(|read| read.urgent);
        if answer_now || Instant::now() >= deadline || broker.is_shutting_down() {
            break (reads, held);
        }
        // The next pass holds the bytes anew.
        drop((reads, held));
        let _waiting = broker.metrics.waiting_fetches.enter();
        tokio::select! {
            () = registration.wait.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = broker.shutting_down() => {}
        }
    };
    drop(registration);
    for read in &mut reads {
        hand_over(broker, read);
    }
    let (response, files) = respond(&session, reads);
    Answer { response, files, held }
}

/// Topics of the session that the client may not read; a topic id that nobody has is told as such.
fn denied(broker: &Broker, context: &RequestContext, session: &FetchContext) -> Vec<TopicKey> {
    let mut denied: Vec<TopicKey> = Vec::new();
    if broker.authorizer.is_none() {
        return denied;
    }
    for wanted in &session.partitions {
        let allowed = match &wanted.topic {
            TopicKey::Name(name) => broker.allows(context, Operation::Read, Resource::Topic(name)),
            TopicKey::Id(id) => broker
                .replicas
                .topic_by_id(*id)
                .is_none_or(|topic| broker.allows(context, Operation::Read, Resource::Topic(topic.name()))),
        };
        if !allowed && !denied.contains(&wanted.topic) {
            denied.push(wanted.topic.clone());
        }
    }
    denied
}

fn failed(error: ErrorCode) -> Answer {
    let response = FetchResponse { error_code: error.code(), ..Default::default() };
    Answer { response, files: Vec::new(), held: None }
}

fn begin(broker: &Broker, context: &RequestContext, request: FetchRequest) -> Result<FetchContext, ErrorCode> {
    let uses_topic_ids = context.api_version >= FIRST_TOPIC_ID_VERSION;
    // Copied: a session outlives the frame, and a name would keep all of it in memory.
    let name = |name: StrBytes| TopicKey::Name(StrBytes::from(name.to_string()));
    let key = |topic: StrBytes, id: TopicId| if uses_topic_ids { TopicKey::Id(id) } else { name(topic) };
    let mut wanted = Vec::new();
    for topic in request.topics {
        let topic_key = key(topic.topic, topic.topic_id);
        wanted.extend(topic.partitions.into_iter().map(|partition| FetchPartition {
            topic: topic_key.clone(),
            partition: partition.partition,
            fetch_offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        }));
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        let topic_key = key(topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.into_iter().map(|partition| (topic_key.clone(), partition)));
    }
    let new_id = || ottla_rt::random_i32(&*broker.world.entropy).max(1);
    let now_ms = broker.world.clock.monotonic().as_millis() as u64;
    let session =
        SessionRequest { session_id: request.session_id, session_epoch: request.session_epoch, uses_topic_ids };
    broker.fetch_sessions.begin(now_ms, new_id, session, wanted, &forgotten)
}

/// A fetch waits with every partition it asks for, until this is dropped.
struct Registration {
    wait: Arc<FetchWait>,
    partitions: Vec<Arc<Partition>>,
}

impl Registration {
    fn new(broker: &Broker, session: &FetchContext, denied: &[TopicKey], wait: Arc<FetchWait>) -> Registration {
        let allowed = session.partitions.iter().filter(|wanted| !denied.contains(&wanted.topic));
        let partitions: Vec<_> = allowed.filter_map(|wanted| find(broker, wanted).ok()).collect();
        for partition in &partitions {
            partition.register(&wait);
        }
        Registration { wait, partitions }
    }

    /// As in Kafka a fetch counts once with each partition, however often it is woken.
    fn count(&self, broker: &Broker) {
        for partition in &self.partitions {
            partition.metrics().fetched();
            broker.metrics.topics.here().fetched();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.unregister(&self.wait);
        }
    }
}

fn find(broker: &Broker, wanted: &FetchPartition) -> Result<Arc<Partition>, ErrorCode> {
    let (topic, unknown) = match &wanted.topic {
        TopicKey::Name(name) => (broker.replicas.topic(name), ErrorCode::UnknownTopicOrPartition),
        TopicKey::Id(id) => (broker.replicas.topic_by_id(*id), ErrorCode::UnknownTopicId),
    };
    let topic = topic.ok_or(unknown)?;
    topic.partition(wanted.partition).cloned().ok_or(ErrorCode::UnknownTopicOrPartition)
}

async fn read_all(broker: &Broker, session: &FetchContext, limits: &Limits) -> (Vec<Read>, Option<Reserved>) {
    let mut held = None;
    let mut reads = Vec::with_capacity(session.partitions.len());
    let mut remaining = limits.max_bytes;
    let mut empty = true;
    for wanted in &session.partitions {
        let read = read(broker, wanted, limits, remaining, empty, &mut held).await;
        remaining = remaining.saturating_sub(read.bytes);
        empty &= read.bytes == 0;
        reads.push(read);
    }
    (reads, held)
}

async fn read(
    broker: &Broker,
    wanted: &FetchPartition,
    limits: &Limits,
    remaining: usize,
    first: bool,
    held: &mut Option<Reserved>,
) -> Read {
    match try_read(broker, wanted, limits, remaining, first, held).await {
        Ok(read) => read,
        Err(error) => refused(wanted.clone(), error),
    }
}

fn refused(wanted: FetchPartition, error: ErrorCode) -> Read {
    let data = PartitionData {
        partition_index: wanted.partition,
        error_code: error.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        // Kafka's two ways of saying it: no list for a failed read, an empty one for what is not here.
        aborted_transactions: matches!(error, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
            .then(Vec::new),
        records: Some(FetchedRecords::default()),
        ..Default::default()
    };
    let told = Told { high_watermark: -1, log_start_offset: -1 };
    Read { wanted, data, told, urgent: true, found: None, files: Vec::new(), bytes: 0 }
}

fn told(partition: &Partition) -> Told {
    Told { high_watermark: partition.high_watermark(), log_start_offset: partition.log().log_start_offset() }
}

async fn try_read(
    broker: &Broker,
    wanted: &FetchPartition,
    limits: &Limits,
    remaining: usize,
    first: bool,
    held: &mut Option<Reserved>,
) -> Result<Read, ErrorCode> {
    if !limits.denied.is_empty() && limits.denied.contains(&wanted.topic) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let partition = find(broker, wanted)?;
    if let Some(error) = partition.failed() {
        return Err(error);
    }
    check_leader_epoch(&partition, wanted.current_leader_epoch)?;
    let told = told(&partition);
    let last_stable_offset = partition.last_stable_offset().min(told.high_watermark);
    let read_committed = limits.isolation == Isolation::ReadCommitted;
    let end_offset = if read_committed { last_stable_offset } else { told.high_watermark };
    let mut data = PartitionData {
        partition_index: wanted.partition,
        high_watermark: told.high_watermark,
        last_stable_offset,
        log_start_offset: told.log_start_offset,
        aborted_transactions: read_committed.then(Vec::new),
        records: Some(FetchedRecords::default()),
        ..Default::default()
    };
    if let Some(diverging) = diverging(&partition, wanted) {
        data.diverging_epoch = diverging?;
        return Ok(Read { wanted: wanted.clone(), data, told, urgent: true, found: None, files: Vec::new(), bytes: 0 });
    }
    let log = partition.log();
    if wanted.fetch_offset < told.log_start_offset || wanted.fetch_offset > log.log_end_offset() {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let max_bytes = remaining.min(wanted.max_bytes.max(0) as usize);
    if wanted.fetch_offset >= end_offset || (max_bytes == 0 && !first) {
        return Ok(Read {
            wanted: wanted.clone(),
            data,
            told,
            urgent: false,
            found: None,
            files: Vec::new(),
            bytes: 0,
        });
    }
    // With the pool empty an answer gets a little all the same, or clients that never read would stop those that do.
    let reserved = broker.budgets.fetch.try_reserve(max_bytes);
    let max_bytes = match reserved {
        Some(_) => max_bytes,
        None if first => max_bytes.min(UNRESERVED_BYTES),
        None => {
            return Ok(Read {
                wanted: wanted.clone(),
                data,
                told,
                urgent: false,
                found: None,
                files: Vec::new(),
                bytes: 0,
            });
        }
    };
    let wanted_range = Range { offset: wanted.fetch_offset, max_bytes, whole_batch: first, end_offset };
    let CommittedRead { read: found, aborted } = locate(broker, &partition, wanted_range, limits.isolation).await?;
    let bytes = found.bytes;
    if read_committed {
        data.aborted_transactions = Some(
            aborted
                .iter()
                .map(|aborted| AbortedTransaction {
                    producer_id: aborted.producer_id,
                    first_offset: aborted.first_offset,
                    ..Default::default()
                })
                .collect(),
        );
    }
    if let Some(mut reserved) = reserved {
        reserved.shrink_to(bytes);
        reserved.add_to(held);
    }
    let found = Some((partition, found));
    Ok(Read { wanted: wanted.clone(), data, told, urgent: false, found, files: Vec::new(), bytes })
}

/// Which batches of a partition a fetch asks for.
#[derive(Clone, Copy)]
struct Range {
    offset: i64,
    max_bytes: usize,
    whole_batch: bool,
    end_offset: i64,
}

/// Finds batches; off this task where the disk may be needed, or much has to be looked through. What is in files is in the
/// system's cache afterwards, so that sending it does not wait for the disk.
async fn locate(
    broker: &Broker,
    partition: &Arc<Partition>,
    range: Range,
    isolation: Isolation,
) -> Result<CommittedRead, ErrorCode> {
    let Range { offset, max_bytes, whole_batch, end_offset } = range;
    let log = partition.log();
    let resident = match isolation {
        Isolation::ReadUncommitted => log
            .read_resident(offset, max_bytes, whole_batch, end_offset)
            .map(|read| CommittedRead { read, aborted: Vec::new() }),
        Isolation::ReadCommitted => log.read_committed_resident(offset, max_bytes, whole_batch, end_offset),
    };
    let read = move |partition: &Partition| match isolation {
        Isolation::ReadUncommitted => {
            let read = partition.log().read(offset, max_bytes, whole_batch, end_offset)?;
            Ok(CommittedRead { read, aborted: Vec::new() })
        }
        Isolation::ReadCommitted => partition.log().read_committed(offset, max_bytes, whole_batch, end_offset),
    };
    let read = if let Some(found) = resident {
        if !whole_batch && found.read.bytes >= MUCH_LOOKED_THROUGH {
            // Others have their turn between partitions that have much.
            tokio::task::yield_now().await;
        }
        Ok(found)
    } else {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let read_partition = Arc::clone(partition);
        // The receiver waits below, unless the client has gone.
        let work = move || {
            let found = read(&read_partition);
            let resident = found.as_ref().map_or(Ok(()), |found| make_resident(&found.read.chunks));
            drop(sender.send((found, resident)));
        };
        broker.world.spawn.blocking(Box::new(work)).await;
        let (found, resident) = receiver.await.map_err(|_| ErrorCode::UnknownServerError)?;
        if let Err(error) = resident {
            return Err(storage_failed(broker, partition, &error));
        }
        found
    };
    read.map_err(|error| match error {
        ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Deleted(_) => ErrorCode::UnknownTopicOrPartition,
        ReadError::DirectoryOffline(_) | ReadError::DamagedTransactionIndex { .. } => {
            storage_failed(broker, partition, &error)
        }
        // The log has said where. This code, and not the one above, has consumers tell their application.
        ReadError::Damaged { .. } => {
            count_failure(broker, partition);
            ErrorCode::CorruptMessage
        }
    })
}

fn make_resident(chunks: &[ReadChunk]) -> io::Result<()> {
    chunks.iter().try_for_each(|chunk| match chunk {
        ReadChunk::Memory(_) => Ok(()),
        ReadChunk::File { file, position, len } => file.make_resident(*position, *len as usize),
    })
}

fn storage_failed(broker: &Broker, partition: &Partition, error: &dyn std::error::Error) -> ErrorCode {
    tracing::error!(partition = %partition.topic_partition(), %error, "a read failed");
    count_failure(broker, partition);
    ErrorCode::KafkaStorageError
}

fn count_failure(broker: &Broker, partition: &Partition) {
    partition.metrics().fetch_failed();
    broker.metrics.topics.here().fetch_failed();
}

fn hand_over(broker: &Broker, read: &mut Read) {
    let Some((partition, found)) = read.found.take() else { return };
    partition.metrics().sent(found.bytes);
    broker.metrics.topics.here().sent(found.bytes);
    let mut parts = Vec::with_capacity(found.chunks.len());
    for chunk in found.chunks {
        match chunk {
            ReadChunk::Memory(bytes) => parts.push(RecordsPart::Bytes(bytes)),
            ReadChunk::File { file, position, len } => {
                parts.push(RecordsPart::Elsewhere(len as usize));
                read.files.push(Part::File { file, position, length: len as usize });
            }
        }
    }
    read.data.records = Some(FetchedRecords::from_parts(parts));
}

/// Checks the epoch a client believes in (KIP-320); -1 asks for no check.
pub(crate) fn check_leader_epoch(partition: &Partition, current_leader_epoch: i32) -> Result<(), ErrorCode> {
    let ours = partition.leader_epoch().0;
    match current_leader_epoch {
        theirs if theirs == NO_LEADER_EPOCH || theirs == ours => Ok(()),
        theirs if theirs < ours => Err(ErrorCode::FencedLeaderEpoch),
        _ => Err(ErrorCode::UnknownLeaderEpoch),
    }
}

/// Where a client's log and ours part ways, if they do (KIP-595).
fn diverging(partition: &Partition, wanted: &FetchPartition) -> Option<Result<EpochEndOffset, ErrorCode>> {
    if wanted.last_fetched_epoch < 0 {
        return None;
    }
    match partition.log().end_offset_for_epoch(wanted.last_fetched_epoch) {
        None => Some(Err(ErrorCode::OffsetOutOfRange)),
        Some((epoch, end_offset)) if epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset => {
            Some(Ok(EpochEndOffset { epoch, end_offset, ..Default::default() }))
        }
        Some(_) => None,
    }
}

fn respond(session: &FetchContext, reads: Vec<Read>) -> (FetchResponse, Vec<Part>) {
    let answers: Vec<_> = reads
        .iter()
        .map(|read| {
            let answered = Answered {
                told: read.told,
                has_records: read.bytes > 0,
                has_error: read.data.error_code != 0 || read.data.diverging_epoch.epoch >= 0,
            };
            (read.wanted.topic.clone(), read.wanted.partition, answered)
        })
        .collect();
    let news = session.finish(&answers);
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    let mut files = Vec::new();
    let mut last: Option<TopicKey> = None;
    for (read, news) in reads.into_iter().zip(news) {
        if !news {
            continue;
        }
        if last.as_ref() != Some(&read.wanted.topic) {
            let (topic, topic_id) = match &read.wanted.topic {
                TopicKey::Name(name) => (name.clone(), TopicId::ZERO),
                TopicKey::Id(id) => (StrBytes::default(), *id),
            };
            responses.push(FetchableTopicResponse { topic, topic_id, ..Default::default() });
            last = Some(read.wanted.topic);
        }
        if let Some(response) = responses.last_mut() {
            response.partitions.push(read.data);
            files.extend(read.files);
        }
    }
    (FetchResponse { session_id: session.session_id(), responses, ..Default::default() }, files)
}
