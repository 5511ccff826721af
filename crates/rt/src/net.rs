//! Byte streams between nodes.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{BoxFuture, DiskFile};

/// How much of a file is read at once by streams that cannot send it straight from the system's cache.
const SEND_FILE_BYTES: usize = 64 << 10;

/// Opens listeners and connections.
pub trait Net: Send + Sync {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// The same with these options, where the world has such a thing.
    fn bind_with(&self, address: SocketAddr, options: &ListenOptions) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let _ = options;
        self.bind(address)
    }

    /// Connects to a host by name or address; every address of the name is tried in turn.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// The name of this machine, for listeners that advertise it.
    fn host_name(&self) -> String {
        "localhost".to_owned()
    }

    /// The addresses a host name stands for, as a listener's configuration names it.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// What a listening socket asks of the system; what is absent is the system's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that wait to be accepted; the system may cap it.
    pub backlog: Option<u32>,
    /// Buffers of the connections that are accepted.
    pub send_buffer_bytes: Option<u32>,
    pub receive_buffer_bytes: Option<u32>,
}

/// A bound listening socket.
pub trait Listener: Send + Sync {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>>;
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// A connected stream; reading and writing are owned apart.
pub trait Stream: Send {
    fn split(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>);
}

/// The reading side of a connection.
pub trait ReadHalf: AsyncRead + Send + Sync + Unpin {}

/// The writing side of a connection. Dropping it closes that direction.
pub trait WriteHalf: AsyncWrite + Send + Sync + Unpin {
    /// As [`AsyncWrite::poll_write_vectored`], of what stands before part of a file, which follows at once: where the system
    /// can, both leave together, and the peer is woken once.
    fn poll_write_before_file(
        &mut self,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write_vectored(context, buffers)
    }

    /// Sends part of a file, at most `length` bytes (not 0) from `position` on; tells how many. 0: the file ends there.
    /// Where the system can, they do not pass through this process. It may wait for the disk: see
    /// [`DiskFile::make_resident`].
    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        file: &dyn DiskFile,
        position: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        send_through_memory(self, context, file, position, length)
    }
}

pub(crate) fn send_through_memory<W: AsyncWrite + Unpin + ?Sized>(
    writer: &mut W,
    context: &mut Context<'_>,
    file: &dyn DiskFile,
    position: u64,
    length: usize,
) -> Poll<io::Result<usize>> {
    let mut buffer = vec![0; length.min(SEND_FILE_BYTES)];
    let count = file.read_at(&mut buffer, position)?;
    if count == 0 {
        return Poll::Ready(Ok(0));
    }
    // What the stream does not take is read again next time.
    Pin::new(writer).poll_write(context, &buffer[..count])
}

impl<T: AsyncRead + Send + Sync + Unpin> ReadHalf for T {}
impl WriteHalf for tokio::io::DuplexStream {}
impl<T: AsyncWrite + Send + Sync + Unpin> WriteHalf for tokio::io::WriteHalf<T> {}
