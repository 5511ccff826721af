//! One connection to a broker: requests are pipelined, responses matched by correlation id.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::io::IoSlice;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::api_versions_response::ApiVersionsResponse;
use ottla_protocol::messages::sasl_authenticate_request::SaslAuthenticateRequest;
use ottla_protocol::messages::sasl_handshake_request::SaslHandshakeRequest;
use ottla_protocol::{ApiKey, Decoder, Encoder, Message, RequestHeader, RequestMessage, ResponseHeader, StrBytes};
use ottla_rt::{Net, ReadHalf, WriteHalf};
use ottla_types::ErrorCode;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::{ConnectionError, failure};
use crate::security::{Plaintext, SaslFault, SaslMechanism, Transport};

/// The longest response frame that is believed.
const MAX_FRAME: i32 = 256 << 20;
/// Requests written but not yet taken by the writer.
const QUEUED_REQUESTS: usize = 32;
/// Memory is made ready this far ahead of the bytes that came.
const READ_AHEAD: usize = 64 << 10;
/// Messages of a conversation that says who we are; no mechanism needs more than a few.
const SASL_MESSAGES: usize = 16;
/// Pieces of requests given to the system in one call.
const CHUNKS_AT_ONCE: usize = 32;

/// A connection. Dropping it closes it; requests under way then fail.
#[derive(Debug)]
pub struct Connection {
    address: String,
    client_id: StrBytes,
    timeout: Duration,
    versions: BTreeMap<i16, RangeInclusive<i16>>,
    correlation_id: AtomicI32,
    requests: mpsc::Sender<QueuedRequest>,
    waiting: Arc<Mutex<Waiting>>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
    /// When another connection has to take its place, because the broker ends what was authenticated before.
    session_end: Option<Instant>,
}

/// How a connection is made.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionSettings<'a> {
    pub client_id: &'a str,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How long it may take to get the stream.
    pub setup_timeout: Duration,
    pub transport: &'a dyn Transport,
    pub sasl_mechanism: Option<&'a dyn SaslMechanism>,
}

/// A request for the writer.
#[derive(Debug)]
struct QueuedRequest {
    frame: Vec<Bytes>,
    /// Who waits until the system has all of it, since no answer will say so.
    written: Option<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct Waiting {
    by_correlation_id: HashMap<i32, oneshot::Sender<Bytes>>,
    /// Why no response will come any more.
    lost: Option<String>,
}

impl Connection {
    /// Connects and asks which versions the broker serves.
    pub async fn connect(
        net: &dyn Net,
        host: &str,
        port: u16,
        client_id: &str,
        timeout: Duration,
    ) -> Result<Connection, ConnectionError> {
        let settings = ConnectionSettings {
            client_id,
            request_timeout: timeout,
            setup_timeout: timeout,
            transport: &Plaintext,
            sasl_mechanism: None,
        };
        Connection::connect_with(net, host, port, settings).await
    }

