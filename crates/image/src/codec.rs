//! The bytes of metadata records.
//!
//! A batch is a count and then, for each record, its length and its body. A body begins with the record's kind and the
//! version of its layout; integers are big-endian. A kind or version this build does not know is refused: a record that
//! is skipped would leave a node with another image than its peers. Bytes come from disk and from other nodes, so no
//! length is believed before it was compared with what is there. Checksums are the container's business.

use std::sync::Arc;

use ottla_types::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, Uuid};

use crate::partition::{LeaderRecoveryState, PartitionChange, PartitionRegistration};
use crate::record::{ConfigResource, ConfigResourceType, MetadataRecord};
use crate::registration::{
    BrokerListener, BrokerRegistration, BrokerRegistrationChange, SecurityProtocol, SupportedFeature,
};

/// The version of every layout so far. A changed layout takes the next one, and keeps reading this one.
const LAYOUT_VERSION: u8 = 1;

/// Why bytes are not metadata records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{needed} bytes are needed at position {position}, and {remaining} are left")]
    Truncated { position: usize, needed: usize, remaining: usize },
    #[error("{remaining} bytes follow the end of a value at position {position}")]
    TrailingBytes { position: usize, remaining: usize },
    #[error("record kind {kind} is unknown: written by a newer version")]
    UnknownKind { kind: u16 },
    #[error("version {version} of record kind {kind} is unknown: written by a newer version")]
    UnknownVersion { kind: u16, version: u8 },
    #[error("the text at position {position} is not UTF-8")]
    NotUtf8 { position: usize },
    #[error("{value} at position {position} is not a {what}")]
    UnknownValue { what: &'static str, value: i64, position: usize },
}

/// Appends a batch of records to `output`.
pub fn encode_records(records: &[MetadataRecord], output: &mut Vec<u8>) {
    put_length(records.len(), output);
    for record in records {
        let start = output.len();
        output.extend_from_slice(&[0; 4]);
        encode_record(record, output);
        let length = u32::try_from(output.len() - start - 4).expect("invariant: a record is smaller than 4 GiB");
        output[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Reads a batch of records; `bytes` must hold it exactly.
pub fn decode_records(bytes: &[u8]) -> Result<Vec<MetadataRecord>, DecodeError> {
    let mut input = Input { bytes, position: 0 };
    // A record takes at least its length, kind and version.
    let count = input.count(7)?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let length = u32::take(&mut input)? as usize;
        let start = input.position;
        let body = input.slice(length)?;
        let mut body = Input { bytes: &bytes[..start + body.len()], position: start };
        records.push(decode_record(&mut body)?);
        body.finish()?;
    }
    input.finish()?;
    Ok(records)
}

/// One line per record: its kind, and its fields in the order of the bytes.
macro_rules! record_layouts {
    ($($kind:literal => $variant:ident $fields:tt;)*) => {
        fn encode_record(record: &MetadataRecord, output: &mut Vec<u8>) {
            match record {
                $(record_layouts!(@pattern $variant $fields) => {
                    ($kind as u16).put(output);
                    LAYOUT_VERSION.put(output);
                    record_layouts!(@put output $fields);
                })*
            }
        }

        fn decode_record(input: &mut Input<'_>) -> Result<MetadataRecord, DecodeError> {
            let kind = u16::take(input)?;
            let version = u8::take(input)?;
            match kind {
                $($kind if version == LAYOUT_VERSION => Ok(record_layouts!(@take input $variant $fields)),)*
                $($kind => Err(DecodeError::UnknownVersion { kind, version }),)*
                _ => Err(DecodeError::UnknownKind { kind }),
            }
        }
    };
    (@pattern $variant:ident { $($field:ident),* }) => { MetadataRecord::$variant { $($field),* } };
    (@pattern $variant:ident ( $field:ident )) => { MetadataRecord::$variant($field) };
    (@put $output:ident { $($field:ident),* }) => { $($field.put($output);)* };
    (@put $output:ident ( $field:ident )) => { $field.put($output); };
    (@take $input:ident $variant:ident { $($field:ident),* }) => {
        MetadataRecord::$variant { $($field: Wire::take($input)?),* }
    };
    (@take $input:ident $variant:ident ( $field:ident )) => { MetadataRecord::$variant(Wire::take($input)?) };
}

record_layouts! {
    1 => ClusterId { cluster_id };
    2 => Topic { name, topic_id };
    3 => RemoveTopic { topic_id };
    4 => Partition { topic_id, partition, registration };
    5 => PartitionChange { topic_id, partition, change };
    6 => Config { resource, key, value };
    7 => RegisterBroker(registration);
    8 => UnregisterBroker { node_id, broker_epoch };
    9 => BrokerRegistrationChange(change);
    10 => NextBrokerEpoch { broker_epoch };
    11 => FeatureLevel { name, level };
    12 => ProducerIds { node_id, broker_epoch, next_producer_id };
}

/// A value with one layout.
trait Wire: Sized {
    /// The fewest bytes a value takes: bounds how many of them a declared count can mean.
    const MIN_SIZE: usize;
    fn put(&self, output: &mut Vec<u8>);
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError>;
}

struct Input<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Input<'a> {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let truncated = DecodeError::Truncated { position: self.position, needed: length, remaining: self.remaining() };
        let end = self.position.checked_add(length).ok_or(truncated.clone())?;
        let slice = self.bytes.get(self.position..end).ok_or(truncated)?;
        self.position = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let slice = self.slice(N)?;
        Ok(slice.try_into().expect("invariant: the slice has the length asked for"))
    }

    /// A count of elements which take at least `min_size` bytes each.
    fn count(&mut self, min_size: usize) -> Result<usize, DecodeError> {
        let count = u32::take(self)? as usize;
        let needed = count.saturating_mul(min_size);
        if needed > self.remaining() {
            return Err(DecodeError::Truncated { position: self.position, needed, remaining: self.remaining() });
        }
        Ok(count)
    }

    fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(DecodeError::TrailingBytes { position: self.position, remaining }),
        }
    }
}

