//! Metadata logs of Apache Kafka's, as they are read before a directory is adopted: any bytes as a segment or a snapshot,
//! or any values as the records of batches whose checksums are right.

#![no_main]

use std::io::IoSlice;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ottla_adopt::read_metadata_log;
use ottla_record::{BatchBuilder, Compression, stamp_crc};
use ottla_rt::OpenMode;
use ottla_rt::memory::MemoryWorld;

const CONTROL: u8 = 0x20;

/// Values of up to 255 bytes, each in a batch of its own; the first byte of a value says whether it is a control batch,
/// and of which type.
fn batches(mut rest: &[u8]) -> Vec<u8> {
    let mut log = Vec::new();
    let mut offset = 0;
    while let [length, after @ ..] = rest {
        let (value, next) = after.split_at(usize::from(*length).min(after.len()));
        rest = next;
        let Some((kind, value)) = value.split_first() else { continue };
        let key = [0, 0, 0, kind & 7];
        let mut builder = BatchBuilder::new(Compression::NONE);
        builder.set_position(offset, 0);
        let is_control = kind & 0x80 != 0;
        builder.append(0, is_control.then_some(&key[..]), Some(value), &[]).expect("it is short");
        let mut batch = builder.finish().expect("it has a record").to_vec();
        if is_control {
            batch[22] |= CONTROL;
            stamp_crc(&mut batch);
        }
        log.extend(batch);
        offset += 1;
    }
    log
}

fuzz_target!(|data: &[u8]| {
    let [mode, split, content @ ..] = data else { return };
    let split = usize::from(*split) * content.len() / 256;
    let (first, second) = content.split_at(split);
    let bytes = |part: &[u8]| if mode & 1 == 0 { part.to_vec() } else { batches(part) };
    let world = MemoryWorld::new(1).world();
    let directory = Path::new("/log");
    world.disk.create_dir_all(directory).expect("the disk works");
    for (name, part) in [("00000000000000000000.log", first), ("00000000000000000001-0000000000.checkpoint", second)] {
        if mode & 2 != 0 && part.is_empty() {
            continue;
        }
        let file = world.disk.open(&directory.join(name), OpenMode::CreateNew).expect("the disk works");
        file.write_all_at(&[IoSlice::new(&bytes(part))], 0).expect("the disk works");
    }
    let _ = read_metadata_log(&*world.disk, directory, mode & 4 != 0);
});