    /// The same, encrypted or authenticated as the settings have it.
    pub async fn connect_with(
        net: &dyn Net,
        host: &str,
        port: u16,
        settings: ConnectionSettings<'_>,
    ) -> Result<Connection, ConnectionError> {
        let ConnectionSettings { client_id, request_timeout: timeout, setup_timeout, transport, sasl_mechanism } =
            settings;
        let address = format!("{host}:{port}");
        let stream = match tokio::time::timeout(setup_timeout, transport.connect(net, host, port)).await {
            Err(_) => return Err(ConnectionError::TimedOut { address, timeout: setup_timeout }),
            Ok(Err(source)) => {
                return Err(ConnectionError::Connect { host: host.to_owned(), port, source: Arc::new(source) });
            }
            Ok(Ok(stream)) => stream,
        };
        let (read_half, write_half) = stream.split();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (requests, queue) = mpsc::channel(QUEUED_REQUESTS);
        let writer = tokio::spawn(write_requests(write_half, queue, Arc::clone(&waiting)));
        let reader = tokio::spawn(read_responses(read_half, Arc::clone(&waiting)));
        let mut connection = Connection {
            address,
            client_id: StrBytes::from(client_id.to_owned()),
            timeout,
            versions: BTreeMap::new(),
            correlation_id: AtomicI32::new(0),
            requests,
            waiting,
            reader,
            writer,
            session_end: None,
        };
        connection.versions = connection.negotiate().await?;
        if let Some(mechanism) = sasl_mechanism {
            connection.session_end = connection.authenticate(mechanism, host).await?;
        }
        Ok(connection)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// How long one request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The versions of an API the broker serves; `None` if it does not serve it.
    pub fn served(&self, api: ApiKey) -> Option<&RangeInclusive<i16>> {
        self.versions.get(&api.code())
    }

    /// The versions of every API the broker serves, by its number; ours to know or not.
    pub fn all_served(&self) -> &BTreeMap<i16, RangeInclusive<i16>> {
        &self.versions
    }

    /// The newest version of an API that both sides speak.
    pub fn version(&self, api: ApiKey) -> Option<i16> {
        let served = self.served(api)?;
        let ours = api.valid_versions();
        let newest = *served.end().min(ours.end());
        (newest >= *served.start().max(ours.start())).then_some(newest)
    }

    /// Whether the connection can still be used for something new.
    pub fn is_open(&self) -> bool {
        self.session_end.is_none_or(|end| Instant::now() < end) && self.waiting.lock().lost.is_none()
    }

    /// Sends a request in the newest common version.
    pub async fn send<R: RequestMessage>(&self, request: &R) -> Result<R::Response, ConnectionError> {
        self.send_at_most(request, i16::MAX, self.timeout).await
    }

    /// Sends a request in the newest common version up to `highest`, and waits this long for the answer.
    pub async fn send_at_most<R: RequestMessage>(
        &self,
        request: &R,
        highest: i16,
        timeout: Duration,
    ) -> Result<R::Response, ConnectionError> {
        self.send_as(request, self.version_at_most(R::API_KEY, highest)?, timeout).await
    }

    /// Sends a request that nobody answers, a produce with `acks=0`; ends when the system has all of it.
    pub async fn send_unanswered<R: RequestMessage>(&self, request: &R) -> Result<(), ConnectionError> {
        let deadline = Instant::now() + self.timeout;
        let written = self.begin_unanswered(request, i16::MAX, deadline, self.timeout).await?;
        self.left(written, deadline, self.timeout).await
    }

    /// Sends a request in exactly this version.
    pub async fn send_as<R: RequestMessage>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<R::Response, ConnectionError> {
        let mut input = self.exchange(request, version, timeout).await?;
        R::Response::decode(&mut input, version).map_err(|source| self.malformed(R::API_KEY, source))
    }

    fn version_at_most(&self, api: ApiKey, highest: i16) -> Result<i16, ConnectionError> {
        self.version(api)
            .map(|version| version.min(highest))
            .filter(|version| self.served(api).is_some_and(|served| served.contains(version)))
            .ok_or_else(|| ConnectionError::NoCommonVersion { address: self.address.clone(), api: api.name() })
    }

    /// Sends a request in the newest common version up to `highest`, after all that were started before it. The answer
    /// is waited for apart, within `timeout` from now.
    pub(crate) async fn start_at_most<R: RequestMessage>(
        self: Arc<Self>,
        request: &R,
        highest: i16,
        timeout: Duration,
    ) -> Result<StartedRequest<R>, ConnectionError> {
        let version = self.version_at_most(R::API_KEY, highest)?;
        let deadline = Instant::now() + timeout;
        let receiver = self.begin(request, version, deadline, timeout).await?;
        Ok(StartedRequest { connection: self, receiver, version, deadline, timeout, request: PhantomData })
    }

    /// Sends a request that nobody answers in the newest common version up to `highest`, after all that were started
    /// before it. That the system has all of it is waited for apart, within `timeout` from now.
    pub(crate) async fn start_unanswered_at_most<R: RequestMessage>(
        self: Arc<Self>,
        request: &R,
        highest: i16,
        timeout: Duration,
    ) -> Result<impl Future<Output = Result<(), ConnectionError>> + Send + 'static + use<R>, ConnectionError> {
        let deadline = Instant::now() + timeout;
        let written = self.begin_unanswered(request, highest, deadline, timeout).await?;
        Ok(async move { self.left(written, deadline, timeout).await })
    }

