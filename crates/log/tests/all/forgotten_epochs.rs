//! Logs in which Kafka has led in a lower epoch than a leader before it: its epoch file tells the higher ones no more.

use std::path::Path;

use ottla_log::{
    EpochEntry, EpochStretch, Finding, PartitionLog, ReadError, VerifyReport, format_epochs, survey, verify,
    write_forgotten_epochs,
};
use ottla_record::BatchHeader;

use crate::support::*;

/// The bytes of a batch's epoch.
const EPOCH: std::ops::Range<usize> = 12..16;

/// The bit of them that makes a number negative.
const SIGN: usize = 7;

/// A log of such batches: epoch after epoch with its number of batches, of one record each. Stopped in order.
async fn written(runs: &[(i32, usize)], told: &[(i32, i64)]) -> Machine {
    let machine = Machine::with_config(1, |config| {
        config.segment_bytes = 1_500;
        config.index_interval_bytes = 300;
    });
    let (manager, log) = machine.start().await;
    for (run, (_, batches)) in runs.iter().enumerate() {
        for _ in 0..*batches {
            append_with_epoch(&log, &Batch::sized(100), run as i32).unwrap();
        }
    }
    flush(&manager, &log).await;
    manager.shutdown(-1).await;
    drop((manager, log));
    // No leader of ours writes in an epoch that falls.
    let mut epochs = runs.iter().flat_map(|(epoch, batches)| std::iter::repeat_n(*epoch, *batches));
    for name in machine.names_with(".log") {
        let mut bytes = machine.read(&name);
        let mut position = 0;
        while position < bytes.len() {
            let size = BatchHeader::parse(&bytes[position..]).unwrap().size_in_bytes();
            bytes[position..][EPOCH].copy_from_slice(&epochs.next().unwrap().to_be_bytes());
            position += size;
        }
        machine.write(&name, &bytes);
    }
    assert_eq!(epochs.next(), None);
    let entries: Vec<EpochEntry> =
        told.iter().map(|&(epoch, start_offset)| EpochEntry { epoch, start_offset }).collect();
    machine.write("leader-epoch-checkpoint", format_epochs(&entries).as_bytes());
    machine
}

fn forgotten(machine: &Machine) -> Vec<EpochStretch> {
    let survey = survey(&*machine.memory.disk.mount(), Path::new("/data")).unwrap();
    survey.partitions[0].forgotten_epochs.clone()
}

/// As an adoption does.
fn believe(machine: &Machine) {
    let found = forgotten(machine);
    write_forgotten_epochs(&*machine.memory.disk.mount(), Path::new("/data/orders-0"), &found).unwrap();
}

#[derive(Default)]
struct Findings(Vec<String>);

impl VerifyReport for Findings {
    fn finding(&mut self, finding: Finding) {
        self.0.push(format!("{}: {}", finding.path.display(), finding.issue));
    }
}

fn findings(machine: &Machine) -> Vec<String> {
    let mut findings = Findings::default();
    verify(&*machine.memory.disk.mount(), Path::new("/data"), false, &mut findings).unwrap();
    findings.0
}

/// The epochs of the batches that can be read, by their first offset; `None` where a batch is refused.
fn read(log: &PartitionLog) -> Vec<Option<i32>> {
    (log.log_start_offset()..log.log_end_offset())
        .map(|offset| match log.read(offset, 1, true, i64::MAX) {
            Ok(read) => {
                let header = BatchHeader::parse(&read.to_bytes().unwrap()).unwrap();
                assert_eq!(header.base_offset, offset);
                Some(header.partition_leader_epoch)
            }
            Err(ReadError::Damaged { .. }) => None,
            Err(error) => panic!("{error}"),
        })
        .collect()
}

fn expected(runs: &[(i32, usize)]) -> Vec<Option<i32>> {
    runs.iter().flat_map(|(epoch, batches)| std::iter::repeat_n(Some(*epoch), *batches)).collect()
}

#[tokio::test]
async fn what_the_epoch_file_does_not_tell_is_found() {
    for (runs, told, expected) in [
        (&[(0, 5), (4, 3)][..], &[(0, 0), (4, 5)][..], &[][..]),
        (&[(0, 5), (2, 3)], &[(0, 0), (2, 5), (3, 8)], &[]),
        (&[(0, 50), (2, 30)], &[(0, 0), (2, 50)], &[]),
        (&[(0, 5), (4, 3), (2, 4)], &[(0, 0), (2, 8)], &[(0, 5, 0), (5, 8, 4), (8, 12, 2)]),
        // One batch each, and several segments.
        (&[(0, 20), (4, 1), (2, 1)], &[(0, 0), (2, 21)], &[(0, 20, 0), (20, 21, 4), (21, 22, 2)]),
        (&[(0, 20), (4, 30), (2, 20)], &[(0, 0), (2, 50)], &[(0, 20, 0), (20, 50, 4), (50, 70, 2)]),
        // Kafka has led, and nobody wrote.
        (&[(0, 5), (4, 3)], &[(0, 0), (2, 8)], &[(0, 5, 0), (5, 8, 4)]),
        // No entry is left of what was before.
        (&[(7, 5), (9, 3), (0, 4)], &[(0, 8)], &[(0, 5, 7), (5, 8, 9), (8, 12, 0)]),
        // Only from where it matters.
        (&[(0, 5), (1, 5), (4, 3), (2, 4)], &[(0, 0), (1, 5), (2, 13)], &[(5, 10, 1), (10, 13, 4), (13, 17, 2)]),
        // Twice.
        (
            &[(0, 5), (4, 3), (2, 4), (6, 2), (3, 1)],
            &[(0, 0), (2, 8), (3, 14)],
            &[(0, 5, 0), (5, 8, 4), (8, 12, 2), (12, 14, 6), (14, 15, 3)],
        ),
    ] {
        let machine = written(runs, told).await;
        let expected: Vec<EpochStretch> = expected
            .iter()
            .map(|&(start_offset, end_offset, epoch)| EpochStretch { start_offset, end_offset, epoch })
            .collect();
        assert_eq!(forgotten(&machine), expected, "{runs:?}, {told:?}");
    }
}

