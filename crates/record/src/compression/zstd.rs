//! zstd frames. Contexts are reused; frames whose blocks cannot hold more than [`KEPT_BYTES`] are decompressed in one
//! call, which is faster and needs no window, others piece by piece.

use std::ops::RangeInclusive;

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective as EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, compress_bound};

use super::{Failure, KEPT_BYTES, PIECE_BYTES, take};

/// The windows a decoder must at least accept (RFC 8878), and the greatest that zstd's own accepts by default, which is
/// what its encoder uses at level 22.
const WINDOW_LOGS: RangeInclusive<u32> = 23..=27;
/// Contexts that grew beyond this (great windows, great levels) are dropped after use.
const KEPT_CONTEXT_BYTES: usize = 8 << 20;
const MAX_BLOCK_BYTES: u64 = 128 << 10;
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

#[derive(Default)]
pub(super) struct DecoderState {
    context: Option<DCtx<'static>>,
    streamed: bool,
}

impl DecoderState {
    /// Gives back what an unusual frame made the context grow to.
    pub(super) fn shrink(&mut self) {
        if std::mem::take(&mut self.streamed)
            && self.context.as_ref().is_some_and(|context| context.sizeof() > KEPT_CONTEXT_BYTES)
        {
            self.context = None;
        }
    }
}

pub(super) struct Decoder<'a> {
    body: &'a [u8],
    input: InBuffer<'a>,
    length: usize,
    state: &'a mut DecoderState,
    /// What the whole input can grow to at most, while that is small and nothing was read.
    bound: Option<usize>,
    /// A window is memory that a frame asks for: not more of it than the output may take.
    max_window_log: u32,
    within_frame: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(body: &'a [u8], state: &'a mut DecoderState, max_output_bytes: usize) -> Decoder<'a> {
        let max_window_log =
            max_output_bytes.checked_ilog2().unwrap_or(0).clamp(*WINDOW_LOGS.start(), *WINDOW_LOGS.end());
        let bound = frame_bound(body).filter(|&bound| bound <= KEPT_BYTES);
        Decoder {
            body,
            input: InBuffer::around(body),
            length: body.len(),
            state,
            bound,
            max_window_log,
            within_frame: false,
        }
    }

    pub(super) fn append_next(&mut self, output: &mut Vec<u8>, left: usize) -> Result<bool, Failure> {
        if !self.within_frame && self.input.pos() == self.length {
            return Ok(false);
        }
        let context = match &mut self.state.context {
            Some(context) => context,
            empty => empty.insert(DCtx::try_create().ok_or(Failure::Malformed)?),
        };
        if let Some(bound) = self.bound.take()
            && bound <= left
            && output.is_empty()
        {
            output.reserve(bound);
            context.decompress(output, self.body).map_err(|_| Failure::Malformed)?;
            self.input.set_pos(self.length);
            return Ok(true);
        }
        if !self.within_frame {
            context.reset(ResetDirective::SessionOnly).map_err(|_| Failure::Malformed)?;
            let max_window = DParameter::WindowLogMax(self.max_window_log);
            context.set_parameter(max_window).map_err(|_| Failure::Malformed)?;
            self.within_frame = true;
            self.state.streamed = true;
        }
        output.reserve(PIECE_BYTES.min(left.saturating_add(1)));
        let (before, taken_before) = (output.len(), self.input.pos());
        let mut target = OutBuffer::around_pos(output, before);
        let hint = context.decompress_stream(&mut target, &mut self.input).map_err(|_| Failure::Malformed)?;
        if hint == 0 {
            self.within_frame = false;
        } else if target.pos() == before && self.input.pos() == taken_before {
            return Err(Failure::Truncated);
        }
        Ok(true)
    }
}

/// The most that `bytes` can decompress to if they are exactly one frame: block headers say how far each block can go,
/// the frame's declared size only lowers that.
fn frame_bound(mut bytes: &[u8]) -> Option<usize> {
    let bytes = &mut bytes;
    if take::<4>(bytes)? != MAGIC {
        return None;
    }
    let [descriptor] = take(bytes)?;
    let single_segment = descriptor & 0x20 != 0;
    let window = if single_segment {
        None
    } else {
        let [window] = take(bytes)?;
        let base = 1_u64 << (10 + (window >> 3));
        Some(base + base / 8 * u64::from(window & 7))
    };
    let dictionary_id_bytes = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied()?;
    *bytes = bytes.get(dictionary_id_bytes..)?;
    let declared = match (descriptor >> 6, single_segment) {
        (0, false) => None,
        (0, true) => Some(u64::from(take::<1>(bytes)?[0])),
        (1, _) => Some(u64::from(u16::from_le_bytes(take(bytes)?)) + 256),
        (2, _) => Some(u64::from(u32::from_le_bytes(take(bytes)?))),
        (_, _) => Some(u64::from_le_bytes(take(bytes)?)),
    };
    let greatest_block = window.or(declared)?.min(MAX_BLOCK_BYTES);
    let mut bound = 0_u64;
    loop {
        let [low, middle, high] = take(bytes)?;
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let size = header >> 3;
        let (stored, most) = match (header >> 1) & 3 {
            0 => (size, u64::from(size)),
            1 => (1, u64::from(size)),
            2 => (size, greatest_block),
            _ => return None,
        };
        *bytes = bytes.get(usize::try_from(stored).ok()?..)?;
        bound += most;
        if header & 1 != 0 {
            break;
        }
    }
    let checksum_bytes = usize::from(descriptor >> 2 & 1) * 4;
    if bytes.len() != checksum_bytes {
        return None;
    }
    usize::try_from(bound.min(declared.unwrap_or(u64::MAX))).ok()
}

/// Keeps the context; its level is set anew for every batch.
#[derive(Default)]
pub(super) struct Encoder(Option<CCtx<'static>>);

impl Encoder {
    pub(super) fn compress(&mut self, level: Option<i32>, body: &[u8], output: &mut Vec<u8>) -> Option<()> {
        let context = match &mut self.0 {
            Some(context) => context,
            empty => empty.insert(CCtx::try_create()?),
        };
        context.reset(ResetDirective::SessionOnly).ok()?;
        context.set_parameter(CParameter::CompressionLevel(level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))).ok()?;
        output.reserve(compress_bound(body.len()));
        let before = output.len();
        let mut target = OutBuffer::around_pos(output, before);
        let mut source = InBuffer::around(body);
        // With room for the worst case the frame is complete after one call, and carries its content's size.
        let left = context.compress_stream2(&mut target, &mut source, EndDirective::ZSTD_e_end).ok()?;
        if context.sizeof() > KEPT_CONTEXT_BYTES {
            self.0 = None;
        }
        (left == 0).then_some(())
    }
}
