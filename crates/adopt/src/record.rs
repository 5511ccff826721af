//! The records of Kafka's metadata log as their bytes have them.
//!
//! A record's value is a frame version, the record's type, its version (unsigned varints) and the message; nothing may
//! follow. A type or version that is not known is refused by its number: it was written by a later Kafka, and metadata
//! with a record left out is other metadata.

use bytes::Bytes;
use ottla_protocol::messages::k_raft_version_record::KRaftVersionRecord;
use ottla_protocol::messages::leader_change_message::LeaderChangeMessage;
use ottla_protocol::messages::snapshot_header_record::SnapshotHeaderRecord;
use ottla_protocol::messages::voters_record::VotersRecord;
use ottla_protocol::{DecodeError, Decoder, EncodeError, Encoder, Message};

/// The only one since Kafka 3.0.
const FRAME_VERSION: u32 = 1;

/// Memory for one decoded record: a batch of Kafka's has 8 MiB at most.
const DECODE_BUDGET_BYTES: usize = 32 << 20;

/// Why bytes are not a metadata record that can be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a record of metadata without a value")]
    NoValue,
    #[error("frame version {0} is not known, only version 1 is")]
    FrameVersion(u32),
    #[error("record type {0} is not known: a newer version of Kafka wrote it")]
    UnknownType(u32),
    #[error("version {version} of {record} is not known: a newer version of Kafka wrote it")]
    UnknownVersion { record: &'static str, version: u32 },
    #[error("control record type {0} is not known")]
    UnknownControlType(i16),
    #[error("a control record without a type")]
    NoControlType,
    #[error("version {version} of {record} is not known")]
    UnknownControlVersion { record: &'static str, version: i16 },
    #[error("{record} cannot be read: {source}")]
    Malformed { record: &'static str, source: DecodeError },
    #[error("{bytes} bytes follow a {record}")]
    TrailingBytes { record: &'static str, bytes: usize },
    #[error("the head of a record cannot be read: {0}")]
    Head(DecodeError),
}

/// One line per record type: Kafka's number, and the module and name of the message.
macro_rules! metadata_records {
    ($($key:literal => $module:ident :: $message:ident as $variant:ident;)*) => {
        /// A record of the metadata log.
        #[derive(Clone, Debug, PartialEq)]
        pub enum KafkaRecord {
            $($variant(ottla_protocol::records::$module::$message),)*
        }

        $(impl From<ottla_protocol::records::$module::$message> for KafkaRecord {
            fn from(record: ottla_protocol::records::$module::$message) -> Self {
                KafkaRecord::$variant(record)
            }
        })*

        impl KafkaRecord {
            fn decode_message(key: u32, version: u32, input: &mut Decoder) -> Result<Self, RecordError> {
                match key {
                    $($key => message(version, input).map(KafkaRecord::$variant),)*
                    _ => Err(RecordError::UnknownType(key)),
                }
            }

            /// Kafka's name of the record type.
            pub fn name(&self) -> &'static str {
                match self {
                    $(KafkaRecord::$variant(_) => <ottla_protocol::records::$module::$message as Message>::NAME,)*
                }
            }

            /// The newest version there is.
            pub fn newest_version(&self) -> i16 {
                match self {
                    $(KafkaRecord::$variant(_) =>
                        *<ottla_protocol::records::$module::$message as Message>::VERSIONS.end(),)*
                }
            }

            fn key(&self) -> u32 {
                match self {
                    $(KafkaRecord::$variant(_) => $key,)*
                }
            }

            fn encode_message(&self, version: i16, output: &mut Encoder) -> Result<(), EncodeError> {
                match self {
                    $(KafkaRecord::$variant(record) => record.encode(output, version),)*
                }
            }
        }
    };
}

metadata_records! {
    0 => register_broker_record::RegisterBrokerRecord as RegisterBroker;
    1 => unregister_broker_record::UnregisterBrokerRecord as UnregisterBroker;
    2 => topic_record::TopicRecord as Topic;
    3 => partition_record::PartitionRecord as Partition;
    4 => config_record::ConfigRecord as Config;
    5 => partition_change_record::PartitionChangeRecord as PartitionChange;
    7 => fence_broker_record::FenceBrokerRecord as FenceBroker;
    8 => unfence_broker_record::UnfenceBrokerRecord as UnfenceBroker;
    9 => remove_topic_record::RemoveTopicRecord as RemoveTopic;
    10 => delegation_token_record::DelegationTokenRecord as DelegationToken;
    11 => user_scram_credential_record::UserScramCredentialRecord as UserScramCredential;
    12 => feature_level_record::FeatureLevelRecord as FeatureLevel;
    14 => client_quota_record::ClientQuotaRecord as ClientQuota;
    15 => producer_ids_record::ProducerIdsRecord as ProducerIds;
    17 => broker_registration_change_record::BrokerRegistrationChangeRecord as BrokerRegistrationChange;
    18 => access_control_entry_record::AccessControlEntryRecord as AccessControlEntry;
    19 => remove_access_control_entry_record::RemoveAccessControlEntryRecord as RemoveAccessControlEntry;
    20 => no_op_record::NoOpRecord as NoOp;
    21 => zk_migration_state_record::ZkMigrationStateRecord as ZkMigrationState;
    22 => remove_user_scram_credential_record::RemoveUserScramCredentialRecord as RemoveUserScramCredential;
    23 => begin_transaction_record::BeginTransactionRecord as BeginTransaction;
    24 => end_transaction_record::EndTransactionRecord as EndTransaction;
    25 => abort_transaction_record::AbortTransactionRecord as AbortTransaction;
    26 => remove_delegation_token_record::RemoveDelegationTokenRecord as RemoveDelegationToken;
    27 => register_controller_record::RegisterControllerRecord as RegisterController;
    28 => clear_elr_record::ClearElrRecord as ClearElr;
    29 => unregister_controller_record::UnregisterControllerRecord as UnregisterController;
}

impl KafkaRecord {
    /// Reads the value of a record.
    pub fn decode(value: Bytes) -> Result<KafkaRecord, RecordError> {
        let mut input = Decoder::with_budget(value, DECODE_BUDGET_BYTES);
        let frame_version = input.unsigned_varint().map_err(RecordError::Head)?;
        if frame_version != FRAME_VERSION {
            return Err(RecordError::FrameVersion(frame_version));
        }
        let key = input.unsigned_varint().map_err(RecordError::Head)?;
        let version = input.unsigned_varint().map_err(RecordError::Head)?;
        let record = KafkaRecord::decode_message(key, version, &mut input)?;
        match input.remaining() {
            0 => Ok(record),
            bytes => Err(RecordError::TrailingBytes { record: record.name(), bytes }),
        }
    }

    /// The value of a record, as Kafka writes it.
    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut output = Encoder::new();
        output.unsigned_varint(FRAME_VERSION);
        output.unsigned_varint(self.key());
        output.unsigned_varint(u32::try_from(version).unwrap_or(u32::MAX));
        self.encode_message(version, &mut output)?;
        output.finish_contiguous()
    }
}

fn message<M: Message>(version: u32, input: &mut Decoder) -> Result<M, RecordError> {
    let known = i16::try_from(version).ok().filter(|version| M::VERSIONS.contains(version));
    let known = known.ok_or(RecordError::UnknownVersion { record: M::NAME, version })?;
    M::decode(input, known).map_err(|source| RecordError::Malformed { record: M::NAME, source })
}

/// A record of a control batch: what the quorum's own protocol left in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// Who voted in the epoch that begins here.
    LeaderChange {
        voters: Vec<i32>,
    },
    SnapshotHeader,
    /// The end of a snapshot that is whole.
    SnapshotFooter,
    KRaftVersion(i16),
    /// The voters from here on, where they can change.
    Voters(Vec<i32>),
}

