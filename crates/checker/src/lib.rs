//! Judges a cluster by what its clients saw.
//!
//! Clients write down what they do and what they are told, without knowing what is right: a [`History`]. [`check`] then
//! says whether a correct Kafka could have given these answers. It is Jepsen's analysis of Kafka and Redpanda: it needs no
//! look into the brokers, so the same workload judges a simulated cluster, a real one, and Apache Kafka's.
//!
//! ```
//! use ottla_checker::{Anomaly, Recorder, check};
//!
//! let recorder = Recorder::new(|| 0);
//! let orders = recorder.key("orders", 0);
//!
//! let mut producer = recorder.client();
//! producer.send(orders, 1).sent(0).ok();
//! producer.send(orders, 2).sent(1).ok();
//! producer.send(orders, 3).info("timed out");
//!
//! let mut consumer = recorder.client();
//! consumer.assign([orders], true).ok();
//! consumer.poll().polled([(orders, 0, 1), (orders, 2, 3)]).ok();
//!
//! let report = check(&recorder.finish())?;
//! assert_eq!(report.forbidden(Anomaly::LostWrite), 1, "{report}");
//! # Ok::<(), ottla_checker::MalformedHistory>(())
//! ```
//!
//! # A workload that can be judged
//! - Values are unique per partition. A [`Process`] is one life of a producer and a consumer, and does one thing at a time.
//! - **The outcome decides everything.** `fail` only where it is certain that nothing was or will be written
//!   ([`Outcome::of_produce`]); without an answer, or in doubt, `info`. A client that retries knows only what all its
//!   attempts together say.
//! - The operations of a process are what takes effect as a whole: a transaction with its polls and sends, one batch, one
//!   record, one poll. Consumers read committed records only.
//! - A consumer that seeks to the beginning says so when it is assigned; one that seeks elsewhere goes on as another process
//!   ([`Client::renew`]). With a group, offsets are committed before a poll is recorded as ok.
//! - At the end somebody reads every partition from the beginning to its end: until then a lost record is only one that
//!   nobody has seen. Nothing is compacted, expired or deleted meanwhile.
//!
//! # What is found
//! [`Anomaly`] lists it, [`Anomaly::is_allowed`] says what is usual: other writers' records between those of a
//! transaction, circles of writes, and, for consumers that subscribe, skips and repetitions between their polls. The search
//! for circles is done with and without the order of writes; only the latter decides. All else makes a history
//! [`Verdict::Invalid`]. One in which nothing was acknowledged or read is [`Verdict::Unknown`], which is not valid.
//!
//! The order of records is that of the offsets told by sends that took effect for certain (ok, or info and seen by
//! somebody), and by *all* polls: a consumer may never be shown what is not there, whatever becomes of its transaction.
//! Offsets may have holes, as markers of transactions leave them.
//!
//! Where this differs from Jepsen's: what a poll returned is placed by its offset, not by its value, so that one duplicate
//! is not also taken for skips; a consumer's assignment says nothing about the order of its sends; a record nobody sent is a
//! finding of its own; skips between polls are allowed only while subscribed; a consumer that rewinds is not behind.
//!
//! # Cost
//! Passes over flat tables, linear but for sorting the records by offset, and without recursion: a history may have
//! millions of operations. `examples/million.rs` prints what that costs: 1.0 M operations that sent 1.5 M records and polled
//! 9.2 M took 5.3 s of one core of a busy machine, and 880 MiB with the history. Findings beyond the first of each kind are
//! counted, not kept.
//!
//! # Files
//! [`History::write_jsonl`] and [`History::read_jsonl`] have the format; `examples/check.rs` judges such a file.
//!
//! # Deliberately absent
//! Clients, files, clocks, threads: the recorder is handed a clock, and whoever uses it has clients. Anti-dependencies
//! (rw): Kafka's transactions do not promise them away.

mod anomaly;
mod cycles;
mod findings;
mod history;
mod jsonl;
mod outcome;
mod passes;
mod recorder;
mod report;
mod tables;

pub use anomaly::{Anomaly, Because, Cycle, CycleStep, Finding, Jump, LISTED, Place};
pub use history::{Action, History, Key, Moment, Operation, OperationId, Outcome, Process, Record, Step, Value};
pub use jsonl::{ReadError, ReadProblem};
pub use recorder::{Client, Pending, Recorder};
pub use report::{Counts, Lag, Options, Outcomes, Report, Shown, Tally, UnseenPoint, Verdict, check, check_with};
pub use tables::MalformedHistory;
