//! Transactions: who may end one, what is stable, and the index of those that were aborted.

use std::sync::Arc;

use bytes::Bytes;
use ottla_log::{
    AbortedTransaction, AppendError, AppendOrigin, LogManager, PartitionLog, SequenceError, TransactionError,
    TransactionVersion,
};
use ottla_record::{BatchHeader, ControlMarker, ControlType, control_marker};
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};
use ottla_types::LeaderEpoch;

use crate::support::*;
use crate::transaction_model::{committed_from, end_of};

const COMMIT: ControlType = ControlType::Commit;
const ABORT: ControlType = ControlType::Abort;

fn write(log: &PartitionLog, producer: i64, sequence: i32, value: &str) -> i64 {
    let batch = Batch::of(&[value]).by_producer(producer, 0, sequence).transactional();
    append(log, &batch).unwrap().base_offset
}

fn end(log: &PartitionLog, producer: i64, result: ControlType) -> i64 {
    log.append_end_transaction_marker(&end_of(producer, 0, 0, result), LeaderEpoch(0), 1_000).unwrap().base_offset
}

fn aborted(producer_id: i64, first_offset: i64, last_offset: i64, last_stable_offset: i64) -> AbortedTransaction {
    AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset }
}

fn committed(log: &PartitionLog) -> Vec<(i64, String)> {
    text(&committed_from(log, log.log_start_offset(), 10_000))
}

