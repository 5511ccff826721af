//! Listening sockets: accepts connections and runs each in a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_config::Network;
use ottla_rt::{Listener, Stream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::budget::RequestPool;
use crate::connection::{CloseReason, Connection, Ended, Limits, Service, Started};
use crate::connection_quota::{Admitted, Refused};
use crate::context::ConnectionContext;
use crate::dispatch;
use crate::metrics::{Closed, ListenerMetrics, Timing};

/// After a failed accept, so that a lack of descriptors does not become a busy loop.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Accepts until the broker shuts down.
pub(crate) async fn run(
    broker: Arc<Broker>,
    name: Arc<str>,
    listener: Box<dyn Listener>,
    mut shutdown: watch::Receiver<bool>,
) {
    let metrics = broker.metrics.network.listener(&name);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|shutdown| *shutdown) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Faster than the rates allow, or at a limit of connections, this listener stops accepting, as in Kafka;
                // one address's too many are closed.
                let throttle = broker.connections.throttle(&name);
                let admitted = async {
                    if !throttle.is_zero() {
                        metrics.throttled(throttle);
                        tokio::time::sleep(throttle).await;
                    }
                    broker.connections.admit(&name, peer.ip()).await
                };
                let admitted = tokio::select! {
                    admitted = admitted => admitted,
                    _ = shutdown.wait_for(|shutdown| *shutdown) => return,
                };
                match admitted {
                    Ok(admitted) => {
                        metrics.created();
                        let (broker, name, shutdown) = (Arc::clone(&broker), Arc::clone(&name), shutdown.clone());
                        let metrics = Arc::clone(&metrics);
                        tokio::spawn(async move {
                            let _counted = metrics.connections.enter();
                            metrics.closed(serve(broker, name, stream, peer, &metrics, admitted, shutdown).await);
                        });
                    }
                    Err(Refused { limit }) => {
                        metrics.refused.add(1);
                        tracing::info!(%peer, limit, "closing a connection: too many from this address");
                    }
                }
            }
            Err(error) => {
                // Out of descriptors, most often: the listener stays, the next connection may succeed.
                tracing::warn!(listener = %name, %error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

async fn serve(
    broker: Arc<Broker>,
    listener: Arc<str>,
    stream: Box<dyn Stream>,
    peer: SocketAddr,
    metrics: &Arc<ListenerMetrics>,
    place: Admitted,
    mut shutdown: watch::Receiver<bool>,
) -> Closed {
    let (reader, writer) = stream.split();
    let context = Arc::new(ConnectionContext { listener, peer, metrics: Arc::clone(&broker.metrics) });
    let _connected = broker.metrics.connections.enter();
    let service = Arc::new(BrokerService { broker: Arc::clone(&broker), context, metrics: Arc::clone(metrics), place });
    let connection = Connection::new(Arc::clone(&service), reader, writer);
    let ended = connection
        .run(async move {
            tokio::select! {
                _ = shutdown.wait_for(|shutdown| *shutdown) => {}
                () = service.place.evicted() => {}
            }
        })
        .await;
    match &ended {
        Ended::PeerClosed | Ended::Shutdown | Ended::Idle => {
            tracing::debug!(%peer, reason = %ended, "connection closed");
        }
        Ended::Io(error) => tracing::debug!(%peer, %error, "connection lost"),
        Ended::Closed(reason) => tracing::info!(%peer, %reason, "closing a connection"),
    }
    match ended {
        Ended::PeerClosed | Ended::Shutdown | Ended::Io(_) => Closed::Ordinarily,
        Ended::Idle => Closed::Idle,
        Ended::Closed(_) => Closed::Rejected,
    }
}

/// What a connection of this listener may take now.
fn limits(network: &Network, listener: &str) -> Limits {
    Limits {
        max_frame: i32::try_from(network.request_max_bytes_of(listener)).unwrap_or(i32::MAX),
        max_in_flight: network.max_inflight_requests_per_connection,
        max_idle: network.connections_max_idle_ms_of(listener).map(Duration::from_millis),
    }
}

/// What a connection sees of the broker.
struct BrokerService {
    broker: Arc<Broker>,
    context: Arc<ConnectionContext>,
    metrics: Arc<ListenerMetrics>,
    place: Admitted,
}

impl Service for BrokerService {
    fn start(&self, frame: Bytes) -> Result<Started, CloseReason> {
        dispatch::start(&self.broker, &self.context, frame)
    }

    fn pool(&self, api_key: i16) -> &Arc<RequestPool> {
        self.broker.budgets.of_request(api_key)
    }

    fn limits(&self) -> Limits {
        limits(&self.broker.config().network, &self.context.listener)
    }

    fn handler_panicked(&self) {
        self.broker.metrics.handler_panics.add(1);
        tracing::error!(peer = %self.context.peer, "a request handler panicked; its connection is closed");
    }

    fn finished(&self, timing: &Timing) {
        self.broker.metrics.requests.finished(timing);
    }

    fn received(&self, bytes: usize, now: Instant) {
        self.place.active(now);
        self.metrics.received(bytes);
    }

    fn sent(&self, bytes: usize) {
        self.metrics.sent(bytes);
    }
}

#[cfg(test)]
mod tests {
    use ottla_config::ServerConfig;

    use super::limits;

    #[test]
    fn a_connection_may_take_what_the_node_says() {
        let of = |value: &str| {
            let sets = [("ottla.connection.max.inflight.requests".to_owned(), value.to_owned())];
            let network = ServerConfig::load(None, &sets, None, true).unwrap().config.network;
            limits(&network, "PLAINTEXT").max_in_flight
        };
        assert_eq!((of("3"), of("1000")), (3, 1000));
    }
}
