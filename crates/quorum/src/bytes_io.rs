//! Reading and writing of the quorum's own file formats: big-endian, every length checked.

use std::collections::BTreeSet;

use openraft::Membership;
use ottla_types::{NodeId, Uuid};

use crate::types::{RaftLogId, RaftMembership, VoterId, log_id};

/// The bytes of a frame or a snapshot do not have the layout they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes do not have the layout of their kind")]
pub(crate) struct Malformed;

/// Takes values off the front of a slice.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (slice, rest) = self.bytes.split_at_checked(length).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(slice)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.slice(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub(crate) fn voter(&mut self) -> Result<VoterId, Malformed> {
        Ok(VoterId { node_id: NodeId(i32::from_be_bytes(self.array()?)), directory_id: Uuid(self.array()?) })
    }

    pub(crate) fn log_id(&mut self) -> Result<RaftLogId, Malformed> {
        Ok(log_id(self.u64()?, self.u64()?))
    }

    pub(crate) fn optional_log_id(&mut self) -> Result<Option<RaftLogId>, Malformed> {
        Ok(if self.flag()? { Some(self.log_id()?) } else { None })
    }

    pub(crate) fn membership(&mut self) -> Result<RaftMembership, Malformed> {
        let mut configs = Vec::new();
        for _ in 0..self.u8()? {
            configs.push(self.voters()?);
        }
        let members = self.voters()?;
        if configs.is_empty() && members.is_empty() {
            return Ok(RaftMembership::default());
        }
        if configs.iter().any(BTreeSet::is_empty) || configs.iter().flatten().any(|voter| !members.contains(voter)) {
            return Err(Malformed);
        }
        Ok(Membership::new_with_defaults(configs, members))
    }

    fn voters(&mut self) -> Result<BTreeSet<VoterId>, Malformed> {
        (0..self.u16()?).map(|_| self.voter()).collect()
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

pub(crate) fn put_voter(voter: VoterId, output: &mut Vec<u8>) {
    output.extend(voter.node_id.0.to_be_bytes());
    output.extend(voter.directory_id.0);
}

pub(crate) fn put_log_id(log_id: RaftLogId, output: &mut Vec<u8>) {
    output.extend(log_id.leader_id.term.to_be_bytes());
    output.extend(log_id.index.to_be_bytes());
}

pub(crate) fn put_optional_log_id(log_id: Option<RaftLogId>, output: &mut Vec<u8>) {
    output.push(u8::from(log_id.is_some()));
    if let Some(log_id) = log_id {
        put_log_id(log_id, output);
    }
}

pub(crate) fn put_membership(membership: &RaftMembership, output: &mut Vec<u8>) {
    let configs = membership.get_joint_config();
    output.push(u8::try_from(configs.len()).expect("invariant: a joint membership has a handful of parts"));
    for config in configs {
        put_voters(config.iter(), config.len(), output);
    }
    let nodes: Vec<_> = membership.nodes().map(|(id, _)| id).collect();
    put_voters(nodes.iter().copied(), nodes.len(), output);
}

fn put_voters<'a>(voters: impl Iterator<Item = &'a VoterId>, count: usize, output: &mut Vec<u8>) {
    output.extend(u16::try_from(count).expect("invariant: a quorum has fewer than 65,536 members").to_be_bytes());
    for voter in voters {
        put_voter(*voter, output);
    }
}

/// CRC-32C of the concatenation of these parts.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}
