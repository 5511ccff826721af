//! The end of a log after a crash: cut at every byte, with every bit flipped, and what must not be cut.

use ottla_rt::memory::PowerLoss;

use crate::support::*;

/// Ten batches of which the first `durable` are below the recovery point; then the process is killed.
async fn killed_machine(durable: usize) -> (Machine, Vec<usize>) {
    let machine = Machine::new(1);
    let (manager, log) = machine.start().await;
    let mut ends = vec![0];
    for number in 0..10_usize {
        append(&log, &Batch::of(&[&format!("value {number}"), "second"])).unwrap();
        ends.push(log.size() as usize);
        if number + 1 == durable {
            flush(&manager, &log).await;
            manager.checkpoint().await;
        }
    }
    machine.memory.disk.kill();
    (machine, ends)
}

const LOG: &str = "00000000000000000000.log";

async fn end_after_start(machine: &Machine) -> Result<i64, String> {
    let manager = machine.open().await;
    let end = match manager.get(&partition(0)) {
        Some(log) => {
            assert_eq!(values_from(&log, 0, 1_000).len() as i64, log.log_end_offset());
            Ok(log.log_end_offset())
        }
        None => Err(manager.offline_partitions().pop().unwrap().1),
    };
    drop(manager);
    machine.memory.disk.kill();
    end
}

#[test]
fn the_last_two_batches_cut_at_every_byte() {
    block_on(async {
        let (machine, ends) = killed_machine(0).await;
        let whole = machine.read(LOG);
        for len in ends[8]..=whole.len() {
            machine.write(LOG, &whole[..len]);
            let batches = ends.iter().filter(|end| **end <= len).count() - 1;
            assert_eq!(end_after_start(&machine).await, Ok(batches as i64 * 2), "cut to {len} bytes");
            assert_eq!(machine.read(LOG), whole[..ends[batches]], "cut to {len} bytes");
        }
    });
}

#[test]
fn every_bit_of_the_last_batch_flipped() {
    block_on(async {
        let (machine, ends) = killed_machine(0).await;
        let whole = machine.read(LOG);
        for bit in ends[9] * 8..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            machine.write(LOG, &flipped);
            let end = end_after_start(&machine).await;
            // Base offset and epoch are outside the checksum. A smaller offset cannot follow; a larger one leaves a hole,
            // which no crash does; any epoch that can be is believed.
            match bit / 8 - ends[9] {
                0..8 if end.is_err() => assert_eq!(machine.read(LOG), flipped, "bit {bit}"),
                12..16 if bit % 8 != 7 || bit / 8 != ends[9] + 12 => assert_eq!(end, Ok(20), "bit {bit}"),
                _ => {
                    assert_eq!(end, Ok(18), "bit {bit}");
                    assert_eq!(machine.read(LOG), whole[..ends[9]], "bit {bit}");
                }
            }
        }
    });
}

#[test]
fn damage_below_the_recovery_point_takes_the_partition_offline() {
    block_on(async {
        let (machine, ends) = killed_machine(8).await;
        let whole = machine.read(LOG);
        for position in [ends[0] + 30, ends[3] + 17, ends[7] + 80] {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            machine.write(LOG, &damaged);
            // Drop the indexes, so that the whole segment is read.
            for name in &machine.names_with("index") {
                machine.remove(name);
            }
            let refused = end_after_start(&machine).await.unwrap_err();
            assert!(refused.contains("below the recovery point 16"), "{refused}");
            assert_eq!(machine.read(LOG), damaged, "nothing is changed");
        }
        machine.write(LOG, &whole[..ends[7]]);
        let refused = end_after_start(&machine).await.unwrap_err();
        assert_eq!(refused, "the log ends at offset 14, although it was durable up to 16: records are missing");
        machine.remove(LOG);
        let refused = end_after_start(&machine).await.unwrap_err();
        assert!(refused.contains("records are missing"), "{refused}");
        machine.write(LOG, &whole);
        assert_eq!(end_after_start(&machine).await, Ok(20), "repaired");
    });
}