fn put_length(length: usize, output: &mut Vec<u8>) {
    u32::try_from(length).expect("invariant: metadata values are smaller than 4 GiB").put(output);
}

macro_rules! wire_integers {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            const MIN_SIZE: usize = size_of::<$type>();

            fn put(&self, output: &mut Vec<u8>) {
                output.extend_from_slice(&self.to_be_bytes());
            }

            fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                Ok(<$type>::from_be_bytes(input.array()?))
            }
        }
    )*};
}

wire_integers!(u8, i8, u16, i16, u32, i32, i64);

macro_rules! wire_newtypes {
    ($($type:ident($inner:ty)),*) => {$(
        impl Wire for $type {
            const MIN_SIZE: usize = <$inner>::MIN_SIZE;

            fn put(&self, output: &mut Vec<u8>) {
                self.0.put(output);
            }

            fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                Ok($type(<$inner>::take(input)?))
            }
        }
    )*};
}

wire_newtypes!(NodeId(i32), LeaderEpoch(i32), PartitionEpoch(i32), BrokerEpoch(i64));

macro_rules! wire_codes {
    ($($type:ident($inner:ty) = $what:literal),*) => {$(
        impl Wire for $type {
            const MIN_SIZE: usize = <$inner>::MIN_SIZE;

            fn put(&self, output: &mut Vec<u8>) {
                (*self as $inner).put(output);
            }

            fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                let position = input.position;
                let code = <$inner>::take(input)?;
                $type::from_code(code).ok_or(DecodeError::UnknownValue { what: $what, value: code.into(), position })
            }
        }
    )*};
}

wire_codes!(
    ConfigResourceType(i8) = "configuration resource type",
    LeaderRecoveryState(i8) = "leader recovery state",
    SecurityProtocol(i16) = "security protocol"
);