impl ControlRecord {
    pub(crate) const LEADER_CHANGE: i16 = 2;
    pub(crate) const SNAPSHOT_HEADER: i16 = 3;
    pub(crate) const SNAPSHOT_FOOTER: i16 = 4;
    pub(crate) const KRAFT_VERSION: i16 = 5;
    pub(crate) const KRAFT_VOTERS: i16 = 6;

    /// Reads a control record: the key is a version and the type, the value begins with its own version.
    pub fn decode(key: Option<&[u8]>, value: Option<Bytes>) -> Result<ControlRecord, RecordError> {
        let Some(&[_, _, high, low, ..]) = key else { return Err(RecordError::NoControlType) };
        let control_type = i16::from_be_bytes([high, low]);
        let value = value.ok_or(RecordError::NoValue)?;
        match control_type {
            Self::LEADER_CHANGE => {
                let message: LeaderChangeMessage = control_message(value)?;
                let voters = message.voters.iter().map(|voter| voter.voter_id).collect();
                Ok(ControlRecord::LeaderChange { voters })
            }
            Self::SNAPSHOT_HEADER => {
                control_message::<SnapshotHeaderRecord>(value).map(|_| ControlRecord::SnapshotHeader)
            }
            // It says nothing; that it is there does.
            Self::SNAPSHOT_FOOTER => Ok(ControlRecord::SnapshotFooter),
            Self::KRAFT_VERSION => {
                let message: KRaftVersionRecord = control_message(value)?;
                Ok(ControlRecord::KRaftVersion(message.k_raft_version))
            }
            Self::KRAFT_VOTERS => {
                let message: VotersRecord = control_message(value)?;
                Ok(ControlRecord::Voters(message.voters.iter().map(|voter| voter.voter_id).collect()))
            }
            other => Err(RecordError::UnknownControlType(other)),
        }
    }
}

