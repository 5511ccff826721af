//! Records of `__consumer_offsets` as bytes, in the versions Kafka 4.4 writes and all those it reads.
//!
//! A key is the number of the record type and the key's fields; a value is a version and the value's fields; no value
//! is a tombstone.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::records::group_metadata_key::GroupMetadataKey;
use ottla_protocol::records::group_metadata_value::{GroupMetadataValue, MemberMetadata};
use ottla_protocol::records::legacy_offset_commit_key::LegacyOffsetCommitKey;
use ottla_protocol::records::legacy_offset_commit_value::LegacyOffsetCommitValue;
use ottla_protocol::records::offset_commit_key::OffsetCommitKey;
use ottla_protocol::records::offset_commit_value::OffsetCommitValue;
use ottla_protocol::{DecodeError, Decoder, EncodeError, Encoder, Message, StrBytes};
use ottla_types::TopicId;

use crate::hard::{OffsetAndMetadata, RecordedGroup, RecordedMember};
use crate::record::GroupRecord;

const LEGACY_OFFSET_COMMIT: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;

const KEY_VERSION: i16 = 0;
const GROUP_METADATA_VALUE_VERSION: i16 = 3;
const OFFSET_COMMIT_VALUE_VERSION: i16 = 4;
/// The only version with an expiry of its own.
const EXPIRING_OFFSET_COMMIT_VALUE_VERSION: i16 = 1;

/// A record read from the log.
#[derive(Clone, Debug, PartialEq)]
pub enum DecodedRecord {
    Known(GroupRecord),
    /// A record of another kind of group, or of a later version of Kafka: the number of its type.
    Other(i16),
}

impl GroupRecord {
    /// The record's key and value.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        match self {
            GroupRecord::GroupMetadata { group, value } => {
                let key = GroupMetadataKey { group: group.into() };
                let value = value.as_ref().map(|value| prefixed(GROUP_METADATA_VALUE_VERSION, &group_value(value)));
                Ok((key_bytes(GROUP_METADATA, &key)?, value.transpose()?))
            }
            GroupRecord::OffsetCommit { group, topic, partition, value } => {
                let key = OffsetCommitKey { group: group.into(), topic: topic.into(), partition: *partition };
                let value = value.as_ref().map(|value| {
                    let version = match value.expire_timestamp_ms {
                        Some(_) => EXPIRING_OFFSET_COMMIT_VALUE_VERSION,
                        None => OFFSET_COMMIT_VALUE_VERSION,
                    };
                    prefixed(version, &offset_value(value))
                });
                Ok((key_bytes(OFFSET_COMMIT, &key)?, value.transpose()?))
            }
        }
    }
}

impl DecodedRecord {
    /// Reads a record; nothing of it keeps the bytes alive.
    pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<DecodedRecord, DecodeError> {
        let mut input = Decoder::new(key);
        let record = match input.int16()? {
            GROUP_METADATA => {
                let key = GroupMetadataKey::decode(&mut input, KEY_VERSION)?;
                let value = value.map(value_of::<GroupMetadataValue>).transpose()?.as_ref().map(recorded_group);
                GroupRecord::GroupMetadata { group: text(&key.group), value }
            }
            OFFSET_COMMIT => {
                let key = OffsetCommitKey::decode(&mut input, KEY_VERSION)?;
                let value = value.map(value_of::<OffsetCommitValue>).transpose()?.as_ref().map(offset_and_metadata);
                GroupRecord::OffsetCommit {
                    group: text(&key.group),
                    topic: text(&key.topic),
                    partition: key.partition,
                    value,
                }
            }
            LEGACY_OFFSET_COMMIT => {
                let key = LegacyOffsetCommitKey::decode(&mut input, KEY_VERSION)?;
                let value = value.map(value_of::<LegacyOffsetCommitValue>).transpose()?.as_ref().map(legacy_offset);
                GroupRecord::OffsetCommit {
                    group: text(&key.group),
                    topic: text(&key.topic),
                    partition: key.partition,
                    value,
                }
            }
            other => return Ok(DecodedRecord::Other(other)),
        };
        Ok(DecodedRecord::Known(record))
    }
}

fn key_bytes<M: Message>(record_type: i16, key: &M) -> Result<Bytes, EncodeError> {
    let mut output = Encoder::new();
    output.int16(record_type);
    key.encode(&mut output, KEY_VERSION)?;
    output.finish_contiguous()
}

fn prefixed<M: Message>(version: i16, value: &M) -> Result<Bytes, EncodeError> {
    let mut output = Encoder::new();
    output.int16(version);
    value.encode(&mut output, version)?;
    output.finish_contiguous()
}

