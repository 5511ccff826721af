//! The files beside the segments: indexes, producer snapshots, checkpoints, properties.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use bytes::{Buf, Bytes};
use ottla_protocol::Decoder;
use ottla_protocol::records::producer_snapshot::ProducerSnapshot;
use serde_json::{Map, Value, json};

use super::Style;
use crate::output::Output;
use crate::table::{Align, Table};
use crate::time::format_timestamp;

/// No such file is larger; a longer one is something else under its name.
const MAX_FILE_BYTES: u64 = 1 << 30;
const PRODUCER_SNAPSHOT_VERSION: i16 = 1;
const TRANSACTION_ENTRY_SIZE: usize = 34;

pub fn read(path: &Path) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).context("cannot be read")?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).context("cannot be read")?;
    anyhow::ensure!(bytes.len() as u64 <= MAX_FILE_BYTES, "longer than {MAX_FILE_BYTES} bytes");
    Ok(bytes.into())
}

/// Prints a table, or each of its rows as a line of JSON.
fn print(rows: &[Value], columns: &[(&'static str, Align)], style: Style, output: &mut Output) -> anyhow::Result<()> {
    if style.json {
        return rows.iter().try_for_each(|row| output.json_line(row));
    }
    let mut table = Table::new(columns);
    for row in rows {
        table.cells(columns.iter().map(|(column, _)| match &row[*column] {
            Value::String(text) => text.clone(),
            Value::Number(number) if column.ends_with("timestamp") => {
                number.as_i64().map_or_else(String::new, format_timestamp)
            }
            other => other.to_string(),
        }));
    }
    output.line(table.render())
}

pub fn offset_index(path: &Path, base_offset: i64, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    let mut bytes = read(path)?;
    let mut rows = Vec::new();
    while bytes.remaining() >= 8 {
        let (relative_offset, position) = (bytes.get_u32(), bytes.get_u32());
        // Behind its entries a preallocated file holds zeros.
        if relative_offset == 0 && position == 0 && bytes.iter().all(|&byte| byte == 0) {
            bytes.clear();
            break;
        }
        rows.push(json!({"offset": base_offset.saturating_add(relative_offset.into()), "position": position}));
    }
    print(&rows, &[("offset", Align::Right), ("position", Align::Right)], style, output)?;
    remainder(&bytes, output, style)
}

pub fn time_index(path: &Path, base_offset: i64, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    let mut bytes = read(path)?;
    let mut rows = Vec::new();
    while bytes.remaining() >= 12 {
        let (timestamp, relative_offset) = (bytes.get_i64(), bytes.get_u32());
        if timestamp == 0 && relative_offset == 0 && bytes.iter().all(|&byte| byte == 0) {
            bytes.clear();
            break;
        }
        rows.push(json!({"timestamp": timestamp, "offset": base_offset.saturating_add(relative_offset.into())}));
    }
    print(&rows, &[("timestamp", Align::Left), ("offset", Align::Right)], style, output)?;
    remainder(&bytes, output, style)
}

/// The transactions that were aborted in a segment.
pub fn transaction_index(path: &Path, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    let mut bytes = read(path)?;
    let mut rows = Vec::new();
    while bytes.remaining() >= TRANSACTION_ENTRY_SIZE {
        rows.push(json!({
            "version": bytes.get_i16(),
            "producer_id": bytes.get_i64(),
            "first_offset": bytes.get_i64(),
            "last_offset": bytes.get_i64(),
            "last_stable_offset": bytes.get_i64(),
        }));
    }
    let columns = ["version", "producer_id", "first_offset", "last_offset", "last_stable_offset"]
        .map(|name| (name, Align::Right));
    print(&rows, &columns, style, output)?;
    remainder(&bytes, output, style)
}

fn remainder(bytes: &Bytes, output: &mut Output, style: Style) -> anyhow::Result<bool> {
    if bytes.is_empty() {
        return Ok(true);
    }
    damage(&format!("{} bytes behind the last whole entry", bytes.len()), style, output)
}

/// Says what is wrong at a byte; always `false`, for "not in order".
pub fn damage_at(position: u64, reason: &str, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    if style.json {
        output.json_line(&json!({"kind": "damage", "position": position, "reason": reason}))?;
    } else {
        output.line(format_args!("DAMAGE at {position}: {reason}"))?;
    }
    Ok(false)
}

/// Says what is wrong; always `false`, for "not in order".
fn damage(reason: &str, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    if style.json {
        output.json_line(&json!({"kind": "damage", "reason": reason}))?;
    } else {
        output.line(format_args!("DAMAGE: {reason}"))?;
    }
    Ok(false)
}

pub fn producer_snapshot(path: &Path, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    let bytes = read(path)?;
    let version = bytes.first_chunk::<2>().map(|version| i16::from_be_bytes(*version));
    if version != Some(PRODUCER_SNAPSHOT_VERSION) {
        return damage(&format!("version {version:?}, only version 1 is known"), style, output);
    }
    let mut input = Decoder::new(bytes.slice(2..));
    let snapshot = match ProducerSnapshot::decode(&mut input, PRODUCER_SNAPSHOT_VERSION) {
        Ok(snapshot) => snapshot,
        Err(error) => return damage(&error.to_string(), style, output),
    };
    let rows: Vec<Value> = snapshot
        .producer_entries
        .iter()
        .map(|entry| {
            json!({
                "producer_id": entry.producer_id,
                "producer_epoch": entry.epoch,
                "last_sequence": entry.last_sequence,
                "last_offset": entry.last_offset,
                "offset_delta": entry.offset_delta,
                "timestamp": entry.timestamp,
                "coordinator_epoch": entry.coordinator_epoch,
                "current_transaction_first_offset": entry.current_txn_first_offset,
            })
        })
        .collect();
    let columns = [
        ("producer_id", Align::Right),
        ("producer_epoch", Align::Right),
        ("last_sequence", Align::Right),
        ("last_offset", Align::Right),
        ("offset_delta", Align::Right),
        ("timestamp", Align::Left),
        ("coordinator_epoch", Align::Right),
        ("current_transaction_first_offset", Align::Right),
    ];
    print(&rows, &columns, style, output)?;
    let covered = bytes.get(6..).unwrap_or_default();
    let computed = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, covered) as u32;
    if computed != snapshot.crc {
        return damage(&format!("its CRC is {:#010x}, its bytes give {computed:#010x}", snapshot.crc), style, output);
    }
    remainder(&input.into_remaining(), output, style)
}

/// A version, a count, and a line of fields for each entry.
pub fn checkpoint(path: &Path, fields: &[&'static str], style: Style, output: &mut Output) -> anyhow::Result<bool> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let Some(version) = lines.next() else { return Ok(true) };
    if version.trim() != "0" {
        return damage(&format!("version '{version}', only version 0 is known"), style, output);
    }
    let announced = lines.next().unwrap_or_default().trim().to_owned();
    let mut rows = Vec::new();
    let mut wrong = None;
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let found: Vec<&str> = line.split_whitespace().collect();
        if found.len() != fields.len() {
            wrong.get_or_insert(number + 3);
            continue;
        }
        let row: Map<String, Value> = fields
            .iter()
            .zip(found)
            .map(|(field, text)| {
                let number = text.parse::<i64>().ok().filter(|_| *field != "topic");
                ((*field).to_owned(), number.map_or_else(|| json!(text), |number| json!(number)))
            })
            .collect();
        rows.push(Value::Object(row));
    }
    let columns: Vec<(&'static str, Align)> =
        fields.iter().map(|&field| (field, if field == "topic" { Align::Left } else { Align::Right })).collect();
    print(&rows, &columns, style, output)?;
    if let Some(line) = wrong {
        return damage(&format!("line {line} is not what a checkpoint has there"), style, output);
    }
    if announced != rows.len().to_string() {
        return damage(&format!("it announces {announced} entries and has {}", rows.len()), style, output);
    }
    Ok(true)
}

pub fn properties(path: &Path, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let pairs = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows: Vec<Value> = pairs
        .map(|line| {
            let (key, value) = line.split_once(['=', ':']).unwrap_or((line, ""));
            json!({"key": key.trim(), "value": value.trim()})
        })
        .collect();
    print(&rows, &[("key", Align::Left), ("value", Align::Left)], style, output)?;
    Ok(true)
}