fn control_message<M: Message>(value: Bytes) -> Result<M, RecordError> {
    let malformed = |source| RecordError::Malformed { record: M::NAME, source };
    let mut input = Decoder::with_budget(value, DECODE_BUDGET_BYTES);
    let version = input.peek_int16(0).map_err(malformed)?;
    if !M::VERSIONS.contains(&version) {
        return Err(RecordError::UnknownControlVersion { record: M::NAME, version });
    }
    M::decode(&mut input, version).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use ottla_protocol::records::no_op_record::NoOpRecord;
    use ottla_protocol::records::topic_record::TopicRecord;
    use ottla_types::Uuid;

    use super::*;

    #[test]
    fn a_record_is_what_kafka_writes() {
        let record = KafkaRecord::from(TopicRecord { name: "a".into(), topic_id: Uuid([7; 16]) });
        let bytes = record.encode(0).unwrap();
        let mut expected = vec![1, 2, 0, 2, b'a'];
        expected.extend([7; 16]);
        expected.push(0);
        assert_eq!(bytes, expected);
        assert_eq!(KafkaRecord::decode(bytes), Ok(record));
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_number() {
        use RecordError::{FrameVersion, Head, TrailingBytes, UnknownType, UnknownVersion};
        let end = DecodeError::UnexpectedEnd { needed: 1, remaining: 0 };
        for (bytes, expected) in [
            (&b""[..], Head(end.clone())),
            (b"\x01", Head(end.clone())),
            (b"\x01\x02", Head(end)),
            (b"\x00\x02\x00", FrameVersion(0)),
            (b"\x02\x02\x00", FrameVersion(2)),
            (b"\x01\x1e\x00", UnknownType(30)),
            (b"\x01\x06\x00", UnknownType(6)),
            (b"\x01\x80\x80\x04\x00", UnknownType(65536)),
            (b"\x01\x02\x01", UnknownVersion { record: "TopicRecord", version: 1 }),
            (b"\x01\x14\x80\x80\x04", UnknownVersion { record: "NoOpRecord", version: 65536 }),
            (b"\x01\x14\x00\x00\x00", TrailingBytes { record: "NoOpRecord", bytes: 1 }),
        ] {
            assert_eq!(KafkaRecord::decode(Bytes::from_static(bytes)), Err(expected), "{:?}", bytes.escape_ascii());
        }
        assert_eq!(KafkaRecord::decode(Bytes::from_static(b"\x01\x14\x00\x00")), Ok(NoOpRecord::default().into()));
    }

    #[test]
    fn hostile_control_records() {
        use RecordError::{NoControlType, NoValue, UnknownControlType, UnknownControlVersion};
        let voters = "VotersRecord";
        for (key, value, expected) in [
            (None, Some(&b""[..]), NoControlType),
            (Some(&b"\x00\x00\x00"[..]), Some(b""), NoControlType),
            (Some(b"\x00\x00\x00\x06"), None, NoValue),
            (Some(b"\x00\x00\x00\x01"), Some(b""), UnknownControlType(1)),
            (Some(b"\x00\x00\x00\x07"), Some(b""), UnknownControlType(7)),
            (Some(b"\x00\x00\x00\x06"), Some(b"\x00\x01"), UnknownControlVersion { record: voters, version: 1 }),
        ] {
            assert_eq!(ControlRecord::decode(key, value.map(Bytes::from_static)), Err(expected));
        }
        let cut = ControlRecord::decode(Some(b"\x00\x00\x00\x06"), Some(Bytes::from_static(b"\x00\x00\xff")));
        assert!(matches!(cut, Err(RecordError::Malformed { record: "VotersRecord", .. })), "{cut:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(key: Vec<u8>, value: Vec<u8>) {
            let _ = KafkaRecord::decode(Bytes::from(value.clone()));
            let _ = ControlRecord::decode(Some(&key), Some(Bytes::from(value)));
        }
    }
}