fn value_of<M: Message>(value: Bytes) -> Result<M, DecodeError> {
    let mut input = Decoder::new(value);
    let version = input.int16()?;
    M::decode(&mut input, version)
}

fn text(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}

fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn group_value(value: &RecordedGroup) -> GroupMetadataValue {
    GroupMetadataValue {
        protocol_type: (&value.protocol_type).into(),
        generation: value.generation,
        protocol: value.protocol.as_ref().map(StrBytes::from),
        leader: value.leader.as_ref().map(StrBytes::from),
        current_state_timestamp: value.current_state_timestamp_ms.unwrap_or(-1),
        members: value
            .members
            .iter()
            .map(|member| MemberMetadata {
                member_id: (&member.member_id).into(),
                group_instance_id: member.group_instance_id.as_ref().map(StrBytes::from),
                client_id: (&member.client_id).into(),
                client_host: (&member.client_host).into(),
                rebalance_timeout: member.rebalance_timeout_ms,
                session_timeout: member.session_timeout_ms,
                subscription: member.subscription.clone(),
                assignment: member.assignment.clone(),
            })
            .collect(),
    }
}

fn recorded_group(value: &GroupMetadataValue) -> RecordedGroup {
    RecordedGroup {
        protocol_type: text(&value.protocol_type),
        generation: value.generation,
        protocol: value.protocol.as_ref().map(text),
        leader: value.leader.as_ref().map(text),
        current_state_timestamp_ms: Some(value.current_state_timestamp).filter(|timestamp| *timestamp != -1),
        members: value
            .members
            .iter()
            .map(|member| RecordedMember {
                member_id: text(&member.member_id),
                group_instance_id: member.group_instance_id.as_ref().map(text),
                client_id: text(&member.client_id),
                client_host: text(&member.client_host),
                rebalance_timeout_ms: member.rebalance_timeout,
                session_timeout_ms: member.session_timeout,
                subscription: copied(&member.subscription),
                assignment: copied(&member.assignment),
            })
            .collect(),
    }
}

fn offset_value(value: &OffsetAndMetadata) -> OffsetCommitValue {
    OffsetCommitValue {
        offset: value.offset,
        leader_epoch: value.leader_epoch.unwrap_or(-1),
        metadata: (&value.metadata).into(),
        commit_timestamp: value.commit_timestamp_ms,
        expire_timestamp: value.expire_timestamp_ms.unwrap_or(-1),
        topic_id: value.topic_id,
    }
}

fn offset_and_metadata(value: &OffsetCommitValue) -> OffsetAndMetadata {
    OffsetAndMetadata {
        offset: value.offset,
        leader_epoch: Some(value.leader_epoch).filter(|epoch| *epoch >= 0),
        metadata: text(&value.metadata),
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: Some(value.expire_timestamp).filter(|timestamp| *timestamp != -1),
        topic_id: value.topic_id,
    }
}

