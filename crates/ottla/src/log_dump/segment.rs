//! Segments: batches and their records.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use ottla_record::{
    BATCH_OVERHEAD, BatchHeader, ControlType, DecompressError, DecompressionLimits, Record, Records, decompress,
    verify_crc,
};
use serde_json::{Map, Value, json};

use super::{Style, offsets};
use crate::json as as_json;
use crate::output::Output;
use crate::time::format_timestamp;
use crate::topic::counted;

/// Shows every batch up to the first that is none; whether all was in order.
pub fn dump(path: &Path, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    let file = File::open(path).context("cannot be read")?;
    let length = file.metadata().context("cannot be read")?.len();
    let mut input = BufReader::with_capacity(1 << 20, file);
    let mut position = 0;
    let mut whole = true;
    while position < length {
        let batch = match next_batch(&mut input, length - position)? {
            Ok(batch) => batch,
            Err(reason) => {
                damage(position, &reason, style, output)?;
                return Ok(false);
            }
        };
        let size = batch.len() as u64;
        whole &= show(&batch, position, style, output)?;
        position += size;
    }
    Ok(whole)
}

/// A whole batch, or why there is none.
fn next_batch(input: &mut impl Read, available: u64) -> anyhow::Result<Result<Bytes, String>> {
    let mut batch = vec![0; BATCH_OVERHEAD.min(usize::try_from(available).unwrap_or(BATCH_OVERHEAD))];
    input.read_exact(&mut batch).context("cannot be read")?;
    let header = match BatchHeader::parse(&batch) {
        Ok(header) => header,
        Err(error) => return Ok(Err(format!("{error}; {available} bytes are left"))),
    };
    let size = header.size_in_bytes();
    if size as u64 > available {
        return Ok(Err(format!("a batch of {size} bytes is cut off, {available} bytes are left")));
    }
    batch.resize(size, 0);
    input.read_exact(&mut batch[BATCH_OVERHEAD..]).context("cannot be read")?;
    Ok(Ok(batch.into()))
}

fn damage(position: u64, reason: &str, style: Style, output: &mut Output) -> anyhow::Result<()> {
    if style.json {
        output.json_line(&json!({"kind": "damage", "position": position, "reason": reason}))
    } else {
        output.line(format_args!("DAMAGE at {position}: {reason}"))
    }
}

fn show(batch: &Bytes, position: u64, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    let header = BatchHeader::parse(batch).context("parsed before")?;
    let crc = verify_crc(batch);
    if style.json {
        output.json_line(&batch_document(&header, position, crc.is_ok()))?;
    } else {
        output.line(batch_line(&header, position, crc.is_ok()))?;
    }
    if let Err(error) = crc {
        damage(position, &error.to_string(), style, output)?;
        return Ok(false);
    }
    if style.batches_only {
        return Ok(true);
    }
    let codec = header.attributes.codec();
    let body = match codec.ok_or(DecompressError::UnknownCodec(header.attributes.codec_id())) {
        Ok(codec) => decompress(codec, &batch.slice(BATCH_OVERHEAD..), &DecompressionLimits::default()),
        Err(error) => Err(error),
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => {
            damage(position, &error.to_string(), style, output)?;
            return Ok(false);
        }
    };
    for record in Records::new(&header, &body) {
        match record {
            Ok(record) if style.offsets => offsets::show(&record, &body, style, output)?,
            Ok(record) if style.json => output.json_line(&record_document(&record, &header))?,
            Ok(record) => output.line(record_line(&record, &header))?,
            Err(error) => {
                damage(position, &error.to_string(), style, output)?;
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn batch_line(header: &BatchHeader, position: u64, crc_ok: bool) -> String {
    let mut parts = vec![
        format!(
            "batch {}..={} at {position}: {}",
            header.base_offset,
            header.last_offset(),
            counted(header.record_count.into(), "record")
        ),
        format!("{} bytes", header.size_in_bytes()),
        as_json::codec_name(header.attributes.codec(), header.attributes.codec_id()),
        format!("{} {}", header.attributes.timestamp_type().name(), format_timestamp(header.max_timestamp)),
        format!("leader epoch {}", header.partition_leader_epoch),
    ];
    if header.has_producer_id() {
        let (first, last) = (header.base_sequence, header.last_sequence());
        let (producer_id, producer_epoch) = (header.producer_id, header.producer_epoch);
        parts.push(format!("producer {producer_id} epoch {producer_epoch} sequence {first}..={last}"));
    }
    if header.attributes.is_transactional() {
        parts.push("transactional".to_owned());
    }
    if header.attributes.is_control() {
        parts.push("control".to_owned());
    }
    if let Some(delete_horizon_ms) = header.delete_horizon_ms() {
        parts.push(format!("delete horizon {}", format_timestamp(delete_horizon_ms)));
    }
    if !crc_ok {
        parts.push("CRC WRONG".to_owned());
    }
    parts.join(", ")
}

fn batch_document(header: &BatchHeader, position: u64, crc_ok: bool) -> Value {
    json!({
        "kind": "batch",
        "position": position,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset(),
        "record_count": header.record_count,
        "size": header.size_in_bytes(),
        "magic": header.magic,
        "compression": as_json::codec_name(header.attributes.codec(), header.attributes.codec_id()),
        "timestamp_type": header.attributes.timestamp_type().name(),
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "leader_epoch": header.partition_leader_epoch,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "last_sequence": header.last_sequence(),
        "transactional": header.attributes.is_transactional(),
        "control": header.attributes.is_control(),
        "delete_horizon_ms": header.delete_horizon_ms(),
        "crc": header.crc,
        "crc_ok": crc_ok,
    })
}

fn record_line(record: &Record<'_>, header: &BatchHeader) -> String {
    let mut parts = vec![format!("  {} {}", record.offset, format_timestamp(record.timestamp))];
    if header.attributes.is_control() {
        parts.push(ControlType::of(record).map_or_else(
            || "control record of an unknown type".to_owned(),
            |control_type| format!("{control_type:?}").to_uppercase(),
        ));
        return parts.join(" ");
    }
    if let Some(key) = record.key {
        parts.push(format!("key {}", quoted(Some(key))));
    }
    parts.push(format!("value {}", quoted(record.value)));
    for header in record.headers {
        parts.push(format!("header {}={}", quoted(Some(header.key)), quoted(header.value)));
    }
    parts.join(" ")
}

fn quoted(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "null".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
}

fn record_document(record: &Record<'_>, header: &BatchHeader) -> Value {
    let mut object = Map::new();
    object.insert("kind".to_owned(), json!("record"));
    object.insert("offset".to_owned(), json!(record.offset));
    object.insert("timestamp".to_owned(), json!(record.timestamp));
    as_json::put_bytes(&mut object, "key", record.key);
    as_json::put_bytes(&mut object, "value", record.value);
    object
        .insert("headers".to_owned(), as_json::headers(record.headers.iter().map(|header| (header.key, header.value))));
    if header.attributes.is_control() {
        let control_type = ControlType::of(record).map(|control_type| format!("{control_type:?}").to_uppercase());
        object.insert("control_type".to_owned(), json!(control_type));
    }
    Value::Object(object)
}
