//! The codecs' framings, beyond what Kafka itself writes: what other clients send, and what must not be believed.

use std::io::Write;

use bytes::Bytes;
use flate2::GzBuilder;
use ottla_record::{Codec, Compression, DecompressError, DecompressionLimits, compress, decompress};

fn text() -> Vec<u8> {
    (0..20_000).flat_map(|index: u32| format!("line {} of the text\n", index % 977).into_bytes()).collect()
}

fn read(codec: Codec, body: impl Into<Bytes>) -> Result<Bytes, DecompressError> {
    decompress(codec, &body.into(), &DecompressionLimits::default())
}

#[test]
fn every_codec_and_level_round_trips() {
    let text = text();
    let noise: Vec<u8> =
        (0..200_000_u64).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    for codec in Codec::ALL {
        let levels = match codec {
            Codec::None | Codec::Snappy => vec![],
            Codec::Gzip => vec![-1, 1, 5, 9],
            Codec::Lz4 => vec![1, 9, 17],
            Codec::Zstd => vec![-131_072, -5, 1, 3, 10, 19, 22],
        };
        let settings = levels.iter().map(|&level| Compression::with_level(codec, level).unwrap());
        for compression in settings.chain([Compression::new(codec)]) {
            for body in [&[][..], &b"a"[..], &text[..100], &text[..65_536], &text[..], &noise[..]] {
                let compressed = compress(compression, body).unwrap();
                assert_eq!(read(codec, compressed).unwrap(), body, "{compression:?} {}", body.len());
            }
        }
    }
}

#[test]
fn levels_are_kip_390s() {
    let check = |codec, level, good| {
        assert_eq!(Compression::with_level(codec, level).is_ok(), good, "{codec:?} {level}");
    };
    for (level, good) in [(-2, false), (-1, true), (0, false), (1, true), (9, true), (10, false)] {
        check(Codec::Gzip, level, good);
    }
    for (level, good) in [(0, false), (1, true), (17, true), (18, false)] {
        check(Codec::Lz4, level, good);
    }
    for (level, good) in [(-131_073, false), (-131_072, true), (0, true), (22, true), (23, false)] {
        check(Codec::Zstd, level, good);
    }
    check(Codec::Snappy, 1, false);
    check(Codec::None, 1, false);
    let best = compress(Compression::with_level(Codec::Zstd, 19).unwrap(), &text()).unwrap();
    let quick = compress(Compression::with_level(Codec::Zstd, -100).unwrap(), &text()).unwrap();
    assert!(best.len() < quick.len());
}

#[test]
fn snappy_is_read_bare_framed_and_concatenated() {
    let text = text();
    let bare = snap::raw::Encoder::new().compress_vec(&text).unwrap();
    assert_eq!(read(Codec::Snappy, bare).unwrap(), text);
    let framed = compress(Compression::new(Codec::Snappy), &text).unwrap();
    let twice = [framed.clone(), framed.clone()].concat();
    assert_eq!(read(Codec::Snappy, twice).unwrap(), [text.clone(), text.clone()].concat());
    // Java ignores up to three bytes that could begin another chunk.
    assert_eq!(read(Codec::Snappy, [&framed[..], &[0, 0, 0]].concat()).unwrap(), text);
    assert_eq!(
        read(Codec::Snappy, [&framed[..], &[0, 0, 0, 9, 1]].concat()),
        Err(DecompressError::Truncated(Codec::Snappy))
    );
}