fn legacy_offset(value: &LegacyOffsetCommitValue) -> OffsetAndMetadata {
    OffsetAndMetadata {
        offset: value.offset,
        leader_epoch: None,
        metadata: text(&value.metadata),
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: None,
        topic_id: TopicId::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use ottla_types::Uuid;

    use super::*;

    const COMMIT_KEY: &str = "00010001670005746f70696300000007";

    fn from_hex(hex: &str) -> Bytes {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn commit(value: Option<OffsetAndMetadata>) -> GroupRecord {
        GroupRecord::OffsetCommit { group: "g".into(), topic: "topic".into(), partition: 7, value }
    }

    fn offset() -> OffsetAndMetadata {
        OffsetAndMetadata {
            offset: 42,
            leader_epoch: Some(3),
            metadata: "meta".into(),
            commit_timestamp_ms: 1_700_000_000_000,
            expire_timestamp_ms: None,
            topic_id: Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        }
    }

    fn group() -> RecordedGroup {
        let member = |member_id: &str,
                      instance: Option<&str>,
                      client_id: &str,
                      subscription: &'static [u8],
                      assignment: &'static [u8]| {
            RecordedMember {
                member_id: member_id.into(),
                group_instance_id: instance.map(Arc::from),
                client_id: client_id.into(),
                client_host: "/127.0.0.1".into(),
                rebalance_timeout_ms: 60_000,
                session_timeout_ms: 10_000,
                subscription: Bytes::from_static(subscription),
                assignment: Bytes::from_static(assignment),
            }
        };
        RecordedGroup {
            protocol_type: "consumer".into(),
            generation: 5,
            protocol: Some("range".into()),
            leader: Some("a-1".into()),
            current_state_timestamp_ms: Some(1_700_000_000_000),
            members: vec![member("a-1", None, "a", &[1, 2], &[3]), member("i-2", Some("i"), "b", &[], &[])],
        }
    }

    /// Bytes that Apache Kafka 4.4.0 writes for the same records.
    #[test]
    fn as_kafka_writes_them() {
        let no_id = OffsetAndMetadata { leader_epoch: None, metadata: "".into(), topic_id: Uuid::ZERO, ..offset() };
        let expiring =
            OffsetAndMetadata { expire_timestamp_ms: Some(1_700_000_005_000), topic_id: Uuid::ZERO, ..offset() };
        let empty = RecordedGroup {
            protocol_type: "".into(),
            generation: 0,
            protocol: None,
            leader: None,
            members: Vec::new(),
            ..group()
        };
        let metadata = |value| GroupRecord::GroupMetadata { group: "g".into(), value };
        let cases: &[(GroupRecord, &str, Option<&str>)] = &[
            (
                commit(Some(offset())),
                COMMIT_KEY,
                Some("0004000000000000002a00000003056d6574610000018bcfe568000100100102030405060708090a0b0c0d0e0f10"),
            ),
            (commit(Some(no_id)), COMMIT_KEY, Some("0004000000000000002affffffff010000018bcfe5680000")),
            (
                commit(Some(expiring)),
                COMMIT_KEY,
                Some("0001000000000000002a00046d6574610000018bcfe568000000018bcfe57b88"),
            ),
            (commit(None), COMMIT_KEY, None),
            (metadata(None), "0002000167", None),
            (
                metadata(Some(group())),
                "0002000167",
                Some(
                    "00030008636f6e73756d657200000005000572616e67650003612d310000018bcfe56800000000020003612d31ffff0001610\
                     00a2f3132372e302e302e310000ea600000271000000002010200000001030003692d32000169000162000a2f3132372e302e\
                     302e310000ea60000027100000000000000000",
                ),
            ),
            (metadata(Some(empty)), "0002000167", Some("0003000000000000ffffffff0000018bcfe5680000000000")),
        ];
        for (record, key, value) in cases {
            let (key, value) = (from_hex(key), value.map(from_hex));
            assert_eq!(record.encode().unwrap(), (key.clone(), value.clone()), "{record:?}");
            let mut read = DecodedRecord::decode(key, value).unwrap();
            if let DecodedRecord::Known(GroupRecord::OffsetCommit { value: Some(value), .. }) = &mut read
                && value.expire_timestamp_ms.is_some()
            {
                // A version with an expiry has no leader epoch.
                value.leader_epoch = Some(3);
            }
            assert_eq!(read, DecodedRecord::Known(record.clone()));
        }
    }

    #[test]
    fn older_versions_and_other_types_are_read() {
        let decode =
            |key: &str, value: Option<&str>| DecodedRecord::decode(from_hex(key), value.map(from_hex)).unwrap();
        let legacy = OffsetAndMetadata { leader_epoch: None, topic_id: Uuid::ZERO, ..offset() };
        assert_eq!(
            decode("00000001670005746f70696300000007", Some("0000000000000000002a00046d6574610000018bcfe56800")),
            DecodedRecord::Known(commit(Some(legacy)))
        );
        let mut old = group();
        old.current_state_timestamp_ms = None;
        for member in &mut old.members {
            member.group_instance_id = None;
            member.rebalance_timeout_ms = -1;
        }
        let v0 = "00000008636f6e73756d657200000005000572616e67650003612d31000000020003612d31000161000a2f3132372e302e302e31\
                  0000271000000002010200000001030003692d32000162000a2f3132372e302e302e31000027100000000000000000";
        assert_eq!(
            decode("0002000167", Some(v0)),
            DecodedRecord::Known(GroupRecord::GroupMetadata { group: "g".into(), value: Some(old) })
        );
        assert_eq!(decode("0003000167", Some("00000000000300")), DecodedRecord::Other(3));
    }

    #[test]
    fn damaged_records_are_errors() {
        let (key, value) = GroupRecord::GroupMetadata { group: "g".into(), value: Some(group()) }.encode().unwrap();
        let value = value.unwrap();
        for length in 0..key.len() {
            assert!(
                DecodedRecord::decode(key.slice(..length), Some(value.clone())).is_err(),
                "{length} bytes of the key"
            );
        }
        for length in 0..value.len() {
            assert!(
                DecodedRecord::decode(key.clone(), Some(value.slice(..length))).is_err(),
                "{length} bytes of the value"
            );
        }
        assert!(DecodedRecord::decode(key, Some(from_hex("0063"))).is_err(), "an unknown version");
    }
}
