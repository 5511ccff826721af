//! Telling the coordinator that a member lives, and hearing that the group rebalances.

use std::time::Duration;

use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::{ApiKey, StrBytes};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{GroupSettings, Member, is_rebalance};
use crate::client::{Client, Lane};
use crate::error::{ClientError, check};

/// The heartbeats of one generation; dropping it ends them.
pub(super) struct Heartbeat {
    task: JoinHandle<()>,
    rejoin: watch::Receiver<bool>,
}

impl Heartbeat {
    pub(super) fn start(client: &Client, settings: &GroupSettings, member: &Member) -> Heartbeat {
        let request = HeartbeatRequest {
            group_id: StrBytes::from(settings.group.clone()),
            generation_id: member.generation_id,
            member_id: member.member_id.clone(),
            ..Default::default()
        };
        let (sender, rejoin) = watch::channel(false);
        let (client, coordinator) = (client.clone(), member.coordinator);
        let (interval, session_timeout) = (settings.heartbeat_interval, settings.session_timeout);
        let task = tokio::spawn(async move {
            beat(&client, coordinator, &request, interval, session_timeout).await;
            sender.send_replace(true);
        });
        Heartbeat { task, rejoin }
    }

    /// Whether this generation is over.
    pub(super) fn must_rejoin(&self) -> bool {
        *self.rejoin.borrow()
    }

    /// Ends when this generation does.
    pub(super) async fn rejoin_wanted(&mut self) {
        // The sender is gone only together with the task, whose end means the same.
        let _ = self.rejoin.wait_for(|&rejoin| rejoin).await;
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when the member has to join again.
async fn beat(
    client: &Client,
    coordinator: i32,
    request: &HeartbeatRequest,
    interval: Duration,
    session_timeout: Duration,
) {
    let mut last_answer = Instant::now();
    loop {
        tokio::time::sleep(interval).await;
        match beat_once(client, coordinator, request).await {
            Ok(()) => last_answer = Instant::now(),
            Err(error) => {
                tracing::debug!(%error, "heartbeat");
                let lost = last_answer.elapsed() >= session_timeout;
                // A coordinator that moved is found again by joining.
                if lost || is_rebalance(&error) || error.code().is_some() {
                    return;
                }
            }
        }
    }
}

async fn beat_once(client: &Client, coordinator: i32, request: &HeartbeatRequest) -> Result<(), ClientError> {
    let connection = client.broker(coordinator, Lane::Group).await?;
    let response = connection.send(request).await?;
    check(ApiKey::Heartbeat, response.error_code, None)
}