fn pairs(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
    expected.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

#[test]
fn a_record_is_stable_when_the_end_of_its_transaction_is_replicated() {
    block_on(async {
        let machine = Machine::new(1);
        let (_manager, log) = machine.start().await;
        append(&log, &Batch::of(&["plain"])).unwrap();
        write(&log, 5, 0, "first of 5");
        write(&log, 6, 0, "of 6");
        append(&log, &Batch::of(&["between"])).unwrap();
        assert_eq!((log.last_stable_offset(), log.first_unstable_offset()), (0, Some(1)), "nothing is replicated");
        log.note_high_watermark(4);
        assert_eq!(log.last_stable_offset(), 1);
        assert_eq!(end(&log, 5, COMMIT), 4);
        assert_eq!(log.last_stable_offset(), 1, "the marker is not replicated");
        log.note_high_watermark(5);
        assert_eq!((log.last_stable_offset(), log.first_unstable_offset()), (2, Some(2)));
        assert_eq!(committed(&log), pairs(&[(0, "plain"), (1, "first of 5")]));
        assert_eq!(end(&log, 6, ABORT), 5);
        log.note_high_watermark(6);
        assert_eq!((log.last_stable_offset(), log.first_unstable_offset()), (6, None));
        assert_eq!(committed(&log), pairs(&[(0, "plain"), (1, "first of 5"), (3, "between")]));
        assert_eq!(log.aborted_transactions(0, 6).unwrap(), [aborted(6, 2, 5, 6)]);
        assert_eq!(log.aborted_transactions(3, 6).unwrap(), [aborted(6, 2, 5, 6)]);
        assert_eq!(log.aborted_transactions(0, 2).unwrap(), []);
        assert_eq!(end(&log, 7, ABORT), 6, "a transaction without a record here");
        assert_eq!(log.first_unstable_offset(), None);
        assert_eq!(log.aborted_transactions(0, 7).unwrap().len(), 1);
        let producers = log.active_producers();
        let of = |id| producers.iter().find(|(found, _)| *found == id).unwrap().1.clone();
        assert_eq!(of(6).current_transaction_first_offset, None);
        assert_eq!((of(7).last_sequence(), of(7).coordinator_epoch), (-1, 0));
    });
}

#[test]
fn who_may_end_a_transaction() {
    block_on(async {
        let machine = Machine::new(1);
        let (_manager, log) = machine.start().await;
        append(&log, &Batch::of(&["a"]).by_producer(5, 3, 0).transactional()).unwrap();
        let append_end = |epoch, coordinator_epoch, transaction_version| {
            let end = ottla_log::EndTransaction { transaction_version, ..end_of(5, epoch, coordinator_epoch, COMMIT) };
            log.append_end_transaction_marker(&end, LeaderEpoch(0), 1_000)
        };
        let old_epoch = |result: &Result<_, AppendError>| {
            matches!(result, Err(AppendError::Sequence { source: SequenceError::InvalidEpoch { .. }, .. }))
        };
        let (legacy, bumped) = (TransactionVersion::LEGACY, TransactionVersion::EPOCH_BUMPED);
        assert!(old_epoch(&append_end(2, 7, legacy)));
        assert!(old_epoch(&append_end(3, 7, bumped)), "version 2 asks for a new epoch");
        append_end(3, 7, legacy).unwrap();
        let fenced = append_end(3, 6, legacy).unwrap_err();
        let expected = TransactionError::CoordinatorFenced { producer_id: 5, found: 6, current: 7 };
        assert!(matches!(fenced, AppendError::Transaction { source, .. } if source == expected));
        append(&log, &Batch::of(&["b"]).by_producer(5, 3, 1).transactional()).unwrap();
        append_end(4, 7, bumped).unwrap();
        append_end(4, 7, bumped).unwrap();
        assert_eq!(log.log_end_offset(), 5);
        let (_, entry) = log.active_producers().pop().unwrap();
        assert_eq!((entry.producer_epoch, entry.coordinator_epoch), (4, 7));
        assert!(matches!(
            append(&log, &Batch::of(&["late"]).by_producer(5, 3, 2).transactional()),
            Err(AppendError::Sequence { source: SequenceError::InvalidEpoch { .. }, .. })
        ));
    });
}

fn marker_batch(result: ControlType) -> (Bytes, BatchHeader) {
    let marker = ControlMarker {
        control_type: result,
        producer_id: 5,
        producer_epoch: 0,
        coordinator_epoch: 0,
        timestamp: 1_000,
        base_offset: 0,
        partition_leader_epoch: 0,
    };
    let bytes = control_marker(&marker).unwrap();
    let header = BatchHeader::parse(&bytes).unwrap();
    (bytes, header)
}

#[test]
fn a_client_writes_no_marker_and_nothing_beside_its_transaction() {
    block_on(async {
        let machine = Machine::new(1);
        let (_manager, log) = machine.start().await;
        write(&log, 5, 0, "a");
        let (bytes, header) = marker_batch(COMMIT);
        let append_marker = |bytes: &Bytes, header: &BatchHeader, origin| {
            log.append(ottla_log::BatchToAppend { bytes, header, origin }, LeaderEpoch(0), 1_000)
        };
        let refused = append_marker(&bytes, &header, AppendOrigin::Client).unwrap_err();
        assert!(matches!(refused, AppendError::Transaction { source: TransactionError::ControlBatchOfClient, .. }));
        for origin in [AppendOrigin::Client, AppendOrigin::Coordinator] {
            let refused = append_from(&log, &Batch::of(&["b"]).by_producer(5, 0, 1), origin).unwrap_err();
            let expected = TransactionError::NotTransactional { producer_id: 5, first_offset: 0 };
            assert!(matches!(refused, AppendError::Transaction { source, .. } if source == expected));
        }
        let mut unknown = bytes.to_vec();
        // The low byte of the record's type.
        unknown[61 + 8] = 9;
        ottla_record::stamp_crc(&mut unknown);
        let refused = append_marker(&unknown.into(), &header, AppendOrigin::Coordinator).unwrap_err();
        assert!(matches!(refused, AppendError::Transaction { source: TransactionError::MalformedMarker(_), .. }));
        assert_eq!(log.log_end_offset(), 1, "nothing of it was written");
        append_marker(&bytes, &header, AppendOrigin::Coordinator).unwrap();
        assert_eq!(log.first_unstable_offset(), Some(0));
        log.note_high_watermark(2);
        assert_eq!(log.first_unstable_offset(), None);
    });
}

const INDEX: &str = "00000000000000000000.txnindex";

#[test]
fn the_index_is_kafkas() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        write(&log, 0x0105, 0, "a");
        write(&log, 6, 0, "b");
        end(&log, 6, COMMIT);
        assert_eq!(machine.names_with(".txnindex"), Vec::<String>::new(), "nothing was aborted");
        write(&log, 7, 0, "c");
        end(&log, 7, ABORT);
        end(&log, 0x0105, ABORT);
        let entry = |producer: u16, first: u8, last: u8, stable: u8| {
            let mut bytes = vec![0; 34];
            bytes[8..10].copy_from_slice(&producer.to_be_bytes());
            (bytes[17], bytes[25], bytes[33]) = (first, last, stable);
            bytes
        };
        let expected = [entry(7, 3, 4, 0), entry(0x0105, 0, 5, 6)].concat();
        assert_eq!(machine.read(INDEX), expected);
        manager.shutdown(-1).await;
        assert_eq!(machine.read(INDEX), expected);
    });
}

