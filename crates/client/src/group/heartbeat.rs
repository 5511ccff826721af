//! Telling the coordinator that a member lives, and hearing that the group rebalances.

use std::time::Duration;

use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use ottla_protocol::{ApiKey, StrBytes};
use ottla_types::ErrorCode;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{GroupSettings, Member};
use crate::client::{Client, Lane};
use crate::connection::Connection;
use crate::error::{ClientError, check};

/// What a generation has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Lives,
    /// The group rebalances, or its coordinator is looked for again: one joins as who one is.
    Rejoin,
    /// Others may have one's partitions: one joins as somebody new.
    MembershipEnded,
    /// Somebody else goes by one's own name.
    Fenced,
}

/// The heartbeats of one generation; dropping it ends them.
pub(super) struct Heartbeat {
    task: JoinHandle<()>,
    state: watch::Receiver<State>,
    /// Whether the next rebalance is this member's wish.
    rejoin: bool,
}

impl Heartbeat {
    /// `polled` is when the user last asked for records.
    pub(super) fn start(
        client: &Client,
        settings: &GroupSettings,
        member: &Member,
        polled: watch::Receiver<Instant>,
    ) -> Heartbeat {
        let request = HeartbeatRequest {
            group_id: StrBytes::from(settings.group.clone()),
            generation_id: member.generation_id,
            member_id: member.member_id.clone(),
            group_instance_id: settings.group_instance_id.clone().map(StrBytes::from),
        };
        let (sender, state) = watch::channel(State::Lives);
        let beats = Beats {
            client: client.clone(),
            coordinator: member.coordinator,
            request,
            interval: settings.heartbeat_interval,
            session_timeout: settings.session_timeout,
            max_poll_interval: settings.max_poll_interval,
            polled,
        };
        let task = tokio::spawn(async move {
            sender.send_replace(beats.run().await);
        });
        Heartbeat { task, state, rejoin: false }
    }

    /// Whether this generation is over.
    pub(super) fn must_rejoin(&self) -> bool {
        self.rejoin || *self.state.borrow() != State::Lives
    }

    pub(super) fn membership_ended(&self) -> bool {
        *self.state.borrow() == State::MembershipEnded
    }

    /// Whether somebody else goes by this member's name.
    pub(super) fn fenced(&self) -> bool {
        *self.state.borrow() == State::Fenced
    }

    /// Ends this generation.
    pub(super) fn rejoin(&mut self) {
        self.rejoin = true;
    }

    /// Ends when this generation does.
    pub(super) async fn rejoin_wanted(&mut self) {
        if !self.rejoin {
            // The sender is gone only together with the task, whose end means the same.
            let _ = self.state.wait_for(|&state| state != State::Lives).await;
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Beats {
    client: Client,
    coordinator: i32,
    request: HeartbeatRequest,
    interval: Duration,
    session_timeout: Duration,
    max_poll_interval: Duration,
    polled: watch::Receiver<Instant>,
}

impl Beats {
    /// Ends when the member has to join again.
    async fn run(self) -> State {
        let mut last_answer = Instant::now();
        loop {
            let too_late = *self.polled.borrow() + self.max_poll_interval;
            tokio::time::sleep_until((Instant::now() + self.interval).min(too_late)).await;
            if self.polled.borrow().elapsed() >= self.max_poll_interval {
                self.leave().await;
                return State::MembershipEnded;
            }
            match self.beat().await {
                Ok(()) => last_answer = Instant::now(),
                Err(error) => {
                    tracing::debug!(%error, "heartbeat");
                    match error.code() {
                        Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                            return State::MembershipEnded;
                        }
                        Some(ErrorCode::FencedInstanceId) => return State::Fenced,
                        // A coordinator that moved is found again by joining.
                        Some(_) => return State::Rejoin,
                        None if last_answer.elapsed() >= self.session_timeout => return State::MembershipEnded,
                        None => {}
                    }
                }
            }
        }
    }

    async fn beat(&self) -> Result<(), ClientError> {
        let connection = self.client.broker(self.coordinator, Lane::Group).await?;
        let response = connection.send(&self.request).await?;
        check(ApiKey::Heartbeat, response.error_code, None)
    }

    /// Who does not poll does not read: others get its partitions. One with a name of its own only falls silent.
    async fn leave(&self) {
        tracing::warn!(
            interval = ?self.max_poll_interval,
            "the group is left: it was not polled for max.poll.interval.ms. Handle fewer records at once \
             (max.poll.records), or allow for more time"
        );
        if self.request.group_instance_id.is_some() {
            return;
        }
        let left = async {
            let connection = self.client.broker(self.coordinator, Lane::Group).await?;
            leave(&connection, self.request.group_id.clone(), self.request.member_id.clone()).await
        };
        if let Err(error) = left.await {
            tracing::debug!(%error, "the group waits for the session's end");
        }
    }
}

/// Leaves a group, so that others take over at once.
pub(super) async fn leave(connection: &Connection, group_id: StrBytes, member_id: StrBytes) -> Result<(), ClientError> {
    const FIRST_BATCHED: i16 = 3;
    let batched = connection.version(ApiKey::LeaveGroup).is_some_and(|version| version >= FIRST_BATCHED);
    let request = if batched {
        let identity = MemberIdentity { member_id, ..Default::default() };
        LeaveGroupRequest { group_id, members: vec![identity], ..Default::default() }
    } else {
        LeaveGroupRequest { group_id, member_id, ..Default::default() }
    };
    let response = connection.send(&request).await?;
    check(ApiKey::LeaveGroup, response.error_code, None)
}
