//! One core over memory: copying beyond the caches, and the checksum of record batches within them.

use std::hint::black_box;
use std::time::Instant;

use crc_fast::{CrcAlgorithm, checksum};

const COPY_BYTES: usize = 64 << 20;
const CHECKSUM_BYTES: usize = 1 << 20;

pub fn measure(mebibytes: u64) -> Vec<(&'static str, f64)> {
    let from = vec![0x5a_u8; COPY_BYTES];
    let mut to = vec![0_u8; COPY_BYTES];
    let rounds = (mebibytes >> 6).max(1) * 2;
    let begun = Instant::now();
    for _ in 0..rounds {
        black_box(&mut to).copy_from_slice(black_box(&from));
    }
    let copied = begun.elapsed().as_secs_f64();

    let checked_rounds = mebibytes * 4;
    let begun = Instant::now();
    for _ in 0..checked_rounds {
        black_box(checksum(CrcAlgorithm::Crc32Iscsi, black_box(&from[..CHECKSUM_BYTES])));
    }
    let checked = begun.elapsed().as_secs_f64();
    vec![
        ("memcpy_gb_s", rounds as f64 * COPY_BYTES as f64 / 1e9 / copied),
        ("crc32c_gb_s", checked_rounds as f64 * CHECKSUM_BYTES as f64 / 1e9 / checked),
    ]
}