#[test]
fn an_index_goes_with_its_segment_and_with_the_end_of_the_log() {
    block_on(async {
        let machine = Machine::with_config(1, |config| {
            config.segment_bytes = 400;
            config.file_delete_delay_ms = 0;
        });
        let (manager, log) = machine.start().await;
        let mut markers = Vec::new();
        for sequence in 0..12 {
            write(&log, 5, sequence, "value");
            markers.push(end(&log, 5, ABORT));
        }
        let bases = log.segment_base_offsets();
        let name = |base: i64| format!("{base:020}.txnindex");
        assert!(bases.len() > 4);
        assert_eq!(machine.names_with(".txnindex"), bases.iter().copied().map(name).collect::<Vec<_>>());
        let all = log.aborted_transactions(0, i64::MAX).unwrap();
        assert_eq!(all.iter().map(|aborted| aborted.last_offset).collect::<Vec<_>>(), markers);

        log.note_high_watermark(log.log_end_offset());
        // The last marker of the third segment goes, and the segments after it.
        let target = *markers.iter().rfind(|marker| **marker < bases[3]).unwrap();
        log.truncate_to(target).unwrap();
        let left: Vec<_> = all.iter().copied().filter(|aborted| aborted.last_offset < target).collect();
        assert_eq!(log.aborted_transactions(0, i64::MAX).unwrap(), left);
        assert_eq!(machine.names_with(".txnindex"), [name(bases[0]), name(bases[1]), name(bases[2])]);
        let third = left.iter().filter(|aborted| aborted.last_offset >= bases[2]).count();
        assert_eq!(machine.read(&name(bases[2])).len(), third * 34);
        assert_eq!(log.first_unstable_offset(), Some(target - 1), "it is open again");
        assert_eq!(end(&log, 5, COMMIT), target);

        flush(&manager, &log).await;
        log.note_high_watermark(log.log_end_offset());
        manager.delete_records(vec![(Arc::clone(&log), bases[1])]).await[0].as_ref().unwrap();
        manager.remove_deleted().await;
        assert_eq!(machine.names_with(".txnindex"), [name(bases[1]), name(bases[2])]);
        assert!(log.aborted_transactions(bases[1], i64::MAX).unwrap().len() < left.len());
    });
}

/// A log in several segments, with transactions that were aborted, committed and left open; what it has to tell.
async fn written(machine: &Machine) -> (LogManager, Arc<PartitionLog>) {
    let (manager, log) = machine.start().await;
    write(&log, 9, 0, "open from the first segment to the last");
    for sequence in 0..10 {
        append(&log, &Batch::of(&["plain"])).unwrap();
        write(&log, 5, sequence, "aborted");
        write(&log, 6, sequence, "committed");
        end(&log, 5, ABORT);
        end(&log, 6, COMMIT);
    }
    end(&log, 9, ABORT);
    write(&log, 7, 0, "left open");
    flush(&manager, &log).await;
    log.note_high_watermark(log.log_end_offset());
    (manager, log)
}

