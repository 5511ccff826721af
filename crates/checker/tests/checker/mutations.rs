//! Any one thing changed in a legal history is found, and told as what it is.

use ottla_checker::{Anomaly, Report, check};
use proptest::prelude::*;

use crate::model::{Did, Draft, Script, What, play, scripts};

/// A record in one poll: operation, step, number within the poll.
type At = (usize, usize, usize);

type Polled = (usize, i64, u64);

/// What the last reader was given, in its order.
fn last_read(draft: &Draft) -> Vec<(At, Polled)> {
    let mut read = Vec::new();
    for (op, did) in transactions(draft).filter(|(op, _)| draft.ops[*op].process == draft.last_reader) {
        for (step, did) in did.iter().enumerate() {
            if let Did::Poll(polled) = did {
                read.extend(polled.iter().enumerate().map(|(at, polled)| ((op, step, at), *polled)));
            }
        }
    }
    read
}

fn transactions(draft: &Draft) -> impl Iterator<Item = (usize, &Vec<Did>)> {
    draft.ops.iter().enumerate().filter_map(|(at, op)| match &op.what {
        What::Transact(did) => Some((at, did)),
        What::Assign { .. } => None,
    })
}

/// Values whose sends ended so.
fn sent(draft: &Draft, outcome: &str) -> Vec<(usize, u64)> {
    let ended = transactions(draft).filter(|(op, _)| draft.ops[*op].outcome == outcome);
    let sends = ended.flat_map(|(_, did)| did).filter_map(|did| match did {
        Did::Send { key, value, .. } => Some((*key, *value)),
        Did::Poll(_) => None,
    });
    sends.collect()
}

fn polled_mut(draft: &mut Draft, (op, step, _): At) -> &mut Vec<Polled> {
    match &mut draft.ops[op].what {
        What::Transact(did) => match &mut did[step] {
            Did::Poll(polled) => polled,
            Did::Send { .. } => panic!("a send has polled nothing"),
        },
        What::Assign { .. } => panic!("an assignment has polled nothing"),
    }
}

/// One of these: there always is one, since the model's prologue sees to it.
fn pick<T: Copy>(sites: &[T], number: usize) -> T {
    assert!(!sites.is_empty(), "nothing to change");
    sites[number % sites.len()]
}

/// The last reader is given one more record, at a new end of its key.
fn append(draft: &mut Draft, key: usize, value: u64) {
    let read = last_read(draft);
    let end = read.iter().filter(|(_, (of, ..))| *of == key).map(|(_, (_, offset, _))| offset + 1).max().unwrap();
    let last = read.last().unwrap().0;
    polled_mut(draft, last).push((key, end, value));
}

/// Records of the last reader with another of the key before and after, whose send was acknowledged.
fn inner(draft: &Draft) -> Vec<(At, Polled)> {
    let (read, acknowledged) = (last_read(draft), sent(draft, "ok"));
    let inner = read.iter().enumerate().filter(|(at, (_, (key, _, value)))| {
        let of_key = |(_, (of, ..)): &(At, Polled)| of == key;
        acknowledged.contains(&(*key, *value)) && read[..*at].iter().any(of_key) && read[at + 1..].iter().any(of_key)
    });
    inner.map(|(_, read)| *read).collect()
}

/// Adjacent records of one key in one poll, both acknowledged.
fn adjacent(draft: &Draft) -> Vec<(At, At)> {
    let (read, acknowledged) = (last_read(draft), sent(draft, "ok"));
    let pairs = read.windows(2).filter(|pair| {
        let (one, other) = (pair[0], pair[1]);
        let same_poll = (one.0.0, one.0.1) == (other.0.0, other.0.1) && one.1.0 == other.1.0;
        same_poll && pair.iter().all(|(_, (key, _, value))| acknowledged.contains(&(*key, *value)))
    });
    pairs.map(|pair| (pair[0].0, pair[1].0)).collect()
}

fn lose_a_record(draft: &mut Draft, number: usize) {
    let (_, (key, _, value)) = pick(&inner(draft), number);
    for op in &mut draft.ops {
        let What::Transact(did) = &mut op.what else { continue };
        for did in did {
            if let Did::Poll(polled) = did {
                polled.retain(|polled| (polled.0, polled.2) != (key, value));
            }
        }
    }
}

fn drop_a_record_from_one_poll(draft: &mut Draft, number: usize) {
    let (at, _) = pick(&inner(draft), number);
    polled_mut(draft, at).remove(at.2);
}

