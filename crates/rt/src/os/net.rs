//! TCP by tokio.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{BoxFuture, ListenOptions, Listener, Net, ReadHalf, Stream, WriteHalf};

/// Waiting connections the kernel keeps for a listener; the system's `somaxconn` caps it.
const BACKLOG: u32 = 4096;

pub(crate) struct OsNet;

impl Net for OsNet {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.bind_with(address, &ListenOptions::default())
    }

    fn bind_with(&self, address: SocketAddr, options: &ListenOptions) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let options = *options;
        Box::pin(async move { Ok(Box::new(listen(address, options)?) as Box<dyn Listener>) })
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(OsStream(stream)) as Box<dyn Stream>)
        })
    }

    fn host_name(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

fn listen(address: SocketAddr, options: ListenOptions) -> io::Result<OsListener> {
    let ListenOptions { backlog, send_buffer_bytes, receive_buffer_bytes } = options;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted broker must get its port back while old connections linger in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // Every listener names its families; a dual-stack socket would take the IPv4 port as well.
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // Connections that are accepted inherit these.
    if let Some(bytes) = send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    Ok(OsListener(socket.listen(backlog.unwrap_or(BACKLOG))?))
}

struct OsListener(TcpListener);

impl Listener for OsListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(OsStream(stream)) as Box<dyn Stream>, peer))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct OsStream(TcpStream);

impl Stream for OsStream {
    fn split(self: Box<Self>) -> (Box<dyn ReadHalf>, Box<dyn WriteHalf>) {
        let (read, write) = self.0.into_split();
        (Box::new(read), Box::new(OsWriteHalf(write)))
    }
}

struct OsWriteHalf(OwnedWriteHalf);

impl AsyncWrite for OsWriteHalf {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl WriteHalf for OsWriteHalf {
    #[cfg(target_os = "linux")]
    fn poll_write_before_file(
        &mut self,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

        self.poll_send(context, |stream| {
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            Ok(sendmsg(stream, buffers, &mut SendAncillaryBuffer::default(), flags)?)
        })
    }

    #[cfg(target_os = "linux")]
    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        file: &dyn crate::DiskFile,
        position: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(descriptor) = file.raw_fd() else {
            return crate::net::send_through_memory(self, context, file, position, length);
        };
        self.poll_send(context, |stream| {
            let mut from = position;
            Ok(rustix::fs::sendfile(stream, descriptor, Some(&mut from), length)?)
        })
    }
}

#[cfg(target_os = "linux")]
impl OsWriteHalf {
    /// Sends by a call of the system that tokio does not have.
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        send: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = self.0.as_ref();
        loop {
            std::task::ready!(stream.poll_write_ready(context))?;
            match stream.try_io(tokio::io::Interest::WRITABLE, || send(stream)) {
                // It was not ready after all: its readiness is cleared, and the task is registered anew.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::{socket_recv_buffer_size, socket_send_buffer_size};

    use super::*;

    /// The buffers that a connection gets which such a listener accepts.
    async fn buffers(options: ListenOptions) -> (usize, usize) {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), options).unwrap();
        let address = listener.local_address().unwrap();
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.0.accept());
        connected.unwrap();
        let (stream, _) = accepted.unwrap();
        (socket_send_buffer_size(&stream).unwrap(), socket_recv_buffer_size(&stream).unwrap())
    }

    #[tokio::test]
    async fn connections_get_the_buffers_their_listener_asks_for() {
        let usual = buffers(ListenOptions::default()).await;
        let sending = ListenOptions { send_buffer_bytes: Some(10_000), ..ListenOptions::default() };
        let receiving = ListenOptions { receive_buffer_bytes: Some(11_000), ..ListenOptions::default() };
        // Linux takes as much again for its own bookkeeping.
        assert!([10_000, 20_000].contains(&buffers(sending).await.0));
        assert!([11_000, 22_000].contains(&buffers(receiving).await.1));
        assert!(usual.0 > 20_000 && usual.1 > 22_000, "the system's own choice: {usual:?}");
    }
}
