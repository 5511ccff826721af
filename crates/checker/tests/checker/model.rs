//! A model of partitioned logs with transactions, driven by a script, that writes down what its clients see: legal by
//! construction, whatever the script. Clients overlap, abort, time out and are replaced as they like.

use std::collections::BTreeMap;
use std::fmt::Write;

use ottla_checker::{History, Verdict, check};
use proptest::prelude::*;

pub const KEYS: usize = 3;
const CLIENTS: usize = 4;

/// What happens next: which client moves, and two numbers for its choices.
pub type Script = Vec<(usize, u8, u8)>;

pub fn scripts() -> impl Strategy<Value = Script> {
    proptest::collection::vec((0..CLIENTS, any::<u8>(), any::<u8>()), 0..150)
}

/// A send or a poll of an operation, with what came of it.
#[derive(Clone, Debug)]
pub enum Did {
    Send { key: usize, value: u64, offset: Option<i64> },
    Poll(Vec<(usize, i64, u64)>),
}

#[derive(Clone, Debug)]
pub enum What {
    Assign { keys: Vec<usize>, rewinds: bool },
    Transact(Vec<Did>),
}

/// An operation, between two events.
#[derive(Clone, Debug)]
pub struct Op {
    pub process: u32,
    pub what: What,
    pub outcome: &'static str,
    pub invoked: u64,
    pub completed: u64,
}

/// A history to be changed before it is read.
#[derive(Clone, Debug)]
pub struct Draft {
    pub ops: Vec<Op>,
    /// The process that reads everything at the end.
    pub last_reader: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Of a transaction that is under way.
    Open,
    Committed,
    /// An aborted record, or a marker: offsets with nothing to see.
    Hidden,
}

struct Slot {
    value: u64,
    state: State,
}

struct Client {
    process: u32,
    /// Where its consumer stands, by key it has.
    positions: BTreeMap<usize, usize>,
    running: Option<Running>,
}

/// An operation under way.
struct Running {
    invoked: u64,
    /// What it will do, last first.
    plan: Vec<Plan>,
    did: Vec<Did>,
    /// Keys and offsets of what it has appended.
    appended: Vec<(usize, usize)>,
    /// Where its consumer stood before.
    stood: BTreeMap<usize, usize>,
}

#[derive(Clone, Copy)]
enum Plan {
    Send(usize),
    Poll(usize),
}

struct Model {
    logs: Vec<Vec<Slot>>,
    clients: Vec<Client>,
    ops: Vec<Op>,
    time: u64,
    next_value: u64,
    next_process: u32,
}

/// Plays a script. Before it, every key gets records, and a transaction fails; after it, one process reads everything.
pub fn play(script: &Script) -> Draft {
    let mut model = Model {
        logs: (0..KEYS).map(|_| Vec::new()).collect(),
        clients: Vec::new(),
        ops: Vec::new(),
        time: 0,
        next_value: 0,
        next_process: 0,
    };
    for _ in 0..CLIENTS {
        let process = model.new_process();
        model.clients.push(Client { process, positions: BTreeMap::new(), running: None });
    }
    for key in 0..KEYS {
        for _ in 0..3 {
            model.begin(0, vec![Plan::Send(key)]);
            model.finish(0, "ok", true);
        }
    }
    model.begin(0, (0..KEYS).map(Plan::Send).collect());
    model.finish(0, "fail", false);
    for (client, choice, number) in script {
        model.step(*client, *choice, *number);
    }
    for client in 0..CLIENTS {
        if model.clients[client].running.is_some() {
            model.finish(client, "ok", true);
        }
    }
    model.read_everything();
    Draft { last_reader: model.clients[0].process, ops: model.ops }
}

