//! The places where encryption and authentication are put in: how a stream to a broker is made, and how a client says who
//! it is. This crate has no TLS and no cryptography of its own.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ottla_rt::{BoxFuture, Net, Stream};
use ottla_types::ErrorCode;

/// Makes the stream to a broker. TLS connects through `net`, shakes hands for `host`, and gives the encrypted stream.
pub trait Transport: fmt::Debug + Send + Sync {
    /// It may take `socket.connection.setup.timeout.ms`; then the future is dropped.
    fn connect<'a>(&'a self, net: &'a dyn Net, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// Streams as the network has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plaintext;

impl Transport for Plaintext {
    fn connect<'a>(&'a self, net: &'a dyn Net, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        net.connect(host, port)
    }
}

/// A way to say who one is: `sasl.mechanism`.
pub trait SaslMechanism: fmt::Debug + Send + Sync {
    /// As brokers name it, such as `SCRAM-SHA-512`.
    fn name(&self) -> &str;

    /// Begins a conversation with a broker.
    fn begin(&self, host: &str) -> Box<dyn SaslExchange>;
}

/// One conversation.
pub trait SaslExchange: Send {
    /// What to say to this, which at first is nothing. `None` ends the conversation: the broker has said all it had to,
    /// and is who it should be. What a broker says is foreign bytes.
    fn answer(&mut self, challenge: &[u8]) -> Result<Option<Bytes>, SaslError>;
}

/// Why a mechanism does not go on.
pub type SaslError = Box<dyn Error + Send + Sync>;

/// Why authentication failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SaslFault {
    #[error("the broker offers {}", offered.join(", "))]
    Mechanism { offered: Vec<String> },
    #[error("{code}{}", message.as_ref().map(|message| format!(": {message}")).unwrap_or_default())]
    Refused { code: ErrorCode, message: Option<String> },
    #[error("{0}")]
    Exchange(Arc<dyn Error + Send + Sync>),
    #[error("it does not end after {0} messages")]
    Endless(usize),
}

/// The mechanism `PLAIN` (RFC 4616): the password goes over the wire as it is, so only where that is encrypted.
#[derive(Clone)]
pub struct SaslPlain {
    username: String,
    password: String,
}

impl SaslPlain {
    /// Neither may have a zero byte in it: that separates them.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> SaslPlain {
        SaslPlain { username: username.into(), password: password.into() }
    }
}

impl fmt::Debug for SaslPlain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SaslPlain").field("username", &self.username).finish_non_exhaustive()
    }
}

impl SaslMechanism for SaslPlain {
    fn name(&self) -> &'static str {
        "PLAIN"
    }

    fn begin(&self, _host: &str) -> Box<dyn SaslExchange> {
        Box::new(PlainExchange { message: Some(format!("\0{}\0{}", self.username, self.password).into()) })
    }
}

struct PlainExchange {
    message: Option<Bytes>,
}

impl SaslExchange for PlainExchange {
    fn answer(&mut self, _challenge: &[u8]) -> Result<Option<Bytes>, SaslError> {
        Ok(self.message.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_says_who_and_the_password_and_shows_neither() {
        let plain = SaslPlain::new("alice", "secret");
        let mut exchange = plain.begin("broker");
        assert_eq!(exchange.answer(b"").unwrap().as_deref(), Some(&b"\0alice\0secret"[..]));
        assert_eq!(exchange.answer(b"").unwrap(), None);
        assert_eq!(format!("{plain:?}"), "SaslPlain { username: \"alice\", .. }");
    }
}