#[tokio::test]
async fn what_was_believed_is_read() {
    let runs = [(0, 20), (4, 30), (2, 20)];
    let machine = written(&runs, &[(0, 0), (2, 50)]).await;
    let (manager, log) = machine.start().await;
    assert!(read(&log)[20..50].iter().all(Option::is_none), "not before");
    manager.shutdown(-1).await;
    drop((manager, log));
    assert_eq!(findings(&machine).len(), 30);

    believe(&machine);
    assert_eq!(findings(&machine), Vec::<String>::new());
    let (manager, log) = machine.start().await;
    assert_eq!(read(&log), expected(&runs));
    append_with_epoch(&log, &Batch::sized(100), 5).unwrap();
    flush(&manager, &log).await;
    drop((manager, log));
    machine.memory.disk.kill();

    let (manager, log) = machine.start().await;
    assert_eq!(read(&log), expected(&[(0, 20), (4, 30), (2, 20), (5, 1)]));
    assert_eq!(log.epoch_at(70), Some(5));
    manager.shutdown(-1).await;
    drop((manager, log));
    assert_eq!(findings(&machine), Vec::<String>::new());
}

#[tokio::test]
async fn a_bit_that_changes_afterwards_shows() {
    let runs = [(0, 6), (4, 1), (2, 5)];
    let told = [(0, 0), (2, 7)];
    let first = written(&runs, &told).await;
    let segments = first.names_with(".log");
    let mut flips = 0;
    for name in &segments {
        let bytes = first.read(name);
        let mut position = 0;
        while position < bytes.len() {
            let header = BatchHeader::parse(&bytes[position..]).unwrap();
            // Some of the 32 bits.
            for bit_of_epoch in [0, 1, SIGN, 24, 29, 30, 31] {
                let bit = (position + EPOCH.start) * 8 + bit_of_epoch;
                let machine = written(&runs, &told).await;
                believe(&machine);
                machine.flip(name, bit);
                assert!(!findings(&machine).is_empty(), "bit {bit} of {name}: the check finds nothing");
                flips += 1;
                let manager = machine.open().await;
                let Some(log) = manager.get(&partition(0)) else {
                    assert_eq!(bit_of_epoch, SIGN, "bit {bit} of {name}: offline");
                    continue;
                };
                let (found, wanted) = (read(&log), expected(&runs));
                assert_eq!(found[header.base_offset as usize], None, "bit {bit} of {name}");
                assert!(found.iter().zip(&wanted).all(|(found, wanted)| found.is_none() || found == wanted));
                // An epoch below zero is no header, and hides what follows up to the next index entry.
                let refused = found.iter().filter(|found| found.is_none()).count();
                assert!(refused == 1 || bit_of_epoch == SIGN, "bit {bit} of {name}: {found:?}");
                drop((manager, log));
                machine.memory.disk.kill();
            }
            position += header.size_in_bytes();
        }
    }
    assert_eq!(flips, 12 * 7);
}

#[tokio::test]
async fn a_bit_of_what_was_believed_refuses_reads() {
    let runs = [(0, 6), (4, 1), (2, 5)];
    let told = [(0, 0), (2, 7)];
    let machine = written(&runs, &told).await;
    believe(&machine);
    let length = machine.read("ottla-epochs").len();
    assert_eq!(length, 6 + 3 * 20);
    for bit in (0..length * 8).step_by(11) {
        let machine = written(&runs, &told).await;
        believe(&machine);
        machine.flip("ottla-epochs", bit);
        assert!(findings(&machine).iter().any(|finding| finding.contains("ottla-epochs")), "bit {bit}");
        let (manager, log) = machine.start().await;
        let mut wanted = expected(&runs);
        wanted[6] = None;
        assert_eq!(read(&log), wanted, "bit {bit}");
        drop((manager, log));
        machine.memory.disk.kill();
    }
}

#[tokio::test]
async fn adopted_once_more_it_is_looked_at_anew() {
    let machine = written(&[(0, 6), (4, 3), (2, 5)], &[(0, 0), (2, 9)]).await;
    believe(&machine);
    let once = forgotten(&machine);
    assert_eq!(once.last(), Some(&EpochStretch { start_offset: 9, end_offset: 14, epoch: 2 }));
    // Written since, in an epoch that the file tells.
    let (manager, log) = machine.start().await;
    append_with_epoch(&log, &Batch::sized(100), 7).unwrap();
    flush(&manager, &log).await;
    manager.shutdown(-1).await;
    drop((manager, log));
    let again = forgotten(&machine);
    assert_eq!(again[..3], once);
    assert_eq!(again[3..], [EpochStretch { start_offset: 14, end_offset: 15, epoch: 7 }]);
}
