//! A node's own metadata, log and snapshots, with what the fuzzer does to it. A start must come to an end; where it
//! succeeds, a change is taken and found again after the next start.

#![no_main]

use std::cell::OnceCell;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ottla_fuzz::files::{self, Files, block_on, crc32c};
use ottla_image::{MetadataRecord, PartitionRegistration};
use ottla_quorum::{MetadataQuorum, QuorumSettings, RaftQuorum};
use ottla_rt::memory::MemoryWorld;
use ottla_types::{NodeId, Uuid};

const DIRECTORY: &str = "/data/ottla-metadata";
/// Of a file of the log, and of a frame before its body.
const FILE_HEADER: usize = 42;
const FRAME_HEAD: usize = 17;

std::thread_local! {
    static WITH_SNAPSHOT: OnceCell<Files> = const { OnceCell::new() };
    static WITHOUT: OnceCell<Files> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    let [choice, data @ ..] = data else { return };
    let snapshot = choice & 1 == 0;
    let mut files = if snapshot { &WITH_SNAPSHOT } else { &WITHOUT }
        .with(|files| files.get_or_init(|| written(if snapshot { 6 } else { 1_000 })).clone());
    files::change(
        &mut files.iter_mut().map(|(_, bytes)| bytes).collect::<Vec<_>>(),
        data,
        |kind, bytes, place, given| {
            if kind == 0 { restamp_snapshot(bytes, place, given) } else { restamp_frame(bytes, place, given) }
        },
    );
    let memory = files::put(&files);
    let submitted = block_on(async {
        let quorum = RaftQuorum::open(&memory.world(), settings(1_000), |_| Vec::new()).await.ok()?;
        quorum.submit(topic(99)).await.ok()?;
        let found = quorum.image();
        quorum.shutdown().await;
        Some(found)
    });
    let Some(before) = submitted else { return };
    memory.disk.kill();
    block_on(async {
        let opened = RaftQuorum::open(&memory.world(), settings(1_000), |_| Vec::new()).await;
        let quorum = opened.unwrap_or_else(|error| panic!("the directory was left in order: {error}"));
        assert_eq!(quorum.image().to_records(), before.to_records());
    });
});

/// A frame that says something else, and whose checksum fits.
fn restamp_frame(bytes: &mut [u8], number: usize, given: &[u8]) {
    let mut start = FILE_HEADER;
    let mut skipped = number % 24;
    loop {
        let Some(length) = bytes.get(start..).and_then(|bytes| bytes.first_chunk::<4>()) else { return };
        let end = start + FRAME_HEAD + u32::from_be_bytes(*length) as usize;
        let Some(frame) = bytes.get_mut(start..end) else { return };
        if skipped == 0 {
            frame.iter_mut().skip(8).zip(given).for_each(|(byte, given)| *byte ^= given);
            let crc = crc32c(&[&frame[..4], &frame[8..]]);
            frame[4..8].copy_from_slice(&crc.to_be_bytes());
            return;
        }
        skipped -= 1;
        start = end;
    }
}

/// The same with a snapshot.
fn restamp_snapshot(bytes: &mut [u8], place: usize, given: &[u8]) {
    let Some((content, crc)) = bytes.split_last_chunk_mut::<4>() else { return };
    content.iter_mut().skip(place).zip(given).for_each(|(byte, given)| *byte ^= given);
    *crc = crc32c(&[content]).to_be_bytes();
}

fn settings(snapshot_entries: u64) -> QuorumSettings {
    QuorumSettings { segment_bytes: 2_000, snapshot_entries, ..QuorumSettings::new(DIRECTORY, NodeId(1)) }
}

fn topic(number: u8) -> Vec<MetadataRecord> {
    let topic_id = Uuid([number; 16]);
    let registration = PartitionRegistration::new(vec![NodeId(1)], vec![Uuid::ZERO]);
    vec![
        MetadataRecord::Topic { name: format!("topic-{number}").into(), topic_id },
        MetadataRecord::Partition { topic_id, partition: 0, registration },
    ]
}

/// The files of a node that was killed.
fn written(snapshot_entries: u64) -> Files {
    let memory = MemoryWorld::new(1);
    memory.disk.mount().create_dir_all(Path::new("/data")).expect("memory is there");
    block_on(async {
        let opened = RaftQuorum::open(&memory.world(), settings(snapshot_entries), |_| Vec::new()).await;
        let quorum = opened.expect("an empty directory");
        for number in 1..20 {
            quorum.submit(topic(number)).await.expect("the disk works");
        }
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    });
    memory.disk.kill();
    files::take(&memory, &[DIRECTORY])
}
