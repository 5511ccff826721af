//! TCP by tokio.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{BoxFuture, Listener, Net, ReadHalf, Stream, WriteHalf};

/// Waiting connections the kernel keeps for a listener; the system's `somaxconn` caps it.
const BACKLOG: u32 = 4096;

pub(crate) struct OsNet;

impl Net for OsNet {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // A restarted broker must get its port back while old connections linger in TIME_WAIT.
            socket.set_reuseaddr(true)?;
            if address.is_ipv6() {
                // Every listener names its families; a dual-stack socket would take the IPv4 port as well.
                rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            }
            socket.bind(address)?;
            Ok(Box::new(OsListener(socket.listen(BACKLOG)?)) as Box<dyn Listener>)
        })
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
        (Box::new(read), Box::new(write))
    }
}