macro_rules! wire_structs {
    ($($type:ident { $($field:ident: $field_type:ty),* })*) => {$(
        impl Wire for $type {
            const MIN_SIZE: usize = 0 $(+ <$field_type>::MIN_SIZE)*;

            fn put(&self, output: &mut Vec<u8>) {
                $(self.$field.put(output);)*
            }

            fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                Ok($type { $($field: Wire::take(input)?),* })
            }
        }
    )*};
}

wire_structs! {
    ConfigResource { resource_type: ConfigResourceType, name: Arc<str> }
    PartitionRegistration {
        replicas: Vec<NodeId>, directories: Vec<Uuid>, isr: Vec<NodeId>, adding_replicas: Vec<NodeId>,
        removing_replicas: Vec<NodeId>, eligible_leader_replicas: Vec<NodeId>,
        last_known_eligible_leader_replicas: Vec<NodeId>, leader: Option<NodeId>,
        leader_recovery_state: LeaderRecoveryState, leader_epoch: LeaderEpoch, partition_epoch: PartitionEpoch
    }
    PartitionChange {
        replicas: Option<Vec<NodeId>>, directories: Option<Vec<Uuid>>, isr: Option<Vec<NodeId>>,
        adding_replicas: Option<Vec<NodeId>>, removing_replicas: Option<Vec<NodeId>>,
        eligible_leader_replicas: Option<Vec<NodeId>>, last_known_eligible_leader_replicas: Option<Vec<NodeId>>,
        leader: Option<Option<NodeId>>, leader_recovery_state: Option<LeaderRecoveryState>
    }
    BrokerRegistration {
        node_id: NodeId, incarnation_id: Uuid, broker_epoch: BrokerEpoch, listeners: Vec<BrokerListener>,
        rack: Option<Arc<str>>, features: Vec<SupportedFeature>, log_dirs: Vec<Uuid>, cordoned_log_dirs: Vec<Uuid>,
        fenced: bool, in_controlled_shutdown: bool
    }
    BrokerListener { name: Arc<str>, host: Arc<str>, port: u16, security_protocol: SecurityProtocol }
    SupportedFeature { name: Arc<str>, min_level: i16, max_level: i16 }
    BrokerRegistrationChange {
        node_id: NodeId, broker_epoch: BrokerEpoch, fenced: Option<bool>, in_controlled_shutdown: Option<bool>,
        log_dirs: Option<Vec<Uuid>>, cordoned_log_dirs: Option<Vec<Uuid>>
    }
}

impl Wire for bool {
    const MIN_SIZE: usize = 1;

    fn put(&self, output: &mut Vec<u8>) {
        u8::from(*self).put(output);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let position = input.position;
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::UnknownValue { what: "truth value", value: value.into(), position }),
        }
    }
}

impl Wire for Uuid {
    const MIN_SIZE: usize = 16;

    fn put(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&self.0);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Ok(Uuid(input.array()?))
    }
}

impl Wire for Arc<str> {
    const MIN_SIZE: usize = 4;

    fn put(&self, output: &mut Vec<u8>) {
        put_length(self.len(), output);
        output.extend_from_slice(self.as_bytes());
    }

    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let length = u32::take(input)? as usize;
        let position = input.position;
        let text = std::str::from_utf8(input.slice(length)?).map_err(|_| DecodeError::NotUtf8 { position })?;
        Ok(Arc::from(text))
    }
}

impl<T: Wire> Wire for Option<T> {
    const MIN_SIZE: usize = 1;

    fn put(&self, output: &mut Vec<u8>) {
        self.is_some().put(output);
        if let Some(value) = self {
            value.put(output);
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::take(input)? { Some(T::take(input)?) } else { None })
    }
}

impl<T: Wire> Wire for Vec<T> {
    const MIN_SIZE: usize = 4;

    fn put(&self, output: &mut Vec<u8>) {
        put_length(self.len(), output);
        for element in self {
            element.put(output);
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        // In memory an element is at most a few times its bytes, so the count's check bounds this allocation.
        let count = input.count(T::MIN_SIZE)?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::take(input)?);
        }
        Ok(elements)
    }
}
