//! The least client of Kafka's protocol: one connection, frames in and out, in order.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::{Decoder, Encoder, Message, RequestHeader, RequestMessage, ResponseHeader, StrBytes};
use ottla_rt::{ReadHalf, World, WriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Long enough for a slow disk and a busy network; a partitioned network answers never.
const PATIENCE: Duration = Duration::from_secs(4);

/// Larger answers are not asked for.
const LARGEST_FRAME: u32 = 64 << 20;

/// Why a call did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The connection is no longer of use; what was asked may have happened or not.
    #[error("connection: {0}")]
    Connection(#[from] io::Error),
    /// The server said to try again.
    #[error("refused for now: {0}")]
    Refused(String),
    /// What must never happen.
    #[error("{0}")]
    Anomaly(String),
}

/// Shorthand for an anomaly.
pub fn anomaly<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Anomaly(what.into()))
}

pub struct Connection {
    read: Box<dyn ReadHalf>,
    write: Box<dyn WriteHalf>,
    next_correlation_id: i32,
}

/// An answer to come. They come in the order of the requests.
#[derive(Clone, Copy)]
pub struct Awaited {
    correlation_id: i32,
    version: i16,
}

impl Connection {
    pub async fn open(world: &World, host: &str, port: u16) -> Result<Connection, Trouble> {
        let stream = patiently(world.net.connect(host, port)).await?;
        let (read, write) = stream.split();
        Ok(Connection { read, write, next_correlation_id: 0 })
    }

    pub async fn send<R: RequestMessage>(&mut self, request: &R, version: i16) -> Result<Awaited, Trouble> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let frame = encode(request, version, correlation_id).map_err(|error| {
            // Our own request, so our own mistake: the run is worth nothing.
            Trouble::Anomaly(format!("the simulated client sends nonsense: {error}"))
        })?;
        patiently(self.write.write_all(&frame)).await?;
        Ok(Awaited { correlation_id, version })
    }

    pub async fn receive<R: RequestMessage>(&mut self, awaited: Awaited) -> Result<R::Response, Trouble> {
        let len = patiently(self.read.read_u32()).await?;
        if len > LARGEST_FRAME {
            return anomaly(format!("an answer to {} of {len} bytes", R::NAME));
        }
        let mut frame = vec![0; len as usize];
        patiently(self.read.read_exact(&mut frame)).await?;
        let mut input = Decoder::new(Bytes::from(frame));
        let header_version = R::API_KEY.response_header_version(awaited.version);
        let decoded = ResponseHeader::decode(&mut input, header_version)
            .and_then(|header| Ok((header, R::Response::decode(&mut input, awaited.version)?)));
        match decoded {
            Ok((header, _)) if header.correlation_id != awaited.correlation_id => {
                anomaly(format!("the answer to {} is to another request", R::NAME))
            }
            Ok(_) if input.remaining() > 0 => anomaly(format!("bytes follow the answer to {}", R::NAME)),
            Ok((_, response)) => Ok(response),
            Err(error) => anomaly(format!("the answer to {} cannot be read: {error}", R::NAME)),
        }
    }

    pub async fn call<R: RequestMessage>(&mut self, request: &R, version: i16) -> Result<R::Response, Trouble> {
        let awaited = self.send(request, version).await?;
        self.receive::<R>(awaited).await
    }
}

fn encode<R: RequestMessage>(
    request: &R,
    version: i16,
    correlation_id: i32,
) -> Result<Bytes, ottla_protocol::EncodeError> {
    let header = RequestHeader {
        request_api_key: R::API_KEY as i16,
        request_api_version: version,
        correlation_id,
        client_id: Some(StrBytes::from_static("simulated")),
    };
    let mut output = Encoder::framed();
    header.encode(&mut output, R::API_KEY.request_header_version(version))?;
    request.encode(&mut output, version)?;
    output.finish_contiguous()
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