fn swap_two_records(draft: &mut Draft, number: usize) {
    let (one, other) = pick(&adjacent(draft), number);
    polled_mut(draft, one).swap(one.2, other.2);
}

fn swap_two_values(draft: &mut Draft, number: usize) {
    let (one, other) = pick(&adjacent(draft), number);
    let polled = polled_mut(draft, one);
    let value = polled[one.2].2;
    polled[one.2].2 = std::mem::replace(&mut polled[other.2].2, value);
}

fn give_a_record_twice(draft: &mut Draft, number: usize) {
    let (at, polled) = pick(&last_read(draft), number);
    polled_mut(draft, at).insert(at.2, polled);
}

fn append_a_record_again(draft: &mut Draft, number: usize) {
    let (_, (key, _, value)) = pick(&last_read(draft), number);
    append(draft, key, value);
}

fn give_an_aborted_record(draft: &mut Draft, number: usize) {
    let (key, value) = pick(&sent(draft, "fail"), number);
    append(draft, key, value);
}

fn give_a_record_nobody_sent(draft: &mut Draft, number: usize) {
    append(draft, number % crate::model::KEYS, u64::MAX);
}

fn acknowledge_at_another_offset(draft: &mut Draft, number: usize) {
    let (key, value) = pick(&sent(draft, "ok"), number);
    for op in &mut draft.ops {
        let What::Transact(did) = &mut op.what else { continue };
        for did in did {
            match did {
                Did::Send { key: of, value: it, offset: Some(offset) } if (*of, *it) == (key, value) => *offset += 1000,
                Did::Send { .. } | Did::Poll(_) => {}
            }
        }
    }
}

fn report_a_sent_record_as_failed(draft: &mut Draft, number: usize) {
    let ok = transactions(draft)
        .filter(|(op, did)| draft.ops[*op].outcome == "ok" && did.iter().any(|did| matches!(did, Did::Send { .. })));
    let ok: Vec<_> = ok.map(|(op, _)| op).collect();
    draft.ops[pick(&ok, number)].outcome = "fail";
}

fn change(script: &Script, number: usize, change: fn(&mut Draft, usize)) -> Report {
    let mut draft = play(script);
    change(&mut draft, number);
    check(&draft.history()).unwrap()
}

fn finds(report: &Report, any_of: &[Anomaly]) -> Result<(), TestCaseError> {
    let found = any_of.iter().any(|anomaly| report.forbidden(*anomaly) > 0);
    prop_assert!(found, "none of {:?} in {}", any_of, report);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_lost_record(script in scripts(), number: usize) {
        let report = change(&script, number, lose_a_record);
        finds(&report, &[Anomaly::LostWrite])?;
        finds(&report, &[Anomaly::Unseen])?;
    }

    #[test]
    fn a_dropped_record(script in scripts(), number: usize) {
        let report = change(&script, number, drop_a_record_from_one_poll);
        finds(&report, &[Anomaly::PollSkip, Anomaly::IntPollSkip])?;
    }

    #[test]
    fn swapped_records(script in scripts(), number: usize) {
        finds(&change(&script, number, swap_two_records), &[Anomaly::IntNonmonotonicPoll])?;
    }

    #[test]
    fn swapped_values(script in scripts(), number: usize) {
        let report = change(&script, number, swap_two_values);
        finds(&report, &[Anomaly::InconsistentOffsets])?;
        finds(&report, &[Anomaly::Duplicate])?;
    }

    #[test]
    fn a_record_given_twice(script in scripts(), number: usize) {
        finds(&change(&script, number, give_a_record_twice), &[Anomaly::IntNonmonotonicPoll])?;
    }

    #[test]
    fn a_duplicate(script in scripts(), number: usize) {
        finds(&change(&script, number, append_a_record_again), &[Anomaly::Duplicate])?;
    }

    #[test]
    fn an_aborted_record(script in scripts(), number: usize) {
        finds(&change(&script, number, give_an_aborted_record), &[Anomaly::AbortedRead])?;
    }

    #[test]
    fn a_record_nobody_sent(script in scripts(), number: usize) {
        finds(&change(&script, number, give_a_record_nobody_sent), &[Anomaly::NeverSent])?;
    }

    #[test]
    fn a_wrong_offset(script in scripts(), number: usize) {
        finds(&change(&script, number, acknowledge_at_another_offset), &[Anomaly::Duplicate])?;
    }

    #[test]
    fn a_failure_that_was_none(script in scripts(), number: usize) {
        finds(&change(&script, number, report_a_sent_record_as_failed), &[Anomaly::AbortedRead])?;
    }
}