#[test]
fn an_index_that_cannot_be_right_is_made_anew() {
    block_on(async {
        for clean in [true, false] {
            for checkpointed in [true, false] {
                for spoil in ["keep", "remove all", "cut", "zeros", "shift", "another segment's", "empty"] {
                    let machine = Machine::with_config(1, |config| config.segment_bytes = 800);
                    let (manager, log) = written(&machine).await;
                    let expected = (log.aborted_transactions(0, i64::MAX).unwrap(), committed(&log));
                    assert_eq!((expected.0.len(), expected.1.len()), (11, 20));
                    let stable = log.last_stable_offset();
                    assert_eq!(stable, log.log_end_offset() - 1);
                    if checkpointed {
                        manager.checkpoint().await;
                    }
                    if clean {
                        manager.shutdown(-1).await;
                    }
                    drop((manager, log));
                    machine.memory.disk.kill();
                    let indexes = machine.names_with(".txnindex");
                    assert!(indexes.len() > 3);
                    let first = machine.read(&indexes[0]);
                    for (number, name) in indexes.iter().enumerate() {
                        let bytes = machine.read(name);
                        match spoil {
                            "remove all" => {
                                machine.remove(name);
                                // The active segment need not have one.
                                let offsets = name.replace("txnindex", "index");
                                if machine.names().contains(&offsets) {
                                    machine.remove(&offsets);
                                }
                            }
                            "cut" => machine.write(name, &bytes[..bytes.len() - 1]),
                            "zeros" => machine.write(name, &[bytes, vec![0; 34]].concat()),
                            "shift" => machine.write(name, &[&[0], &bytes[..bytes.len() - 1]].concat()),
                            "another segment's" if number > 0 => machine.write(name, &first),
                            "empty" if number == 0 => machine.write(name, &bytes[..20]),
                            _ => {}
                        }
                    }
                    let (_manager, log) = machine.start().await;
                    let what = format!("clean: {clean}, checkpointed: {checkpointed}, {spoil}");
                    log.note_high_watermark(log.log_end_offset());
                    assert_eq!(log.aborted_transactions(0, i64::MAX).unwrap(), expected.0, "{what}");
                    assert_eq!(log.last_stable_offset(), stable, "{what}");
                    assert_eq!(committed(&log), expected.1, "{what}");
                    assert_eq!(machine.names_with(".txnindex"), indexes, "{what}");
                    assert_eq!(machine.names_with(".tmp"), Vec::<String>::new(), "{what}");
                    end(&log, 7, ABORT);
                    log.note_high_watermark(log.log_end_offset());
                    assert_eq!(committed(&log), expected.1, "{what}, and its end");
                    assert_eq!(log.aborted_transactions(0, i64::MAX).unwrap().len(), 12, "{what}, and its end");
                }
            }
        }
    });
}

#[test]
fn an_abort_is_in_the_index_when_its_marker_is_flushed() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        write(&log, 5, 0, "a");
        end(&log, 5, ABORT);
        write(&log, 5, 1, "b");
        flush(&manager, &log).await;
        end(&log, 5, ABORT);
        flush(&manager, &log).await;
        // A snapshot and a recovery point above both: nothing of them is read again.
        let entries = machine.read(INDEX);
        manager.checkpoint().await;
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        assert_eq!(machine.read(INDEX), entries);
        assert_eq!(entries.len(), 2 * 34);
    });
}

#[test]
fn a_full_disk_at_the_index_refuses_the_marker() {
    block_on(async {
        for operation in [Operation::Create, Operation::Write] {
            let machine = Machine::new(1);
            let (manager, log) = machine.start().await;
            write(&log, 5, 0, "a");
            machine.memory.disk.inject(Fault::nth(operation, 0, Failure::NoSpace).on(".txnindex"));
            let end_of_5 = end_of(5, 0, 0, ABORT);
            let refused = log.append_end_transaction_marker(&end_of_5, LeaderEpoch(0), 1_000).unwrap_err();
            assert!(matches!(refused, AppendError::NoSpace(_)), "{refused}");
            assert_eq!((log.log_end_offset(), log.first_unstable_offset()), (1, Some(0)));
            append(&log, &Batch::of(&["b"])).unwrap();
            assert_eq!(end(&log, 5, ABORT), 2);
            flush(&manager, &log).await;
            log.note_high_watermark(3);
            assert_eq!(committed(&log), pairs(&[(1, "b")]));
            drop((manager, log));
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
            let (_manager, log) = machine.start().await;
            log.note_high_watermark(3);
            assert_eq!(committed(&log), pairs(&[(1, "b")]), "{operation:?}");
            assert_eq!(log.aborted_transactions(0, 3).unwrap(), [aborted(5, 0, 2, 3)]);
        }
    });
}

