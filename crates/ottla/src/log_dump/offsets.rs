//! Records of `__consumer_offsets`, by what they mean.

use bytes::Bytes;
use ottla_group::{DecodedRecord, GroupRecord};
use ottla_record::Record;
use serde_json::{Value, json};

use super::Style;
use crate::output::Output;
use crate::time::format_timestamp;
use crate::topic::counted;

pub fn show(record: &Record<'_>, body: &Bytes, style: Style, output: &mut Output) -> anyhow::Result<()> {
    let decoded = match record.key {
        None => Err("no key".to_owned()),
        Some(key) => DecodedRecord::decode(body.slice_ref(key), record.value.map(|value| body.slice_ref(value)))
            .map_err(|error| error.to_string()),
    };
    if style.json {
        let mut object = document(&decoded);
        object["offset"] = json!(record.offset);
        object["timestamp"] = json!(record.timestamp);
        output.json_line(&object)
    } else {
        output.line(format_args!("  {} {} {}", record.offset, format_timestamp(record.timestamp), text(&decoded)))
    }
}

fn text(decoded: &Result<DecodedRecord, String>) -> String {
    match decoded {
        Err(error) => format!("not a record of __consumer_offsets: {error}"),
        Ok(DecodedRecord::Other(record_type)) => format!("record of type {record_type}, which this tool does not read"),
        Ok(DecodedRecord::Known(GroupRecord::OffsetCommit { group, topic, partition, value: None })) => {
            format!("offset of group \"{group}\" for {topic}-{partition} removed")
        }
        Ok(DecodedRecord::Known(GroupRecord::OffsetCommit { group, topic, partition, value: Some(value) })) => {
            let metadata =
                if value.metadata.is_empty() { String::new() } else { format!(", metadata \"{}\"", value.metadata) };
            format!(
                "group \"{group}\" committed {} for {topic}-{partition} at {}{metadata}",
                value.offset,
                format_timestamp(value.commit_timestamp_ms),
            )
        }
        Ok(DecodedRecord::Known(GroupRecord::GroupMetadata { group, value: None })) => {
            format!("group \"{group}\" removed")
        }
        Ok(DecodedRecord::Known(GroupRecord::GroupMetadata { group, value: Some(value) })) => {
            let members: Vec<&str> = value.members.iter().map(|member| &*member.member_id).collect();
            let led = match (value.protocol.as_deref(), value.leader.as_deref()) {
                (Some(protocol), Some(leader)) => format!(", {protocol}, led by {leader}"),
                _ => String::new(),
            };
            let names = if members.is_empty() { String::new() } else { format!(": {}", members.join(", ")) };
            let count = counted(members.len() as i64, "member");
            format!("group \"{group}\" generation {}{led}, {count}{names}", value.generation)
        }
    }
}

fn document(decoded: &Result<DecodedRecord, String>) -> Value {
    match decoded {
        Err(error) => json!({"kind": "unreadable", "reason": error}),
        Ok(DecodedRecord::Other(record_type)) => json!({"kind": "other", "type": record_type}),
        Ok(DecodedRecord::Known(GroupRecord::OffsetCommit { group, topic, partition, value })) => json!({
            "kind": "offset_commit",
            "group": &**group,
            "topic": &**topic,
            "partition": partition,
            "value": value.as_ref().map(|value| json!({
                "offset": value.offset,
                "leader_epoch": value.leader_epoch,
                "metadata": &*value.metadata,
                "commit_timestamp": value.commit_timestamp_ms,
                "expire_timestamp": value.expire_timestamp_ms,
                "topic_id": (!value.topic_id.is_zero()).then(|| value.topic_id.to_string()),
            })),
        }),
        Ok(DecodedRecord::Known(GroupRecord::GroupMetadata { group, value })) => json!({
            "kind": "group_metadata",
            "group": &**group,
            "value": value.as_ref().map(|value| json!({
                "generation": value.generation,
                "protocol_type": &*value.protocol_type,
                "protocol": value.protocol.as_deref(),
                "leader": value.leader.as_deref(),
                "current_state_timestamp": value.current_state_timestamp_ms,
                "members": value.members.iter().map(|member| json!({
                    "member_id": &*member.member_id,
                    "group_instance_id": member.group_instance_id.as_deref(),
                    "client_id": &*member.client_id,
                    "client_host": &*member.client_host,
                    "session_timeout_ms": member.session_timeout_ms,
                    "rebalance_timeout_ms": member.rebalance_timeout_ms,
                })).collect::<Vec<_>>(),
            })),
        }),
    }
}
