//! Indexes are caches: garbage in them, or their absence, changes no answer.

use crate::support::*;

const VALUES: i64 = 200;

/// A stopped node with several segments and many index entries.
async fn stopped(clean: bool) -> (Machine, Vec<(i64, Vec<u8>)>) {
    let machine = Machine::with_config(1, |config| {
        config.segment_bytes = 6_000;
        config.index_interval_bytes = 100;
    });
    let (manager, log) = machine.start().await;
    for number in 0..VALUES {
        append(&log, &Batch::of(&[&format!("{number:0100}")]).at(1_000 + number * 10)).unwrap();
    }
    flush(&manager, &log).await;
    manager.checkpoint().await;
    let values = values_from(&log, 0, 100_000);
    if clean {
        manager.shutdown(-1).await;
    }
    drop((manager, log));
    machine.memory.disk.kill();
    (machine, values)
}

async fn check(machine: &Machine, values: &[(i64, Vec<u8>)], what: &str) {
    let (manager, log) = machine.start().await;
    for start in (0..VALUES).step_by(13) {
        let read = values_from(&log, start, 300);
        assert!(read == values[start as usize..], "{what}: from {start}");
        let found = log.offset_for_timestamp(1_000 + start * 10 - 5).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (start, 1_000 + start * 10), "{what}");
    }
    assert_eq!(log.offset_for_timestamp(1_000 + VALUES * 10).unwrap(), None, "{what}");
    let youngest = log.offset_of_max_timestamp().unwrap().unwrap();
    assert_eq!((youngest.offset, youngest.timestamp), (VALUES - 1, 1_000 + (VALUES - 1) * 10), "{what}");
    drop((manager, log));
    machine.memory.disk.kill();
}

#[test]
fn whatever_is_in_the_index_files() {
    type Spoil = fn(&[u8]) -> Vec<u8>;
    let spoils: [(&str, Spoil); 6] = [
        ("empty", |_| Vec::new()),
        ("torn", |bytes| bytes[..bytes.len().saturating_sub(5)].to_vec()),
        ("short", |bytes| bytes[..bytes.len() / 24 / 2 * 24].to_vec()),
        ("zeros", |bytes| vec![0; bytes.len()]),
        ("ones", |bytes| vec![0xff; bytes.len()]),
        ("preallocated", |bytes| [bytes, &[0; 240]].concat()),
    ];
    block_on(async {
        for clean in [true, false] {
            let (machine, values) = stopped(clean).await;
            let indexes = machine.names_with("index");
            assert!(indexes.len() >= 8, "{indexes:?}");
            for name in &indexes {
                for (what, spoil) in spoils {
                    let bytes = machine.read(name);
                    machine.write(name, &spoil(&bytes));
                    check(&machine, &values, &format!("{name} {what}, clean: {clean}")).await;
                }
            }
            for name in &indexes {
                machine.remove(name);
            }
            check(&machine, &values, "none left").await;
        }
    });
}

/// What is missing at its end is not told by its last entry.
#[test]
fn a_time_index_may_end_anywhere() {
    block_on(async {
        let (machine, values) = stopped(true).await;
        let names = machine.names_with(".timeindex");
        for name in &names[..2] {
            let bytes = machine.read(name);
            assert!(bytes.len() > 2 * 12, "{}", bytes.len());
            for entries in 0..bytes.len() / 12 {
                machine.write(name, &bytes[..entries * 12]);
                check(&machine, &values, &format!("{name} with {entries} entries")).await;
            }
        }
    });
}

#[test]
fn entries_are_kafkas() {
    block_on(async {
        let (machine, _) = stopped(true).await;
        for name in &machine.names_with(".index") {
            let base = name.strip_suffix(".index").unwrap();
            let log = machine.read(&format!("{base}.log"));
            let entries = machine.read(name);
            assert!(entries.len() > 8 && entries.len() % 8 == 0);
            for entry in entries.chunks(8) {
                let relative = u32::from_be_bytes(entry[..4].try_into().unwrap());
                let position = u32::from_be_bytes(entry[4..].try_into().unwrap()) as usize;
                let header = ottla_record::BatchHeader::parse(&log[position..]).unwrap();
                assert_eq!(header.last_offset(), base.parse::<i64>().unwrap() + i64::from(relative), "{name}");
            }
            let times = machine.read(&format!("{base}.timeindex"));
            let last = &times[times.len() - 12..];
            let last_batch = ottla_record::batches(&log).last().unwrap().unwrap().0;
            assert_eq!(last[..8], last_batch.max_timestamp.to_be_bytes(), "{name}: the roll's entry");
        }
    });
}

#[test]
fn a_full_index_rolls_the_segment() {
    block_on(async {
        let machine = Machine::with_config(1, |config| {
            config.index_interval_bytes = 1;
            config.segment_index_bytes = 120;
        });
        let (_manager, log) = machine.start().await;
        for number in 0..100 {
            append(&log, &Batch::of(&["v"]).at(number * 10)).unwrap();
        }
        assert!(log.segment_base_offsets().len() > 8, "{:?}", log.segment_base_offsets());
        assert_eq!(values_from(&log, 0, 100).len(), 100);
    });
}

#[test]
fn a_partition_that_was_never_written_to_has_no_index_files() {
    block_on(async {
        let machine = Machine::new(1);
        for _ in 0..2 {
            let (manager, _log) = machine.start().await;
            manager.shutdown(-1).await;
            assert_eq!(machine.names_with("index"), [""; 0]);
        }
        let (manager, log) = machine.start().await;
        append(&log, &Batch::of(&["a"])).unwrap();
        manager.shutdown(-1).await;
        drop((manager, log));
        assert_eq!(machine.names_with("index").len(), 2);
        let (_manager, log) = machine.start().await;
        assert_eq!(text(&values_from(&log, 0, 1_000)), [(0, "a".to_owned())]);
    });
}
