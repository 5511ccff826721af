//! openraft's own suite for storage, on our log and state machine.

use std::path::Path;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use ottla_rt::memory::MemoryWorld;
use ottla_types::{NodeId, Uuid};

use crate::failure::FailureSlot;
use crate::log_file::LogFiles;
use crate::log_store::{LogStore, LogWriter};
use crate::recovery::LogContent;
use crate::snapshot::SnapshotFiles;
use crate::state_machine::{InitialState, StateMachine};
use crate::types::{TypeConfig, VoterId};

/// The suite numbers its nodes.
impl From<u64> for VoterId {
    fn from(number: u64) -> Self {
        VoterId { node_id: NodeId(number as i32), directory_id: Uuid::ONE }
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, LogWriter> for Builder {
    async fn build(&self) -> Result<(LogWriter, LogStore, StateMachine), StorageError<TypeConfig>> {
        let directory = Path::new("/data/ottla-metadata");
        let world = MemoryWorld::new(1).world();
        let failure = FailureSlot::new();
        let files = LogFiles::create(&world.disk, directory, VoterId::from(0), &[], 1 << 20).expect("a log");
        let (log, writer) = LogStore::start(LogContent::default(), files, &world, &failure);
        let snapshots = SnapshotFiles { disk: world.disk.clone(), directory: directory.to_owned() };
        let (machine, _) = StateMachine::new(InitialState::default(), snapshots, world, failure);
        Ok((writer, log, machine))
    }
}

#[test]
fn storage_conforms() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}