#[test]
fn a_follower_knows_what_its_leader_knows() {
    block_on(async {
        let leading = Machine::with_config(1, |config| config.segment_bytes = 800);
        let (_manager, leader) = written(&leading).await;
        // Rolls come elsewhere.
        let following = Machine::with_config(2, |config| config.segment_bytes = 600);
        let (_follower_manager, follower) = following.start().await;
        let mut next = 0;
        while next < leader.log_end_offset() {
            let bytes = leader.read(next, 700, true, i64::MAX).unwrap().to_bytes().unwrap();
            let batches: Vec<_> = ottla_record::batches(&bytes)
                .map_while(Result::ok)
                .map(|(header, batch)| (bytes.slice_ref(batch), header))
                .collect();
            next = follower.append_as_follower(&batches, 1_000).unwrap();
        }
        assert_eq!(follower.first_unstable_offset(), Some(0), "no marker is replicated as far as it knows");
        follower.note_high_watermark(next);
        assert_eq!(follower.last_stable_offset(), leader.last_stable_offset());
        assert_eq!(follower.active_producers(), leader.active_producers());
        assert_eq!(
            follower.aborted_transactions(0, i64::MAX).unwrap(),
            leader.aborted_transactions(0, i64::MAX).unwrap()
        );
        assert_eq!(committed(&follower), committed(&leader));
    });
}

#[test]
fn many_entries_are_searched_by_block() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        let count = 1_500;
        for sequence in 0..count {
            write(&log, 5, sequence, "v");
            end(&log, 5, ABORT);
        }
        let all = log.aborted_transactions(0, i64::MAX).unwrap();
        assert_eq!(all.len(), count as usize);
        let check = |log: &PartitionLog| {
            for number in [0, 1, 511, 512, 513, 1_023, 1_024, 1_498, 1_499_usize] {
                let (first, last) = (all[number].first_offset, all[number].last_offset);
                assert_eq!(log.aborted_transactions(first, last + 1).unwrap(), [all[number]], "{number}");
                let until = all[(number + 600).min(1_499)];
                let found = log.aborted_transactions(last, until.first_offset + 1).unwrap();
                assert_eq!(found, all[number..=(number + 600).min(1_499)], "{number}");
            }
            log.truncate_to(all[700].last_offset).unwrap();
            assert_eq!(log.aborted_transactions(0, i64::MAX).unwrap(), all[..700]);
        };
        manager.shutdown(-1).await;
        drop((manager, log));
        machine.memory.disk.kill();
        let (_manager, log) = machine.start().await;
        check(&log);
    });
}

/// Of a transaction that ended in a segment retention took, an old snapshot says that it is open.
#[test]
fn a_snapshot_from_before_the_first_segment_is_not_believed() {
    block_on(async {
        let machine = Machine::with_config(1, |config| config.file_delete_delay_ms = 0);
        let (manager, log) = machine.start().await;
        write(&log, 5, 0, "a");
        log.roll().unwrap();
        let name = "00000000000000000001.snapshot";
        let while_open = machine.read(name);
        end(&log, 5, COMMIT);
        log.roll().unwrap();
        append(&log, &Batch::of(&["b"])).unwrap();
        flush(&manager, &log).await;
        log.note_high_watermark(3);
        manager.delete_records(vec![(Arc::clone(&log), 2)]).await[0].as_ref().unwrap();
        manager.remove_deleted().await;
        manager.checkpoint().await;
        assert_eq!(machine.names_with(".snapshot"), ["00000000000000000002.snapshot"]);
        drop((manager, log));
        machine.memory.disk.kill();
        // The power loss that brings the old one back takes the new one.
        machine.write(name, &while_open);
        machine.remove("00000000000000000002.snapshot");
        let (_manager, log) = machine.start().await;
        log.note_high_watermark(3);
        assert_eq!((log.first_unstable_offset(), log.last_stable_offset()), (None, 3));
        assert_eq!(committed(&log), pairs(&[(2, "b")]));
        log.truncate_to(2).unwrap();
        assert_eq!(log.first_unstable_offset(), None, "nor by a truncation");
    });
}

/// A power loss may take the name of the first segment and leave that of its index.
#[test]
fn an_index_without_its_segment_says_nothing() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        write(&log, 5, 0, "a");
        end(&log, 5, ABORT);
        drop((manager, log));
        machine.memory.disk.kill();
        machine.remove("00000000000000000000.log");
        let (_manager, log) = machine.start().await;
        assert_eq!((log.log_end_offset(), log.aborted_transactions(0, 10).unwrap().len()), (0, 0));
        write(&log, 5, 0, "b");
        end(&log, 5, ABORT);
        assert_eq!(machine.read(INDEX).len(), 34);
        assert_eq!(log.aborted_transactions(0, 10).unwrap(), [aborted(5, 0, 1, 2)]);
    });
}
