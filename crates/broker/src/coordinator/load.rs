//! Reading a partition back into a state machine.

use bytes::Bytes;
use ottla_record::{BatchError, BatchHeader, ControlType, DecompressionLimits, Records, batches, decompress};

use super::machine::{Now, StateMachine};
use super::state_log::{LoadError, StateLog};

/// Replays every record of the log, and returns where it ended. Blocks.
pub(crate) fn replay_log<M: StateMachine>(
    machine: &mut M,
    log: &dyn StateLog,
    read_bytes: usize,
    now: Now,
) -> Result<i64, LoadError> {
    let offsets = log.offsets();
    let mut next_offset = offsets.start;
    while next_offset < offsets.end {
        let bytes = log.read(next_offset, read_bytes)?;
        let read_from = next_offset;
        for batch in batches(&bytes) {
            let (header, batch) = match batch {
                Ok(batch) => batch,
                // A read may end within a batch; the next one begins with it.
                Err(BatchError::Truncated { .. }) if next_offset > read_from => break,
                Err(source) => return Err(LoadError::Batch { offset: next_offset, source }),
            };
            replay_batch(machine, &header, &bytes.slice_ref(batch), now)?;
            next_offset = header.next_offset();
        }
        if next_offset == read_from {
            return Err(LoadError::CutOff { offset: next_offset, bytes: bytes.len() });
        }
    }
    Ok(next_offset)
}

fn replay_batch<M: StateMachine>(
    machine: &mut M,
    header: &BatchHeader,
    batch: &Bytes,
    now: Now,
) -> Result<(), LoadError> {
    let offset = header.base_offset;
    ottla_record::verify_crc(batch).map_err(|source| LoadError::Batch { offset, source })?;
    let codec_id = header.attributes.codec_id();
    let codec = header
        .attributes
        .codec()
        .ok_or(LoadError::Decompress { offset, source: ottla_record::DecompressError::UnknownCodec(codec_id) })?;
    let body = batch.slice(ottla_record::BATCH_OVERHEAD..);
    let body = decompress(codec, &body, &DecompressionLimits::default())
        .map_err(|source| LoadError::Decompress { offset, source })?;
    let transaction_of = header.attributes.is_transactional().then_some(header.producer_id);
    for record in Records::new(header, &body) {
        let record = record.map_err(|source| LoadError::Records { offset, source })?;
        if header.attributes.is_control() {
            if let Some(control) = ControlType::of(&record) {
                machine.replay_transaction_end(header.producer_id, control == ControlType::Commit);
            }
            continue;
        }
        let Some(key) = record.key else { continue };
        let value = record.value.map(|value| body.slice_ref(value));
        machine
            .replay_encoded(now, transaction_of, body.slice_ref(key), value)
            .map_err(|source| LoadError::Record { offset: record.offset, source })?;
    }
    Ok(())
}