impl Model {
    fn new_process(&mut self) -> u32 {
        self.next_process += 1;
        self.next_process - 1
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    fn step(&mut self, client: usize, choice: u8, number: u8) {
        if self.clients[client].running.as_ref().is_some_and(|running| !running.plan.is_empty()) {
            self.act(client);
        } else if self.clients[client].running.is_some() {
            match choice % 8 {
                0 => self.finish(client, "fail", false),
                1 => self.finish(client, "info", false),
                2 => self.finish(client, "info", true),
                _ => self.finish(client, "ok", true),
            }
        } else if choice.is_multiple_of(8) {
            let keys = (0..KEYS).filter(|key| number >> key & 1 == 1).collect();
            self.assign(client, keys, number >> 4 & 1 == 1);
        } else {
            let steps = 1 + usize::from(choice / 8 % 4);
            let plan = |at: usize| {
                let (bits, size) = (usize::from(number) + at * 37, 1 + usize::from(number) % 5);
                if bits.is_multiple_of(2) { Plan::Send(bits / 2 % KEYS) } else { Plan::Poll(size) }
            };
            self.begin(client, (0..steps).map(plan).collect());
        }
    }

    fn assign(&mut self, client: usize, keys: Vec<usize>, rewinds: bool) {
        let (invoked, completed) = (self.tick(), self.tick());
        let client = &mut self.clients[client];
        let stood = std::mem::take(&mut client.positions);
        let position = |key: &usize| if rewinds { 0 } else { stood.get(key).copied().unwrap_or(0) };
        client.positions = keys.iter().map(|key| (*key, position(key))).collect();
        let what = What::Assign { keys, rewinds };
        self.ops.push(Op { process: client.process, what, outcome: "ok", invoked, completed });
    }

    fn begin(&mut self, client: usize, mut plan: Vec<Plan>) {
        let invoked = self.tick();
        plan.reverse();
        let client = &mut self.clients[client];
        let stood = client.positions.clone();
        client.running = Some(Running { invoked, plan, did: Vec::new(), appended: Vec::new(), stood });
    }

    /// The next send or poll of what is under way.
    fn act(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let Some(running) = &mut client.running else { return };
        match running.plan.pop() {
            None => {}
            Some(Plan::Send(key)) => {
                let (value, offset) = (self.next_value, self.logs[key].len());
                self.next_value += 1;
                self.logs[key].push(Slot { value, state: State::Open });
                running.appended.push((key, offset));
                running.did.push(Did::Send { key, value, offset: Some(offset as i64) });
            }
            Some(Plan::Poll(mut size)) => {
                let mut polled = Vec::new();
                for (key, position) in &mut client.positions {
                    while let Some(slot) = self.logs[*key].get(*position).filter(|slot| slot.state != State::Open) {
                        if slot.state == State::Committed {
                            if size == 0 {
                                break;
                            }
                            size -= 1;
                            polled.push((*key, *position as i64, slot.value));
                        }
                        *position += 1;
                    }
                }
                running.did.push(Did::Poll(polled));
            }
        }
    }

    /// Ends what is under way, after all it has still to do.
    fn finish(&mut self, client: usize, outcome: &'static str, commits: bool) {
        while self.clients[client].running.as_ref().is_some_and(|running| !running.plan.is_empty()) {
            self.act(client);
        }
        let completed = self.tick();
        let Some(mut running) = self.clients[client].running.take() else { return };
        let state = if commits { State::Committed } else { State::Hidden };
        for (key, offset) in &running.appended {
            self.logs[*key][*offset].state = state;
        }
        if running.did.len() > 1 || !commits {
            let keys: std::collections::BTreeSet<_> = running.appended.iter().map(|(key, _)| *key).collect();
            for key in keys {
                self.logs[key].push(Slot { value: 0, state: State::Hidden });
            }
        }
        if outcome == "info" && completed.is_multiple_of(2) {
            for did in &mut running.did {
                if let Did::Send { offset, .. } = did {
                    *offset = None;
                }
            }
        }
        let process = self.clients[client].process;
        let what = What::Transact(running.did);
        self.ops.push(Op { process, what, outcome, invoked: running.invoked, completed });
        if outcome == "fail" {
            self.clients[client].positions = running.stood;
        } else if outcome == "info" {
            self.clients[client].process = self.new_process();
            self.clients[client].positions.clear();
        }
    }

    fn read_everything(&mut self) {
        self.clients[0].process = self.new_process();
        self.assign(0, (0..KEYS).collect(), true);
        while (0..KEYS).any(|key| self.clients[0].positions[&key] < self.logs[key].len()) {
            self.begin(0, vec![Plan::Poll(4), Plan::Poll(3)]);
            self.finish(0, "ok", true);
        }
    }
}

impl Draft {
    pub fn history(&self) -> History {
        History::read_jsonl(self.lines().as_bytes()).unwrap()
    }

    fn lines(&self) -> String {
        let mut events = BTreeMap::new();
        for op in &self.ops {
            events.insert(op.invoked, line(op, op.invoked, "invoke"));
            events.insert(op.completed, line(op, op.completed, op.outcome));
        }
        events.into_values().collect()
    }
}

fn line(op: &Op, time: u64, end: &str) -> String {
    let invokes = end == "invoke";
    let mut line = format!(r#"{{"process":{},"time":{time},"type":"{end}","#, op.process);
    match &op.what {
        What::Assign { keys, rewinds } => {
            let keys: Vec<_> = keys.iter().map(|key| format!(r#""t-{key}""#)).collect();
            write!(line, r#""f":"assign","keys":[{}],"seek_to_beginning":{rewinds}}}"#, keys.join(",")).unwrap();
        }
        What::Transact(did) => {
            let steps = did.iter().map(|did| match did {
                Did::Send { key, value, offset } => match offset.filter(|_| !invokes) {
                    Some(offset) => format!(r#"{{"send":["t-{key}",{offset},{value}]}}"#),
                    None => format!(r#"{{"send":["t-{key}",null,{value}]}}"#),
                },
                Did::Poll(polled) => {
                    let polled = polled.iter().filter(|_| !invokes);
                    let polled = polled.map(|(key, offset, value)| format!(r#"["t-{key}",{offset},{value}]"#));
                    format!(r#"{{"poll":[{}]}}"#, polled.collect::<Vec<_>>().join(","))
                }
            });
            write!(line, r#""f":"txn","steps":[{}]}}"#, steps.collect::<Vec<_>>().join(",")).unwrap();
        }
    }
    line.push('\n');
    line
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_a_correct_cluster_shows_is_valid(script in scripts()) {
        let history = play(&script).history();
        let report = check(&history).unwrap();
        prop_assert_eq!(report.verdict, Verdict::Valid, "{}", report);
        let left = report.unseen_over_time.last().unwrap().unseen;
        prop_assert_eq!(left, 0);
    }

    #[test]
    fn a_history_survives_its_file(script in scripts()) {
        let history = play(&script).history();
        let mut written = Vec::new();
        history.write_jsonl(&mut written).unwrap();
        let read = History::read_jsonl(written.as_slice()).unwrap();
        prop_assert_eq!(read.operations(), history.operations());
    }
}
