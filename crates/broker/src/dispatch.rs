//! From a frame to the handler of its API, and from the handler's answer to a frame.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::{
    ApiKey, Decoder, Encoder, ErrorCodes, FramePart, Message, RequestHeader, RequestMessage, ResponseHeader, StrBytes,
};

use crate::api;
use crate::broker::Broker;
use crate::connection::{CloseReason, LARGE_ANSWER, Part, Reply, Started};
use crate::context::{ConnectionContext, RequestContext};

/// The APIs this broker serves to clients; what is not here is not advertised.
pub(crate) const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::DeleteGroups,
    ApiKey::OffsetDelete,
    ApiKey::AlterReplicaLogDirs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTopicPartitions,
    ApiKey::AlterConfigs,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::ListConfigResources,
];

/// A client id that is a slice of a larger frame than this is copied out of it, where the frame is not to be kept.
const SMALL_FRAME: usize = 4 << 10;

/// Whether a request needs its frame while it waits. These wait for what other clients do, for as long as a client says:
/// they copy what they keep, so that the bytes they came in are there for whoever they wait for.
fn keeps_frame(api_key: ApiKey) -> bool {
    !matches!(api_key, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// Begins a request. What cannot be read, or is not served, closes the connection, as Kafka does; only ApiVersions is
/// answered in a version both sides know.
pub(crate) fn start(
    broker: &Arc<Broker>,
    connection: &Arc<ConnectionContext>,
    frame: Bytes,
) -> Result<Started, CloseReason> {
    let key = match frame.first_chunk::<2>() {
        Some(key) => i16::from_be_bytes(*key),
        None => return Err(CloseReason::Malformed("the frame ends before the api key".to_owned())),
    };
    let api_key = ApiKey::from_code(key).filter(|key| SERVED.contains(key)).ok_or(CloseReason::UnknownApi(key))?;
    let frame_bytes = frame.len();
    let mut input = Decoder::new(frame);
    let malformed = |error: ottla_protocol::DecodeError| CloseReason::Malformed(error.to_string());
    let (_, header) = RequestHeader::decode_any(&mut input).map_err(malformed)?;
    let version = header.request_api_version;
    let mut client_id = header.client_id;
    if !keeps_frame(api_key) && frame_bytes > SMALL_FRAME {
        client_id = client_id.map(|id| StrBytes::from(id.to_string()));
    }
    let context = Arc::new(RequestContext {
        connection: Arc::clone(connection),
        api_key,
        api_version: version,
        correlation_id: header.correlation_id,
        client_id,
        frame_bytes,
    });
    if !api_key.valid_versions().contains(&version) {
        if api_key == ApiKey::ApiVersions {
            let reply = api::api_versions::unsupported(broker, &context);
            return Ok(Started { reply: Box::pin(std::future::ready(reply)), pipelined: true, keeps_frame: true });
        }
        return Err(CloseReason::UnsupportedVersion { api: api_key.name(), version });
    }
    tracing::trace!(api = api_key.name(), version, client = context.client_id(), peer = %connection.peer, "request");
    begin(broker, context, input)
}

macro_rules! serve {
    ($broker:expr, $context:expr, $input:expr, $api:ident) => {
        answered($broker, $context, $input, api::$api::handle)
    };
}

macro_rules! ask {
    ($broker:expr, $context:expr, $input:expr, $api:ident) => {
        asked($broker, $context, $input, api::$api::handle)
    };
}

fn begin(broker: &Arc<Broker>, context: Arc<RequestContext>, input: Decoder) -> Result<Started, CloseReason> {
    match context.api_key {
        ApiKey::Produce => replied(broker, context, input, true, api::produce::handle),
        ApiKey::Fetch => replied(broker, context, input, false, api::fetch::handle),
        ApiKey::ListOffsets => serve!(broker, context, input, list_offsets),
        ApiKey::Metadata => ask!(broker, context, input, metadata),
        ApiKey::OffsetCommit => pipelined(serve!(broker, context, input, offset_commit)),
        ApiKey::OffsetFetch => ask!(broker, context, input, offset_fetch),
        ApiKey::FindCoordinator => serve!(broker, context, input, find_coordinator),
        ApiKey::JoinGroup => serve!(broker, context, input, join_group),
        ApiKey::Heartbeat => serve!(broker, context, input, heartbeat),
        ApiKey::LeaveGroup => serve!(broker, context, input, leave_group),
        ApiKey::SyncGroup => serve!(broker, context, input, sync_group),
        ApiKey::DescribeGroups => ask!(broker, context, input, describe_groups),
        ApiKey::ListGroups => ask!(broker, context, input, list_groups),
        ApiKey::ApiVersions => serve!(broker, context, input, api_versions),
        ApiKey::CreateTopics => serve!(broker, context, input, create_topics),
        ApiKey::DeleteTopics => serve!(broker, context, input, delete_topics),
        ApiKey::DeleteRecords => serve!(broker, context, input, delete_records),
        ApiKey::InitProducerId => serve!(broker, context, input, init_producer_id),
        ApiKey::OffsetForLeaderEpoch => serve!(broker, context, input, offset_for_leader_epoch),
        ApiKey::DescribeConfigs => ask!(broker, context, input, describe_configs),
        ApiKey::DeleteGroups => serve!(broker, context, input, delete_groups),
        ApiKey::OffsetDelete => serve!(broker, context, input, offset_delete),
        ApiKey::AlterReplicaLogDirs => serve!(broker, context, input, alter_replica_log_dirs),
        ApiKey::DescribeLogDirs => ask!(broker, context, input, describe_log_dirs),
        ApiKey::CreatePartitions => serve!(broker, context, input, create_partitions),
        ApiKey::AlterConfigs => serve!(broker, context, input, alter_configs),
        ApiKey::IncrementalAlterConfigs => serve!(broker, context, input, incremental_alter_configs),
        ApiKey::ListConfigResources => ask!(broker, context, input, list_config_resources),
        ApiKey::DescribeCluster => serve!(broker, context, input, describe_cluster),
        ApiKey::DescribeProducers => ask!(broker, context, input, describe_producers),
        ApiKey::DescribeTopicPartitions => ask!(broker, context, input, describe_topic_partitions),
        other => Err(CloseReason::UnknownApi(other.code())),
    }
}

/// Lets the next request of the connection begin while this one waits.
fn pipelined(started: Result<Started, CloseReason>) -> Result<Started, CloseReason> {
    started.map(|started| Started { pipelined: true, ..started })
}

/// An API whose handler always answers.
fn answered<R, H, F>(
    broker: &Arc<Broker>,
    context: Arc<RequestContext>,
    input: Decoder,
    handler: H,
) -> Result<Started, CloseReason>
where
    R: RequestMessage + Send + 'static,
    R::Response: Send,
    H: FnOnce(Arc<Broker>, Arc<RequestContext>, R) -> F + Send + 'static,
    F: Future<Output = R::Response> + Send + 'static,
{
    let request = decode::<R>(&context, input)?;
    let broker = Arc::clone(broker);
    let keeps_frame = keeps_frame(context.api_key);
    let reply = async move {
        let response = handler(broker, Arc::clone(&context), request).await;
        encode(&context, &response)
    };
    Ok(Started { reply: Box::pin(reply), pipelined: false, keeps_frame })
}

/// An API that only asks, whose answer may be much larger than the question: a large one takes bytes of a pool until it is
/// sent. While they are not there it is not kept, but made anew when they are.
fn asked<R, H, F>(
    broker: &Arc<Broker>,
    context: Arc<RequestContext>,
    input: Decoder,
    handler: H,
) -> Result<Started, CloseReason>
where
    R: RequestMessage + Send + 'static,
    R::Response: Send,
    H: Fn(Arc<Broker>, Arc<RequestContext>, R) -> F + Send + Sync + 'static,
    F: Future<Output = R::Response> + Send + 'static,
{
    let mut request = decode::<R>(&context, input.clone())?;
    let broker = Arc::clone(broker);
    let reply = async move {
        let mut held = None;
        loop {
            let response = handler(Arc::clone(&broker), Arc::clone(&context), request).await;
            let parts = match encode_frame(&context, &response, context.api_version, Vec::new()) {
                Ok(parts) => parts,
                Err(reason) => return Reply::Close(reason),
            };
            let length: usize = parts.iter().map(Part::len).sum();
            if length > LARGE_ANSWER && held.is_none() {
                held = broker.budgets.answers.try_reserve(length);
            }
            if length <= LARGE_ANSWER || held.is_some() {
                count_errors(&context, &response);
                return if length <= LARGE_ANSWER { Reply::Frame(parts) } else { Reply::Held(parts, held) };
            }
            drop((response, parts));
            held = Some(broker.budgets.answers.reserve(length).await);
            request = match decode::<R>(&context, input.clone()) {
                Ok(request) => request,
                Err(reason) => return Reply::Close(reason),
            };
        }
    };
    Ok(Started { reply: Box::pin(reply), pipelined: false, keeps_frame: true })
}

/// An API whose handler makes the reply itself.
fn replied<R, H, F>(
    broker: &Arc<Broker>,
    context: Arc<RequestContext>,
    input: Decoder,
    pipelined: bool,
    handler: H,
) -> Result<Started, CloseReason>
where
    R: RequestMessage + Send + 'static,
    H: FnOnce(Arc<Broker>, Arc<RequestContext>, R) -> F,
    F: Future<Output = Reply> + Send + 'static,
{
    let request = decode::<R>(&context, input)?;
    let keeps_frame = keeps_frame(context.api_key);
    let reply = handler(Arc::clone(broker), context, request);
    Ok(Started { reply: Box::pin(reply), pipelined, keeps_frame })
}

fn decode<R: RequestMessage>(context: &RequestContext, mut input: Decoder) -> Result<R, CloseReason> {
    R::decode(&mut input, context.api_version).map_err(|error| CloseReason::Malformed(error.to_string()))
}

/// A response frame in the version of its request.
pub(crate) fn encode<M: Message + ErrorCodes>(context: &RequestContext, response: &M) -> Reply {
    encode_as(context, response, context.api_version)
}

/// A response frame in another version than its request's: ApiVersions answers an unknown version in version 0.
pub(crate) fn encode_as<M: Message + ErrorCodes>(context: &RequestContext, response: &M, version: i16) -> Reply {
    match encode_parts(context, response, version, Vec::new()) {
        Ok(parts) => Reply::Frame(parts),
        Err(reason) => Reply::Close(reason),
    }
}

/// The parts of a response frame. `elsewhere` are the records that the response only has the length of, in its order.
pub(crate) fn encode_parts<M: Message + ErrorCodes>(
    context: &RequestContext,
    response: &M,
    version: i16,
    elsewhere: Vec<Part>,
) -> Result<Vec<Part>, CloseReason> {
    count_errors(context, response);
    encode_frame(context, response, version, elsewhere)
}

fn count_errors(context: &RequestContext, response: &impl ErrorCodes) {
    context.connection.metrics.requests.count_errors(context.api_key, response);
}

fn encode_frame<M: Message>(
    context: &RequestContext,
    response: &M,
    version: i16,
    elsewhere: Vec<Part>,
) -> Result<Vec<Part>, CloseReason> {
    let mut output = Encoder::framed();
    let header = ResponseHeader { correlation_id: context.correlation_id };
    let encoded = header
        .encode(&mut output, context.api_key.response_header_version(version))
        .and_then(|()| response.encode(&mut output, version));
    let mut parts = Vec::with_capacity(output.part_count());
    let mut elsewhere = elsewhere.into_iter();
    let take = |part| {
        parts.push(match part {
            FramePart::Bytes(bytes) => Part::Bytes(bytes),
            FramePart::Elsewhere(length) => {
                let part = elsewhere.next().expect("invariant: a response's parts are handed over with it");
                assert_eq!(part.len(), length, "invariant: a part is as long as the response says");
                part
            }
        });
    };
    encoded.and_then(|()| output.finish_into(take)).map_err(|error| {
        tracing::error!(api = context.api_key.name(), version, %error, "a response cannot be encoded");
        CloseReason::Unencodable(error.to_string())
    })?;
    assert!(elsewhere.next().is_none(), "invariant: every part is in the response");
    Ok(parts)
}
