//! Files: writing through the page cache, writing with a sync behind every MiB, and one small sync.

use std::fs::{File, remove_file};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use crate::{megabytes_per_second, thread_seconds};

const MEBIBYTE: usize = 1 << 20;
const SYNCS: usize = 300;

pub fn measure(directory: &Path, mebibytes: u64) -> io::Result<Vec<(&'static str, f64)>> {
    let path = directory.join("limits-disk");
    let result = measure_in(&path, mebibytes);
    remove_file(&path)?;
    result
}

fn measure_in(path: &Path, mebibytes: u64) -> io::Result<Vec<(&'static str, f64)>> {
    let block = vec![0x5a_u8; MEBIBYTE];
    let bytes = mebibytes * MEBIBYTE as u64;

    let mut file = File::create(path)?;
    let (begun, cpu) = (Instant::now(), thread_seconds());
    for _ in 0..mebibytes {
        file.write_all(&block)?;
    }
    let (write, cpu) = (begun.elapsed().as_secs_f64(), thread_seconds() - cpu);
    file.sync_data()?;

    // A file that grows, as a log does: each sync also makes its new length durable.
    let mut file = File::create(path)?;
    let begun = Instant::now();
    for _ in 0..mebibytes / 4 {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    let synced = begun.elapsed().as_secs_f64();

    // A latency is of small appends, back to back.
    let mut file = File::create(path)?;
    let mut syncs = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&block[..200])?;
        let begun = Instant::now();
        file.sync_data()?;
        syncs.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    syncs.sort_by(f64::total_cmp);
    Ok(vec![
        ("file_write_mb_s", megabytes_per_second(bytes, write)),
        ("file_write_cpu_s_per_gib", cpu / (mebibytes as f64 / 1024.0)),
        ("fdatasync_1mib_mb_s", megabytes_per_second(bytes / 4, synced)),
        ("fdatasync_p50_ms", syncs[SYNCS / 2]),
        ("fdatasync_p99_ms", syncs[SYNCS * 99 / 100]),
    ])
}
