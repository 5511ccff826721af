//! gzip (RFC 1952) around deflate: one member as written here, any number as Java reads them.

use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Failure, PIECE_BYTES, take};

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const DEFLATE: u8 = 8;
const HEADER_CRC: u8 = 0x02;
const EXTRA: u8 = 0x04;
const NAME: u8 = 0x08;
const COMMENT: u8 = 0x10;
/// What Java writes: no flags, no time, no hints, and an operating system of "unknown".
const HEADER: [u8; 10] = [0x1f, 0x8b, DEFLATE, 0, 0, 0, 0, 0, 0, 0xff];

#[derive(Default)]
pub(super) struct DecoderState(Option<Decompress>);

pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    inflate: &'a mut Decompress,
    /// The member being read: its checksum and size so far.
    member: Option<Crc>,
    first: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(rest: &'a [u8], state: &'a mut DecoderState) -> Decoder<'a> {
        let inflate = state.0.get_or_insert_with(|| Decompress::new(false));
        Decoder { rest, inflate, member: None, first: true }
    }

    pub(super) fn append_next(&mut self, output: &mut Vec<u8>, left: usize) -> Result<bool, Failure> {
        let mut member = match self.member.take() {
            Some(member) => member,
            None if self.begin_member()? => Crc::new(),
            None => return Ok(false),
        };
        let before = output.len();
        output.reserve(PIECE_BYTES.min(left.saturating_add(1)));
        let taken_before = self.inflate.total_in();
        let status =
            self.inflate.decompress_vec(self.rest, output, FlushDecompress::None).map_err(|_| Failure::Malformed)?;
        let taken = usize::try_from(self.inflate.total_in() - taken_before).unwrap_or(usize::MAX);
        self.rest = self.rest.get(taken..).unwrap_or_default();
        let piece = output.get(before..).unwrap_or_default();
        member.update(piece);
        match status {
            Status::StreamEnd => self.end_member(&member)?,
            _ if taken == 0 && piece.is_empty() => return Err(Failure::Truncated),
            _ => self.member = Some(member),
        }
        Ok(true)
    }

    /// Reads a member's header. Bytes after a member that are no header of another are ignored, as Java ignores them.
    fn begin_member(&mut self) -> Result<bool, Failure> {
        let mut rest = self.rest;
        match skip_header(&mut rest) {
            Ok(()) => {
                self.rest = rest;
                self.first = false;
                self.inflate.reset(false);
                Ok(true)
            }
            Err(failure) if self.first => Err(failure),
            Err(_) => Ok(false),
        }
    }

    fn end_member(&mut self, member: &Crc) -> Result<(), Failure> {
        let crc = u32::from_le_bytes(take(&mut self.rest).ok_or(Failure::Truncated)?);
        // Modulo 2^32, as `amount` is.
        let size = u32::from_le_bytes(take(&mut self.rest).ok_or(Failure::Truncated)?);
        if (crc, size) == (member.sum(), member.amount()) { Ok(()) } else { Err(Failure::ChecksumMismatch) }
    }
}

fn skip_header(bytes: &mut &[u8]) -> Result<(), Failure> {
    let all = *bytes;
    let [magic1, magic2, method, flags, ..] = take::<10>(bytes).ok_or(Failure::Truncated)?;
    if [magic1, magic2] != MAGIC || method != DEFLATE {
        return Err(Failure::Malformed);
    }
    if flags & EXTRA != 0 {
        let length = u16::from_le_bytes(take(bytes).ok_or(Failure::Truncated)?);
        *bytes = bytes.get(usize::from(length)..).ok_or(Failure::Truncated)?;
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let end = bytes.iter().position(|&byte| byte == 0).ok_or(Failure::Truncated)?;
            *bytes = bytes.get(end + 1..).unwrap_or_default();
        }
    }
    if flags & HEADER_CRC != 0 {
        let header = all.get(..all.len() - bytes.len()).unwrap_or_default();
        let crc = u16::from_le_bytes(take(bytes).ok_or(Failure::Truncated)?);
        if crc_of(header).to_le_bytes()[..2] != crc.to_le_bytes() {
            return Err(Failure::ChecksumMismatch);
        }
    }
    Ok(())
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Keeps the deflate state of the level last used.
#[derive(Default)]
pub(super) struct Encoder(Option<(Option<i32>, Compress)>);

impl Encoder {
    pub(super) fn compress(&mut self, level: Option<i32>, body: &[u8], output: &mut Vec<u8>) -> Option<()> {
        if self.0.as_ref().is_none_or(|(kept, _)| *kept != level) {
            let effort = level
                .and_then(|level| u32::try_from(level).ok())
                .map_or(flate2::Compression::default(), flate2::Compression::new);
            self.0 = Some((level, Compress::new(effort, false)));
        }
        let (_, deflate) = self.0.as_mut()?;
        deflate.reset();
        output.extend_from_slice(&HEADER);
        loop {
            let taken = usize::try_from(deflate.total_in()).ok()?;
            let rest = body.get(taken..)?;
            output.reserve((rest.len() / 2).clamp(64, PIECE_BYTES));
            if deflate.compress_vec(rest, output, FlushCompress::Finish).ok()? == Status::StreamEnd {
                break;
            }
        }
        output.extend_from_slice(&crc_of(body).to_le_bytes());
        output.extend_from_slice(&u32::try_from(body.len() & 0xffff_ffff).ok()?.to_le_bytes());
        Some(())
    }
}
