//! A group without members that commits one offset after the other: what was acknowledged stays committed.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestTopic};
use ottla_rt::World;
use ottla_types::ErrorCode;

use super::{BROKER_PORT, refused};
use crate::choice::Choice;
use crate::driver::{Progress, SERVER};
use crate::kafka::{Connection, Trouble, anomaly};

const GROUP: &str = "billing";
const PARTITION: i32 = 0;

pub struct Committer {
    pub topic: &'static str,
    pub world: World,
    pub choice: Choice,
    pub progress: Rc<Progress>,
    pub promises: Promises,
}

/// What the group was told.
#[derive(Default)]
pub struct Promises {
    sent: i64,
    /// The last commit that was acknowledged.
    acknowledged: i64,
    /// Commits that were never answered: each may take effect, late ones after the one above.
    unanswered: BTreeSet<i64>,
    pub acknowledgements: u64,
}

impl Promises {
    fn check(&self, committed: i64) -> Result<(), String> {
        if committed == self.acknowledged || self.unanswered.contains(&committed) {
            return Ok(());
        }
        Err(format!("{committed} is committed, {} was acknowledged", self.acknowledged))
    }
}

impl Committer {
    /// Works until the faults are over; then what is committed is what was acknowledged.
    pub async fn run(mut self) -> anyhow::Result<u64> {
        loop {
            match self.talk().await {
                Ok(()) => return Ok(self.promises.acknowledgements),
                Err(Trouble::Anomaly(what)) => anyhow::bail!("committer: {what}"),
                Err(Trouble::Connection(_) | Trouble::Refused(_)) => {
                    tokio::time::sleep(self.choice.duration_ms(5..300)).await;
                }
            }
        }
    }

    async fn talk(&mut self) -> Result<(), Trouble> {
        let mut connection = Connection::open(&self.world, SERVER, BROKER_PORT).await?;
        let request = FindCoordinatorRequest { key: GROUP.into(), ..FindCoordinatorRequest::default() };
        let found = connection.call(&request, 3).await?;
        if found.error_code != 0 {
            return refused("find coordinator", found.error_code);
        }
        self.look(&mut connection).await?;
        while !self.progress.healing() {
            self.commit(&mut connection).await?;
            if self.choice.one_in(5) {
                self.look(&mut connection).await?;
            }
            if self.choice.one_in(3) {
                tokio::time::sleep(self.choice.duration_ms(1..40)).await;
            }
        }
        self.look(&mut connection).await
    }

    async fn commit(&mut self, connection: &mut Connection) -> Result<(), Trouble> {
        let promises = &mut self.promises;
        promises.sent += 1;
        let offset = promises.sent;
        promises.unanswered.insert(offset);
        let partition = OffsetCommitRequestPartition {
            partition_index: PARTITION,
            committed_offset: offset,
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: self.topic.into(),
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: -1,
            retention_time_ms: -1,
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        let response = connection.call(&request, *self.choice.of(&[2, 7, 8])).await?;
        let Some(answer) = response.topics.first().and_then(|topic| topic.partitions.first()) else {
            return anomaly("a commit is answered without its partition");
        };
        if ErrorCode::from_code(answer.error_code) != Some(ErrorCode::None) {
            // A coordinator that failed in between does not say whether the record was written.
            return refused("offset commit", answer.error_code);
        }
        self.promises.unanswered.remove(&offset);
        self.promises.acknowledged = offset;
        self.promises.acknowledgements += 1;
        Ok(())
    }

    /// What is committed now is what was promised.
    async fn look(&self, connection: &mut Connection) -> Result<(), Trouble> {
        let topic = OffsetFetchRequestTopic { name: self.topic.into(), partition_indexes: vec![PARTITION] };
        let request =
            OffsetFetchRequest { group_id: GROUP.into(), topics: Some(vec![topic]), ..OffsetFetchRequest::default() };
        loop {
            let response = connection.call(&request, 5).await?;
            if response.error_code != 0 {
                match ErrorCode::from_code(response.error_code) {
                    Some(ErrorCode::CoordinatorLoadInProgress) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    _ => return refused("offset fetch", response.error_code),
                }
            }
            let Some(answer) = response.topics.first().and_then(|topic| topic.partitions.first()) else {
                return anomaly("an offset fetch is answered without its partition");
            };
            if answer.error_code != 0 {
                return refused("offset fetch", answer.error_code);
            }
            // Nothing committed yet reads as -1.
            return self.promises.check(answer.committed_offset.max(0)).map_err(Trouble::Anomaly);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_or_may_still_come_is_right() {
        let promises = Promises { sent: 9, acknowledged: 7, unanswered: [4, 9].into(), acknowledgements: 6 };
        for (committed, right) in [(7, true), (9, true), (4, true), (6, false), (0, false), (8, false)] {
            assert_eq!(promises.check(committed).is_ok(), right, "{committed}");
        }
    }
}
