//! Encryption and authentication where they are put in, against brokers that are strict, and hostile.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ottla_client::{
    Client, ClientError, ConnectionError, SaslError, SaslExchange, SaslFault, SaslMechanism, SaslPlain, Transport,
};
use ottla_protocol::ApiKey;
use ottla_rt::{BoxFuture, Net, Stream};

use crate::fake::{FakeBroker, TOPIC};

fn strict_broker(lifetime_ms: i64) -> FakeBroker {
    let broker = FakeBroker::default();
    broker.state.lock().password = Some((b"\0alice\0secret", lifetime_ms));
    broker
}

fn client(broker: &FakeBroker, mechanism: impl SaslMechanism + 'static) -> Client {
    broker.client_with(|settings| settings.sasl_mechanism = Some(Arc::new(mechanism)))
}

async fn fault(client: &Client) -> SaslFault {
    match client.topic(TOPIC).await {
        Err(ClientError::Unreachable { source: ConnectionError::Authentication { fault, .. }, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_who_it_is_gets_in() {
    for old in [false, true] {
        let broker = strict_broker(0);
        broker.state.lock().kafka_2_1 = old;
        client(&broker, SaslPlain::new("alice", "secret")).topic(TOPIC).await.unwrap();
        let requests = broker.state.lock().requests.clone();
        assert!(requests.contains(&(ApiKey::SaslAuthenticate, if old { 0 } else { 2 })), "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_is_told_at_once() {
    let broker = strict_broker(0);
    let refused = fault(&client(&broker, SaslPlain::new("alice", "guess"))).await;
    assert_eq!(refused.to_string(), "SASL_AUTHENTICATION_FAILED: who are you?");
    assert_eq!(broker.state.lock().connections, 1, "a wrong password is not tried again");
}

/// Has a name, and goes on talking or fails.
#[derive(Debug)]
struct Odd {
    name: &'static str,
    fails: bool,
}

impl SaslMechanism for Odd {
    fn name(&self) -> &str {
        self.name
    }

    fn begin(&self, host: &str) -> Box<dyn SaslExchange> {
        assert_eq!(host, "fake");
        Box::new(OddExchange { fails: self.fails })
    }
}

struct OddExchange {
    fails: bool,
}

impl SaslExchange for OddExchange {
    fn answer(&mut self, _: &[u8]) -> Result<Option<Bytes>, SaslError> {
        if self.fails { Err("it is not who it should be".into()) } else { Ok(Some(Bytes::from_static(b"and?"))) }
    }
}

#[tokio::test(start_paused = true)]
async fn conversations_that_cannot_end_well_end() {
    let broker = strict_broker(0);
    broker.state.lock().endless_questions = true;
    for (name, fails, expected) in [
        ("NONE", false, "the broker offers PLAIN"),
        ("PLAIN", true, "it is not who it should be"),
        ("PLAIN", false, "it does not end after 16 messages"),
    ] {
        assert_eq!(fault(&client(&broker, Odd { name, fails })).await.to_string(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_is_followed_by_another_connection() {
    let broker = strict_broker(10_000);
    let client = client(&broker, SaslPlain::new("alice", "secret"));
    for (wait, connections) in [(0, 1), (8, 1), (2, 2), (8, 2), (2, 3)] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        client.refresh_topic(TOPIC, false).await.unwrap();
        assert_eq!(broker.state.lock().connections, connections);
    }
    let broker = strict_broker(i64::MAX);
    let client = self::client(&broker, SaslPlain::new("alice", "secret"));
    client.topic(TOPIC).await.unwrap();
}

/// Connects as the network does, and counts; or never gets there.
#[derive(Debug, Default)]
struct Counting {
    count: AtomicUsize,
    stuck: bool,
}

impl Transport for Counting {
    fn connect<'a>(&'a self, net: &'a dyn Net, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            self.count.fetch_add(1, Ordering::Relaxed);
            if self.stuck {
                std::future::pending::<()>().await;
            }
            net.connect(host, port).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn streams_come_from_the_transport() {
    for stuck in [false, true] {
        let broker = FakeBroker::default();
        let transport = Arc::new(Counting { stuck, ..Default::default() });
        let client = broker.client_with(|settings| {
            settings.transport = transport.clone();
            settings.socket_connection_setup_timeout = Duration::from_secs(2);
        });
        let began = tokio::time::Instant::now();
        let found = client.topic(TOPIC).await;
        assert_eq!(found.is_err(), stuck);
        assert_eq!(began.elapsed().as_secs(), if stuck { 2 } else { 0 });
        assert_eq!(transport.count.load(Ordering::Relaxed), 1);
    }
}
