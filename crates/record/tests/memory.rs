//! Decompression bombs and false promises cost no memory. A binary of its own: what C allocates is seen in the memory
//! of the whole process only, and nothing else may run beside.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails it as the test itself would")]

use bytes::Bytes;
use ottla_record::{
    Attributes, BatchBuilder, BatchHeader, Codec, Compression, DecompressError, DecompressionLimits, InvalidBatch,
    ValidationRules, decompress, stamp_crc, validate,
};

const MIB: usize = 1 << 20;

/// Runs `work` and tells the most memory it held at once.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let mut result = None;
    let allocations = allocation_counter::measure(|| result = Some(work()));
    (result.unwrap(), usize::try_from(allocations.bytes_max).unwrap())
}

/// The most memory of this process since it was last asked, C's included.
fn resident_peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(kib << 10)
}

/// One record whose value is this many zeros.
fn bomb(codec: Codec, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::new(codec));
    builder.append(0, Some(b"key"), Some(&vec![0; bytes]), &[]).unwrap();
    builder.finish().unwrap()
}

/// A batch of one record whose compressed form is `body`.
fn around(codec: Codec, body: &[u8]) -> Bytes {
    let header = BatchHeader {
        base_offset: 0,
        batch_length: i32::try_from(49 + body.len()).unwrap(),
        partition_leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: Attributes::default().with_codec(codec),
        last_offset_delta: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 1,
    };
    let mut batch = [&header.encode(), body].concat();
    stamp_crc(&mut batch);
    batch.into()
}

#[test]
fn memory_stays_with_the_frame() {
    let compressed = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let rules = ValidationRules { max_message_bytes: usize::MAX, ..ValidationRules::default() };

    let bombs: Vec<Bytes> = compressed.iter().map(|&codec| bomb(codec, 24 * MIB)).collect();
    let _ = resident_peak();
    let resident_before = resident_peak();
    for (codec, batch) in compressed.into_iter().zip(&bombs) {
        // The record is good: what is within the limits is walked without being held.
        let wide = DecompressionLimits { max_ratio: usize::MAX, ..DecompressionLimits::default() };
        let (valid, peak) = peak_of(|| validate(batch, &ValidationRules { limits: wide, ..rules.clone() }));
        assert!(valid.is_ok(), "{codec:?} {valid:?}");
        assert!(peak <= 4 * batch.len() + MIB, "{codec:?}: {peak} bytes for a batch of {}", batch.len());

        let narrow = DecompressionLimits { max_output_bytes: 8 * MIB, ..DecompressionLimits::default() };
        let (refused, peak) = peak_of(|| validate(batch, &ValidationRules { limits: narrow, ..rules.clone() }));
        let too_large = DecompressError::TooLarge { codec, limit: 8 * MIB };
        assert_eq!(refused, Err(InvalidBatch::Decompress(too_large)));
        assert!(peak <= 4 * batch.len() + MIB, "{codec:?}: {peak} bytes for a batch of {}", batch.len());

        let (refused, peak) = peak_of(|| decompress(codec, &batch.slice(61..), &narrow));
        assert_eq!(refused, Err(too_large));
        assert!(peak <= 2 * 8 * MIB + MIB, "{codec:?}: {peak} bytes for a limit of 8 MiB");
    }

    let zeros = snap::raw::Encoder::new().compress_vec(&vec![0; MIB]).unwrap();
    let promises: [(&str, Codec, Vec<u8>); 9] = [
        ("snappy: 4 GiB in 6 bytes", Codec::Snappy, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
        ("snappy: 512 MiB before 1 MiB", Codec::Snappy, [&[0x80, 0x80, 0x80, 0x80, 0x02], &zeros[3..]].concat()),
        (
            "snappy: a chunk of 2 GiB",
            Codec::Snappy,
            [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".as_slice(), &[0x7f, 0xff, 0xff, 0xff]].concat(),
        ),
        ("lz4: blocks of 4 MiB, one of 2 bytes", Codec::Lz4, lz4_frame(0x60, &[2, 0, 0, 0, 0x10, b'a', 0, 0, 0, 0])),
        ("lz4: a content of 2^63", Codec::Lz4, lz4_frame(0x68, &[0, 0, 0, 0])),
        ("lz4: a block of 2 GiB", Codec::Lz4, lz4_frame(0x60, &[0xff, 0xff, 0xff, 0x7f, 1])),
        (
            "zstd: a content of 2^40 in one segment",
            Codec::Zstd,
            [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0], &[0x0b, 0, 0, b'a'][..]].concat(),
        ),
        ("zstd: a window of 128 MiB", Codec::Zstd, zstd_frame(0x88, 1)),
        ("zstd: a window of 128 MiB, to be streamed", Codec::Zstd, zstd_frame(0x88, 16)),
    ];
    for (name, codec, body) in promises {
        let (refused, peak) = peak_of(|| validate(&around(codec, &body), &rules));
        assert!(refused.is_err(), "{name}");
        assert!(peak <= 4 * body.len() + MIB, "{name}: {peak} bytes");
        let (_, peak) = peak_of(|| decompress(codec, &body.into(), &DecompressionLimits::default()).is_ok());
        // One of them is honest about the 2 MiB it becomes.
        assert!(peak <= 8 * MIB, "{name}: {peak} bytes");
    }
    if let (Some(before), Some(after)) = (resident_before, resident_peak()) {
        assert!(after <= before + 48 * MIB, "{before} bytes resident, then {after}");
    }
}

/// An lz4 frame with blocks of up to 4 MiB.
fn lz4_frame(flags: u8, blocks: &[u8]) -> Vec<u8> {
    let mut descriptor = vec![flags, 0x70];
    if flags & 0x08 != 0 {
        descriptor.extend_from_slice(&(1_u64 << 63).to_le_bytes());
    }
    let checksum = twox_hash::XxHash32::oneshot(0, &descriptor).to_le_bytes()[1];
    [&[0x04, 0x22, 0x4d, 0x18], &descriptor[..], &[checksum], blocks].concat()
}

/// A zstd frame of blocks that repeat a zero 128 Ki times.
fn zstd_frame(window: u8, blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
    for left in (0..blocks).rev() {
        frame.extend_from_slice(&[2 | u8::from(left == 0), 0, 16, 0]);
    }
    frame
}