#[test]
fn an_offline_partition_is_not_made_anew() {
    block_on(async {
        let (machine, ends) = killed_machine(8).await;
        let whole = machine.read(LOG);
        machine.write(LOG, &whole[..ends[7]]);
        let manager = machine.open().await;
        let refused = machine.try_create(&manager, 0).await.err().unwrap();
        assert_eq!(refused.to_string(), "partition orders-0 could not be recovered when the node started");
        assert!(machine.try_create(&manager, 1).await.is_ok());
        // Its recovery point outlives a stop.
        manager.checkpoint().await;
        manager.shutdown(-1).await;
        drop(manager);
        assert!(end_after_start(&machine).await.is_err());
    });
}

#[test]
fn a_missing_segment_is_a_hole() {
    block_on(async {
        let machine = Machine::with_config(1, |config| config.segment_bytes = 500);
        let (manager, log) = machine.start().await;
        for _ in 0..20 {
            append(&log, &Batch::sized(100)).unwrap();
        }
        flush(&manager, &log).await;
        manager.checkpoint().await;
        let bases = log.segment_base_offsets();
        assert!(bases.len() > 4);
        drop((manager, log));
        machine.memory.disk.kill();
        for base in &bases[1..] {
            let name = format!("{base:020}.log");
            let bytes = machine.read(&name);
            machine.remove(&name);
            let refused = end_after_start(&machine).await.unwrap_err();
            assert!(refused.contains("records are missing"), "{name}: {refused}");
            machine.write(&name, &bytes);
        }
        assert_eq!(end_after_start(&machine).await, Ok(20));
    });
}

#[test]
fn a_torn_segment_takes_the_later_ones_with_it() {
    block_on(async {
        let machine = Machine::with_config(1, |config| config.segment_bytes = 500);
        let (manager, log) = machine.start().await;
        for _ in 0..20 {
            append(&log, &Batch::sized(100)).unwrap();
        }
        let bases = log.segment_base_offsets();
        drop((manager, log));
        machine.memory.disk.kill();
        let name = format!("{:020}.log", bases[2]);
        let bytes = machine.read(&name);
        machine.write(&name, &bytes[..bytes.len() - 1]);
        assert_eq!(end_after_start(&machine).await, Ok(bases[3] - 1));
        let logs = machine.names_with(".log");
        assert_eq!(logs.len(), 3, "{logs:?}");
        // And that was durable.
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        assert_eq!(end_after_start(&machine).await, Ok(bases[3] - 1));
    });
}

#[test]
fn leftovers_are_removed_and_a_swap_is_finished() {
    block_on(async {
        let machine = Machine::with_config(1, |config| config.segment_bytes = 500);
        let (manager, log) = machine.start().await;
        for _ in 0..20 {
            append(&log, &Batch::sized(100)).unwrap();
        }
        let bases = log.segment_base_offsets();
        drop((manager, log));
        machine.memory.disk.kill();
        // The cleaner had put the second and third segment together.
        let (second, third) = (format!("{:020}.log", bases[1]), format!("{:020}.log", bases[2]));
        let both = [machine.read(&second), machine.read(&third)].concat();
        machine.write(&format!("{second}.swap"), &both);
        for name in ["00000000000000000099.log.deleted", "partition.metadata.tmp", "00000000000000000099.index.cleaned"]
        {
            machine.write(name, b"left");
        }
        assert_eq!(end_after_start(&machine).await, Ok(20));
        assert_eq!(machine.read(&second), both);
        let names = machine.names();
        assert!(!names.contains(&third));
        for suffix in [".swap", ".deleted", ".tmp", ".cleaned"] {
            assert!(!names.iter().any(|name| name.ends_with(suffix)), "{names:?}");
        }
    });
}
