//! The simulated network behind the seam's traits. What passes through is part of the trace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ottla_rt::{BoxFuture, Listener, Net, ReadHalf, Stream, WriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use turmoil::net::{TcpListener, TcpStream};

use crate::trace::Trace;

pub struct SimNet {
    pub trace: Arc<Trace>,
}

impl SimNet {
    fn stream(&self, stream: TcpStream) -> Box<dyn Stream> {
        Box::new(SimStream { stream, trace: Arc::clone(&self.trace) })
    }
}

impl Net for SimNet {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(SimListener { listener, trace: Arc::clone(&self.trace) }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { Ok(self.stream(TcpStream::connect((address(host), port)).await?)) })
    }

    fn host_name(&self) -> String {
        crate::driver::SERVER.to_owned()
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(vec![SocketAddr::new(address(host), port)]) })
    }
}

/// Literal addresses are taken as they are: the simulated name service would make hosts of them.
fn address(host: &str) -> IpAddr {
    host.parse().unwrap_or_else(|_| turmoil::lookup(host))
}

struct SimListener {
    listener: TcpListener,
    trace: Arc<Trace>,
}

impl Listener for SimListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            self.trace.event("accepted", &peer.to_string());
            Ok((Box::new(SimStream { stream, trace: Arc::clone(&self.trace) }) as Box<dyn Stream>, peer))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct SimStream {
    stream: TcpStream,
    trace: Arc<Trace>,
}

impl Stream for SimStream {
    fn split(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>) {
        let (read, write) = self.stream.into_split();
        let trace = Arc::clone(&self.trace);
        (Box::new(TracedRead { inner: read, trace }), Box::new(TracedWrite { inner: write, trace: self.trace }))
    }
}

struct TracedRead {
    inner: OwnedReadHalf,
    trace: Arc<Trace>,
}

impl AsyncRead for TracedRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.trace.bytes("received", &buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

struct TracedWrite {
    inner: OwnedWriteHalf,
    trace: Arc<Trace>,
}

impl WriteHalf for TracedWrite {}

impl AsyncWrite for TracedWrite {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.trace.bytes("sent", &bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
