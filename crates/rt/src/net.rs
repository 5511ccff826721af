//! Byte streams between nodes.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::BoxFuture;

/// Opens listeners and connections.
pub trait Net: Send + Sync {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Connects to a host by name or address; every address of the name is tried in turn.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// The name of this machine, for listeners that advertise it.
    fn host_name(&self) -> String {
        "localhost".to_owned()
    }

    /// The addresses a host name stands for, as a listener's configuration names it.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
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
pub trait WriteHalf: AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + Send + Sync + Unpin> ReadHalf for T {}
impl<T: AsyncWrite + Send + Sync + Unpin> WriteHalf for T {}