    async fn begin_unanswered<R: RequestMessage>(
        &self,
        request: &R,
        highest: i16,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<oneshot::Receiver<()>, ConnectionError> {
        let version = self.version_at_most(R::API_KEY, highest)?;
        let (_, frame) = self.encode(request, version)?;
        let (sender, written) = oneshot::channel();
        self.queue(QueuedRequest { frame, written: Some(sender) }, deadline, timeout).await?;
        Ok(written)
    }

    /// Waits until a request that nobody answers has left.
    async fn left(
        &self,
        written: oneshot::Receiver<()>,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<(), ConnectionError> {
        match tokio::time::timeout_at(deadline, written).await {
            Ok(written) => written.map_err(|_| self.lost()),
            Err(_) => Err(self.timed_out(timeout)),
        }
    }

    async fn exchange<R: RequestMessage>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<Decoder, ConnectionError> {
        let deadline = Instant::now() + timeout;
        let receiver = self.begin(request, version, deadline, timeout).await?;
        self.end::<R>(receiver, version, deadline, timeout).await
    }

    /// Starts a request; its answer comes by the receiver.
    async fn begin<R: RequestMessage>(
        &self,
        request: &R,
        version: i16,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<oneshot::Receiver<Bytes>, ConnectionError> {
        let (correlation_id, frame) = self.encode(request, version)?;
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.lost.is_some() {
                drop(waiting);
                return Err(self.lost());
            }
            waiting.by_correlation_id.insert(correlation_id, sender);
        }
        self.queue(QueuedRequest { frame, written: None }, deadline, timeout).await?;
        Ok(receiver)
    }

    /// Gives a request to the writer.
    async fn queue(&self, request: QueuedRequest, deadline: Instant, timeout: Duration) -> Result<(), ConnectionError> {
        match tokio::time::timeout_at(deadline, self.requests.send(request)).await {
            Ok(sent) => sent.map_err(|_| self.lost()),
            Err(_) => Err(self.timed_out(timeout)),
        }
    }

    /// Waits for an answer, and reads its header.
    async fn end<R: RequestMessage>(
        &self,
        receiver: oneshot::Receiver<Bytes>,
        version: i16,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<Decoder, ConnectionError> {
        let Ok(answered) = tokio::time::timeout_at(deadline, receiver).await else {
            return Err(self.timed_out(timeout));
        };
        let frame = answered.map_err(|_| self.lost())?;
        // What we asked for bounds what we are sent, so the frame's own size is the budget.
        let budget = frame.len().saturating_mul(8).max(ottla_protocol::DEFAULT_DECODE_BUDGET_BYTES);
        let mut input = Decoder::with_budget(frame, budget);
        ResponseHeader::decode(&mut input, R::API_KEY.response_header_version(version))
            .map_err(|source| self.malformed(R::API_KEY, source))?;
        Ok(input)
    }

    /// Ends the connection: requests leave and responses come in order, so behind one that does not nothing else will.
    fn timed_out(&self, timeout: Duration) -> ConnectionError {
        fail(&self.waiting, "a request or its answer did not come through in time");
        ConnectionError::TimedOut { address: self.address.clone(), timeout }
    }

    fn encode<R: RequestMessage>(&self, request: &R, version: i16) -> Result<(i32, Vec<Bytes>), ConnectionError> {
        let correlation_id = self.correlation_id.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let header = RequestHeader {
            request_api_key: R::API_KEY.code(),
            request_api_version: version,
            correlation_id,
            client_id: Some(self.client_id.clone()),
        };
        let mut output = Encoder::framed();
        header
            .encode(&mut output, R::API_KEY.request_header_version(version))
            .and_then(|()| request.encode(&mut output, version))
            .and_then(|()| output.finish())
            .map(|frame| (correlation_id, frame))
            .map_err(|source| ConnectionError::Encode { api: R::API_KEY.name(), version, source })
    }

    /// Asks in our newest version; a broker that does not know it answers in version 0 and names its own.
    async fn negotiate(&self) -> Result<BTreeMap<i16, RangeInclusive<i16>>, ConnectionError> {
        let request = ApiVersionsRequest {
            client_software_name: StrBytes::from("ottla"),
            client_software_version: StrBytes::from(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let mut version = *ApiKey::ApiVersions.valid_versions().end();
        loop {
            let input = self.exchange(&request, version, self.timeout).await?.into_remaining();
            let error = input.first_chunk::<2>().map(|code| i16::from_be_bytes(*code));
            let refused = version > 0 && error == Some(ErrorCode::UnsupportedVersion.code());
            let answered_in = if refused { 0 } else { version };
            let response = ApiVersionsResponse::decode(&mut Decoder::new(input), answered_in)
                .map_err(|source| self.malformed(ApiKey::ApiVersions, source))?;
            if refused {
                // The next version is lower each time, so this ends.
                let served = response.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.code());
                version = served.map_or(0, |api| api.max_version.clamp(0, version - 1));
                continue;
            }
            if let Some(code) = ErrorCode::from_code(response.error_code).filter(|code| code.is_error()) {
                return Err(ConnectionError::Negotiation { address: self.address.clone(), code });
            }
            let range = |min: i16, max: i16| min..=max;
            return Ok(response
                .api_keys
                .iter()
                .map(|api| (api.api_key, range(api.min_version, api.max_version)))
                .collect());
        }
    }

    /// Says who we are. Gives the time by which another connection has to take over (KIP-368).
    async fn authenticate(
        &self,
        mechanism: &dyn SaslMechanism,
        host: &str,
    ) -> Result<Option<Instant>, ConnectionError> {
        let failed = |fault: SaslFault| ConnectionError::Authentication {
            address: self.address.clone(),
            mechanism: mechanism.name().to_owned(),
            fault,
        };
        let refused = |code: i16, message: Option<String>| {
            failure(code).map_or(Ok(()), |code| Err(failed(SaslFault::Refused { code, message })))
        };
        let handshake = SaslHandshakeRequest { mechanism: StrBytes::from(mechanism.name().to_owned()) };
        let offered = self.send(&handshake).await?;
        if offered.error_code == ErrorCode::UnsupportedSaslMechanism.code() {
            let offered = offered.mechanisms.iter().map(ToString::to_string).collect();
            return Err(failed(SaslFault::Mechanism { offered }));
        }
        refused(offered.error_code, None)?;
        let mut exchange = mechanism.begin(host);
        let mut challenge = Bytes::new();
        let mut lifetime_ms = 0;
        for _ in 0..SASL_MESSAGES {
            let answer = exchange.answer(&challenge).map_err(|error| failed(SaslFault::Exchange(Arc::from(error))))?;
            let Some(auth_bytes) = answer else {
                // A broker closes what is older; nothing is begun in the last tenth.
                let lifetime = u64::try_from(lifetime_ms).ok().filter(|&lifetime| lifetime > 0);
                let lifetime = lifetime.map(|lifetime| Duration::from_millis(lifetime - lifetime / 10));
                return Ok(lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime)));
            };
            let response = self.send(&SaslAuthenticateRequest { auth_bytes }).await?;
            refused(response.error_code, response.error_message.map(|message| message.to_string()))?;
            challenge = response.auth_bytes;
            lifetime_ms = response.session_lifetime_ms;
        }
        Err(failed(SaslFault::Endless(SASL_MESSAGES)))
    }

    fn lost(&self) -> ConnectionError {
        let reason = self.waiting.lock().lost.clone().unwrap_or_else(|| "closed".to_owned());
        ConnectionError::Lost { address: self.address.clone(), reason }
    }

    fn malformed(&self, api: ApiKey, source: ottla_protocol::DecodeError) -> ConnectionError {
        ConnectionError::Malformed { address: self.address.clone(), api: api.name(), source }
    }
}

/// A request on its way.
pub(crate) struct StartedRequest<R> {
    connection: Arc<Connection>,
    receiver: oneshot::Receiver<Bytes>,
    version: i16,
    deadline: Instant,
    timeout: Duration,
    request: PhantomData<fn() -> R>,
}

impl<R: RequestMessage> StartedRequest<R> {
    pub(crate) async fn answer(self) -> Result<R::Response, ConnectionError> {
        let StartedRequest { connection, receiver, version, deadline, timeout, .. } = self;
        let mut input = connection.end::<R>(receiver, version, deadline, timeout).await?;
        R::Response::decode(&mut input, version).map_err(|source| connection.malformed(R::API_KEY, source))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

async fn write_requests(
    mut writer: Box<dyn WriteHalf>,
    mut queue: mpsc::Receiver<QueuedRequest>,
    waiting: Arc<Mutex<Waiting>>,
) {
    let mut chunks: VecDeque<Bytes> = VecDeque::new();
    let mut written = Vec::new();
    while let Some(request) = queue.recv().await {
        chunks.extend(request.frame);
        written.extend(request.written);
        // Whatever else is there leaves with the same call.
        while chunks.len() < CHUNKS_AT_ONCE
            && let Ok(request) = queue.try_recv()
        {
            chunks.extend(request.frame);
            written.extend(request.written);
        }
        if let Err(error) = write_chunks(&mut *writer, &mut chunks).await {
            fail(&waiting, &error.to_string());
            return;
        }
        for sender in written.drain(..) {
            // Whoever waited may have gone.
            let _ = sender.send(());
        }
    }
}

async fn write_chunks(writer: &mut dyn WriteHalf, chunks: &mut VecDeque<Bytes>) -> std::io::Result<()> {
    while !chunks.is_empty() {
        let mut slices = [IoSlice::new(&[]); CHUNKS_AT_ONCE];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks.iter()) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        let mut written = writer.write_vectored(&slices[..count]).await?;
        if written == 0 && chunks.iter().any(|chunk| !chunk.is_empty()) {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while let Some(chunk) = chunks.front_mut() {
            if chunk.len() > written {
                chunk.advance(written);
                break;
            }
            written -= chunk.len();
            chunks.pop_front();
        }
    }
    writer.flush().await
}

async fn read_responses(mut reader: Box<dyn ReadHalf>, waiting: Arc<Mutex<Waiting>>) {
    let mut buffer = BytesMut::new();
    let reason = loop {
        match read_frame(&mut *reader, &mut buffer).await {
            Ok(frame) => {
                let Some(correlation_id) = frame.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes)) else {
                    break "a response is too short".to_owned();
                };
                let Some(waiter) = waiting.lock().by_correlation_id.remove(&correlation_id) else {
                    break "it answered a request that was not asked".to_owned();
                };
                // Whoever asked may have gone.
                let _ = waiter.send(frame);
            }
            Err(reason) => break reason,
        }
    };
    fail(&waiting, &reason);
}

/// The next frame. `buffer` has what came and was not given out.
async fn read_frame(reader: &mut dyn ReadHalf, buffer: &mut BytesMut) -> Result<Bytes, String> {
    const LENGTH: usize = size_of::<i32>();
    loop {
        let mut missing = READ_AHEAD;
        if let Some(length) = buffer.first_chunk::<LENGTH>().map(|bytes| i32::from_be_bytes(*bytes)) {
            if !(4..=MAX_FRAME).contains(&length) {
                return Err(format!("the broker sent a frame length of {length}, which is not in 4..={MAX_FRAME}"));
            }
            let end = LENGTH + length as usize;
            if buffer.len() >= end {
                let mut frame = buffer.split_to(end);
                frame.advance(LENGTH);
                return Ok(frame.freeze());
            }
            missing = end - buffer.len();
        }
        // Memory follows the bytes that came, not the length that was declared.
        buffer.reserve(missing.min(buffer.len().max(READ_AHEAD)));
        match reader.read_buf(buffer).await {
            Ok(0) if buffer.is_empty() => return Err("the broker closed it".to_owned()),
            Ok(0) => return Err("the broker closed it in the middle of a response".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn fail(waiting: &Mutex<Waiting>, reason: &str) {
    let mut waiting = waiting.lock();
    waiting.lost.get_or_insert_with(|| reason.to_owned());
    waiting.by_correlation_id.clear();
}