#[test]
fn gzip_headers_and_members() {
    let text = text();
    let mut gzip = GzBuilder::new()
        .filename("name")
        .comment("comment")
        .extra("extra")
        .mtime(7)
        .write(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    let decorated = gzip.finish().unwrap();
    assert_eq!(read(Codec::Gzip, decorated.clone()).unwrap(), text);
    let twice = [&decorated[..], &compress(Compression::new(Codec::Gzip), &text).unwrap()].concat();
    assert_eq!(read(Codec::Gzip, twice).unwrap(), [text.clone(), text.clone()].concat());
    assert_eq!(read(Codec::Gzip, [&decorated[..], b"garbage"].concat()).unwrap(), text);
    let mut wrong_size = decorated.clone();
    *wrong_size.last_mut().unwrap() ^= 1;
    assert_eq!(read(Codec::Gzip, wrong_size), Err(DecompressError::ChecksumMismatch(Codec::Gzip)));
    let mut wrong_crc = decorated;
    let at = wrong_crc.len() - 5;
    wrong_crc[at] ^= 1;
    assert_eq!(read(Codec::Gzip, wrong_crc), Err(DecompressError::ChecksumMismatch(Codec::Gzip)));
}

#[test]
fn lz4_frames_of_other_writers() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let text = text();
    let write = |info: FrameInfo| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&text).unwrap();
        encoder.finish().unwrap()
    };
    for block_size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        for (block_checksums, content_checksum, content_size) in
            [(false, false, None), (true, false, None), (false, true, Some(text.len() as u64)), (true, true, None)]
        {
            let info = FrameInfo::new()
                .block_size(block_size)
                .block_checksums(block_checksums)
                .content_checksum(content_checksum)
                .content_size(content_size);
            let frame = write(info);
            assert_eq!(read(Codec::Lz4, frame.clone()).unwrap(), text);
            if block_checksums {
                let mut bad = frame;
                bad[40] ^= 1;
                assert!(read(Codec::Lz4, bad).is_err());
            }
        }
    }
    // Kafka refuses blocks that refer to earlier ones.
    let linked = write(FrameInfo::new().block_mode(BlockMode::Linked));
    assert_eq!(read(Codec::Lz4, linked), Err(DecompressError::Unsupported(Codec::Lz4)));
    let mut wrong_descriptor = write(FrameInfo::new());
    wrong_descriptor[6] ^= 1;
    assert_eq!(read(Codec::Lz4, wrong_descriptor), Err(DecompressError::ChecksumMismatch(Codec::Lz4)));
    // And what we write, others read.
    let ours = compress(Compression::new(Codec::Lz4), &text).unwrap();
    let mut back = Vec::new();
    std::io::copy(&mut lz4_flex::frame::FrameDecoder::new(&ours[..]), &mut back).unwrap();
    assert_eq!(back, text);
}

#[test]
fn zstd_frames_of_other_writers() {
    let text = text();
    let check = |frame: Vec<u8>, expected: &[u8]| assert_eq!(read(Codec::Zstd, frame).unwrap(), expected);
    let streamed = |text: &[u8], level| {
        // No content size, as Java's stream writes it, and several blocks.
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), level).unwrap();
        encoder.include_checksum(level > 5).unwrap();
        for part in text.chunks(10_000) {
            encoder.write_all(part).unwrap();
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    };
    for level in [1, 3, 9, 22] {
        check(streamed(&text, level), &text);
        check(streamed(&text[..1_000], level), &text[..1_000]);
    }
    let huge = text.repeat(20);
    check(streamed(&huge, 22), &huge);
    check(zstd::bulk::compress(&huge, 3).unwrap(), &huge);
    let frame = zstd::bulk::compress(&text, 3).unwrap();
    check([frame.clone(), frame.clone()].concat(), &[text.clone(), text.clone()].concat());
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3], &frame[..]].concat();
    check(skippable, &text);
    for cut in 1..frame.len().min(300) {
        assert!(read(Codec::Zstd, frame[..cut].to_vec()).is_err(), "{cut}");
    }
    let long = streamed(&huge, 3);
    for cut in [5, 1_000, long.len() - 1] {
        assert!(read(Codec::Zstd, long[..cut].to_vec()).is_err(), "{cut}");
    }
    assert!(read(Codec::Zstd, [&frame[..], b"garbage"].concat()).is_err());
}
