//! Runs a scenario: commands behind `> `, each followed by everything the coordinator answers.
//!
//! The harness plays the shell: it replays records and reports them stored at once, unless the scenario says `hold` (then
//! `stored` or `failed` decides) or `full` (then appends fail). Time moves by `advance`, from deadline to deadline.
//! Invariants are checked after every step. A request's number is its token; a new member's id is its client id and the
//! token.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use ottla_group::*;
use ottla_types::Uuid;

pub const GROUP: &str = "g";
/// Wall-clock time at the start of a scenario.
const EPOCH_MS: i64 = 1_000_000;

/// Runs `scenario` and compares what happened with what it says should.
#[track_caller]
pub fn check(scenario: &str) {
    check_with(GroupSettings::default(), scenario);
}

#[track_caller]
pub fn check_with(settings: GroupSettings, scenario: &str) {
    let mut harness = Harness::new(settings);
    let mut actual = String::new();
    let mut expected = String::new();
    for line in scenario.lines().map(str::trim).filter(|line| !line.is_empty()) {
        writeln!(expected, "{line}").unwrap();
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(actual, "{line}").unwrap();
            for output in harness.run(command) {
                writeln!(actual, "{output}").unwrap();
            }
        }
    }
    assert!(expected == actual, "expected:\n{expected}\nactual:\n{actual}");
}

/// What the log holds. Nobody writes transactions here: Apache Kafka did.
#[derive(Clone)]
enum Logged {
    Record(GroupRecord),
    Transactional(i64, GroupRecord),
    End(i64, bool),
}

struct Harness {
    coordinator: GroupCoordinator,
    settings: GroupSettings,
    now: Now,
    log: Vec<Logged>,
    hold: bool,
    full: bool,
    held: Vec<Continuation>,
    out: Vec<String>,
}

impl Harness {
    fn new(settings: GroupSettings) -> Self {
        let mut harness = Self {
            coordinator: GroupCoordinator::new(settings.clone()),
            settings,
            now: Now { monotonic_ms: 0, wall_ms: EPOCH_MS },
            log: Vec::new(),
            hold: false,
            full: false,
            held: Vec::new(),
            out: Vec::new(),
        };
        harness.load();
        harness
    }

    fn load(&mut self) {
        self.coordinator = GroupCoordinator::new(self.settings.clone());
        for logged in self.log.clone() {
            self.replay(logged);
        }
        let outcome = self.coordinator.handle_loaded(self.now);
        self.apply(outcome, nothing);
    }

    fn replay(&mut self, logged: Logged) {
        match logged {
            Logged::Record(record) => self.coordinator.replay(self.now, record),
            Logged::Transactional(producer_id, record) => {
                self.coordinator.replay_transactional(self.now, producer_id, record);
            }
            Logged::End(producer_id, committed) => self.coordinator.replay_transaction_end(producer_id, committed),
        }
    }

    fn run(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let arguments = Arguments::new(&words[1..]);
        match words[0] {
            "join" => self.join(&arguments),
            "sync" => self.sync(&arguments),
            "heartbeat" => {
                let request = Heartbeat {
                    group: GROUP.into(),
                    generation: arguments.number("generation", 1) as i32,
                    member_id: arguments.word(0).into(),
                    group_instance_id: arguments.optional("instance"),
                };
                let result = self.coordinator.handle_heartbeat(self.now, &request);
                self.out.push(result.map_or_else(|error| code(error).to_owned(), |()| "alive".to_owned()));
            }
            "leave" => self.leave(&arguments),
            "commit" => self.commit(&arguments),
            "fetch" => self.fetch(&arguments),
            "describe" => self.describe(),
            "list" => {
                for group in self.coordinator.handle_list(&arguments.words) {
                    self.out.push(format!("{} {} type={}", group.group, group.state, group.protocol_type));
                }
            }
            "delete-topic" => {
                let topic = arguments.word(0).into();
                let outcome = self.coordinator.handle_topic_deleted(&topic, arguments.topic_id());
                self.apply(outcome, |_| None);
            }
            "delete-offsets" => self.delete_offsets(&arguments),
            "delete-group" => {
                let outcome = self.coordinator.handle_delete_group(&GROUP.into());
                self.apply(outcome, |result| Some(result.map_or_else(code, |()| "deleted").to_owned()));
            }
            "transaction" => self.transaction(&arguments),
            "advance" => self.advance(arguments.word(0).parse().unwrap()),
            "hold" => self.hold = true,
            "full" => self.full = true,
            "stored" | "failed" => {
                self.hold = false;
                let result = if words[0] == "stored" { Ok(()) } else { Err(StoreFailure::Unavailable) };
                for continuation in std::mem::take(&mut self.held) {
                    let outcome = self.coordinator.handle_stored(self.now, continuation, result);
                    self.apply(outcome, nothing);
                }
            }
            "crash" => self.load(),
            "unload" => {
                let released = self.coordinator.handle_unload();
                self.out.extend(released.iter().map(describe_released));
            }
            "settings" => {
                self.settings.max_size = arguments.number("max-size", self.settings.max_size as i64) as usize;
                self.coordinator.set_settings(self.settings.clone());
            }
            other => panic!("no such command: {other}"),
        }
        self.coordinator.check_invariants().unwrap();
        std::mem::take(&mut self.out)
    }

    fn apply<R>(&mut self, outcome: Outcome<R>, describe: impl FnOnce(R) -> Option<String>) {
        let Outcome { response, released, records, stored, .. } = outcome;
        for released in &released {
            self.out.push(describe_released(released));
        }
        let failed = self.full && !records.is_empty();
        for record in records {
            if failed {
                self.out.push(format!("not appended: {}", describe_record(&record)));
                continue;
            }
            self.out.push(describe_record(&record));
            self.log.push(Logged::Record(record.clone()));
            self.coordinator.replay(self.now, record);
        }
        match response {
            Response::Now(_) if failed => self.out.push("append failed".to_owned()),
            Response::Now(response) => self.out.extend(describe(response)),
            Response::Parked => self.out.push("parked".to_owned()),
        }
        self.coordinator.check_invariants().unwrap();
        if let Some(continuation) = stored {
            if self.hold {
                self.held.push(continuation);
            } else {
                let result = if failed { Err(StoreFailure::Unavailable) } else { Ok(()) };
                let outcome = self.coordinator.handle_stored(self.now, continuation, result);
                self.apply(outcome, nothing);
            }
        }
    }

    fn advance(&mut self, ms: i64) {
        let end = self.now.monotonic_ms + ms;
        while let Some(deadline) = self.coordinator.next_deadline_ms().filter(|deadline| *deadline <= end) {
            let step = (deadline - self.now.monotonic_ms).max(0);
            self.now.monotonic_ms += step;
            self.now.wall_ms += step;
            while let Some(outcome) = self.coordinator.handle_due_timer(self.now) {
                self.apply(outcome, nothing);
            }
        }
        self.now.wall_ms += end - self.now.monotonic_ms;
        self.now.monotonic_ms = end;
    }

    fn join(&mut self, arguments: &Arguments) {
        let token: u64 = arguments.word(0).parse().unwrap();
        let version = arguments.number("v", 9);
        let protocols = arguments
            .value("protocols")
            .unwrap_or("range")
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| {
                let (name, metadata) = name.split_once('/').unwrap_or((name, ""));
                Protocol { name: name.into(), metadata: subscription(metadata) }
            })
            .collect();
        let request = JoinGroup {
            token: RequestToken(token),
            group: arguments.value("group").unwrap_or(GROUP).into(),
            member_id: arguments.value("member").unwrap_or("").into(),
            group_instance_id: arguments.optional("instance"),
            client_id: arguments.value("client").unwrap_or("c").into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: arguments.number("session", 10_000) as i32,
            rebalance_timeout_ms: arguments.number("rebalance", 60_000) as i32,
            protocol_type: arguments.value("type").unwrap_or("consumer").into(),
            protocols,
            new_member_suffix: token.to_string().into(),
            requires_known_member_id: version >= 4,
            can_skip_assignment: version >= 9,
        };
        let outcome = self.coordinator.handle_join(self.now, request);
        self.apply(outcome, |response| Some(describe_join(token, &response)));
    }

    fn sync(&mut self, arguments: &Arguments) {
        let token: u64 = arguments.word(0).parse().unwrap();
        let assignments = arguments.value("assign").into_iter().flat_map(|list| list.split(',')).map(|one| {
            let (member_id, assignment) = one.split_once(':').unwrap();
            (Arc::from(member_id), Bytes::copy_from_slice(assignment.as_bytes()))
        });
        let request = SyncGroup {
            token: RequestToken(token),
            group: GROUP.into(),
            generation: arguments.number("generation", 1) as i32,
            member_id: arguments.word(1).into(),
            group_instance_id: arguments.optional("instance"),
            protocol_type: arguments.optional("type"),
            protocol_name: arguments.optional("protocol"),
            assignments: assignments.collect(),
        };
        let outcome = self.coordinator.handle_sync(self.now, request);
        self.apply(outcome, |response| Some(describe_sync(token, &response)));
    }

    fn leave(&mut self, arguments: &Arguments) {
        let members = arguments
            .words
            .iter()
            .map(|word| {
                let (member_id, instance) =
                    word.split_once('@').map_or((*word, None), |(id, instance)| (id, Some(instance)));
                LeavingMember { member_id: member_id.into(), group_instance_id: instance.map(Arc::from) }
            })
            .collect();
        let outcome = self.coordinator.handle_leave(self.now, LeaveGroup { group: GROUP.into(), members });
        self.apply(outcome, |response| {
            let members = response.unwrap().into_iter().map(|member| {
                let instance = member.group_instance_id.map_or_else(String::new, |instance| format!("@{instance}"));
                format!("{}{instance}={}", member.member_id, member.error.map_or("left", code))
            });
            Some(members.collect::<Vec<_>>().join(" "))
        });
    }

    fn commit(&mut self, arguments: &Arguments) {
        let mut topics: BTreeMap<Arc<str>, Vec<CommitPartition>> = BTreeMap::new();
        for word in &arguments.words[1..] {
            let (partition, value) = word.split_once(':').unwrap();
            let (topic, partition) = parse_partition(partition);
            let (offset, metadata) =
                value.split_once('/').map_or((value, None), |(offset, metadata)| (offset, Some(metadata)));
            topics.entry(topic).or_default().push(CommitPartition {
                partition,
                offset: offset.parse().unwrap(),
                leader_epoch: Some(3),
                metadata: metadata.map(Arc::from),
            });
        }
        let member_id = arguments.word(0);
        let request = CommitOffsets {
            group: arguments.value("group").unwrap_or(GROUP).into(),
            generation: arguments.number("generation", if member_id == "-" { -1 } else { 1 }) as i32,
            member_id: if member_id == "-" { "".into() } else { member_id.into() },
            group_instance_id: arguments.optional("instance"),
            retention_ms: arguments.value("retention").map(|ms| ms.parse().unwrap()),
            knows_group_id_not_found: arguments.number("v", 10) >= 9,
            topics: topics
                .into_iter()
                .map(|(topic, partitions)| CommitTopic { topic, topic_id: arguments.topic_id(), partitions })
                .collect(),
        };
        let outcome = self.coordinator.handle_commit(self.now, request);
        self.apply(outcome, |response| {
            Some(match response {
                Err(error) => code(error).to_owned(),
                Ok(topics) => {
                    let partitions = topics.iter().flat_map(|topic| {
                        let name = &topic.topic;
                        topic
                            .partitions
                            .iter()
                            .map(move |one| format!("{name}-{}={}", one.partition, one.error.map_or("committed", code)))
                    });
                    partitions.collect::<Vec<_>>().join(" ")
                }
            })
        });
    }

    /// `transaction 7 t-0:5` is an offset in the transaction of producer 7, `t-0:-` a tombstone in it; `transaction 7 commit`
    /// and `transaction 7 abort` end it.
    fn transaction(&mut self, arguments: &Arguments) {
        let producer_id = arguments.word(0).parse().unwrap();
        for word in &arguments.words[1..] {
            let logged = match *word {
                "commit" => Logged::End(producer_id, true),
                "abort" => Logged::End(producer_id, false),
                offset => {
                    let (partition, offset) = offset.split_once(':').unwrap();
                    let (topic, partition) = parse_partition(partition);
                    let value = offset.parse().ok().map(|offset| OffsetAndMetadata {
                        offset,
                        leader_epoch: None,
                        metadata: "".into(),
                        commit_timestamp_ms: self.now.wall_ms,
                        expire_timestamp_ms: None,
                        topic_id: arguments.topic_id(),
                    });
                    let group = arguments.value("group").unwrap_or(GROUP).into();
                    Logged::Transactional(producer_id, GroupRecord::OffsetCommit { group, topic, partition, value })
                }
            };
            self.log.push(logged.clone());
            self.replay(logged);
        }
    }

    fn fetch(&mut self, arguments: &Arguments) {
        let topics = (!arguments.words.is_empty()).then(|| {
            let partitions = arguments.words.iter().map(|word| parse_partition(word));
            partitions
                .map(|(topic, partition)| FetchTopic {
                    topic,
                    topic_id: arguments.topic_id(),
                    partitions: vec![partition],
                })
                .collect()
        });
        let group = arguments.value("group").unwrap_or(GROUP).into();
        let require_stable = arguments.value("require").is_some_and(|required| required == "stable");
        for topic in self.coordinator.handle_fetch_offsets(FetchOffsets { group, topics, require_stable }) {
            for one in topic.partitions {
                let epoch = one.leader_epoch.map_or_else(String::new, |epoch| format!(" epoch={epoch}"));
                let metadata =
                    if one.metadata.is_empty() { String::new() } else { format!(" metadata={}", one.metadata) };
                let error = one.error.map_or_else(String::new, |error| format!(" {}", code(error)));
                self.out.push(format!("{}-{} at {}{epoch}{metadata}{error}", topic.topic, one.partition, one.offset));
            }
        }
    }

    fn delete_offsets(&mut self, arguments: &Arguments) {
        let mut topics: Vec<(Arc<str>, Vec<i32>)> = Vec::new();
        for (topic, partition) in arguments.words.iter().map(|word| parse_partition(word)) {
            match topics.iter_mut().find(|(name, _)| *name == topic) {
                Some((_, partitions)) => partitions.push(partition),
                None => topics.push((topic, vec![partition])),
            }
        }
        let outcome = self.coordinator.handle_delete_offsets(DeleteOffsets { group: GROUP.into(), topics });
        self.apply(outcome, |response| {
            Some(match response {
                Err(error) => code(error).to_owned(),
                Ok(topics) => {
                    let partitions = topics.iter().flat_map(|topic| {
                        let name = &topic.topic;
                        let line = move |one: &DeletedPartition| {
                            format!("{name}-{}={}", one.partition, one.error.map_or("deleted", code))
                        };
                        topic.partitions.iter().map(line)
                    });
                    partitions.collect::<Vec<_>>().join(" ")
                }
            })
        });
    }

    fn describe(&mut self) {
        let group = self.coordinator.handle_describe(&GROUP.into());
        self.out.push(format!("{} type={} protocol={}", group.state, group.protocol_type, group.protocol_name));
        for member in group.members {
            let instance = member.group_instance_id.map_or_else(String::new, |instance| format!("@{instance}"));
            let text = format!(
                "{}{instance} {}{} metadata={} assignment={}",
                member.member_id,
                member.client_id,
                member.client_host,
                text(&member.metadata),
                text(&member.assignment)
            );
            self.out.push(text);
        }
    }
}

fn describe_released(released: &Released) -> String {
    match &released.response {
        ReleasedResponse::Join(response) => describe_join(released.token.0, response),
        ReleasedResponse::Sync(response) => describe_sync(released.token.0, response),
    }
}

fn describe_join(token: u64, response: &Result<Joined, JoinRefused>) -> String {
    match response {
        Err(refused) => format!("{token}: {} member={}", code(refused.error), refused.member_id),
        Ok(joined) => {
            let mut line = format!(
                "{token}: joined generation={} protocol={} leader={} member={}",
                joined.generation,
                joined.protocol_name.as_deref().unwrap_or("-"),
                joined.leader,
                joined.member_id
            );
            if !joined.members.is_empty() {
                let members = joined.members.iter().map(|member| {
                    let instance =
                        member.group_instance_id.as_ref().map_or_else(String::new, |instance| format!("@{instance}"));
                    format!("{}{instance}/{}", member.member_id, text(&member.metadata))
                });
                write!(line, " members={}", members.collect::<Vec<_>>().join(",")).unwrap();
            }
            if joined.skip_assignment {
                line.push_str(" skip-assignment");
            }
            line
        }
    }
}

fn describe_sync(token: u64, response: &Result<Synced, GroupError>) -> String {
    match response {
        Err(error) => format!("{token}: {}", code(*error)),
        Ok(synced) => {
            let protocol = synced.protocol_name.as_deref().unwrap_or("-");
            format!("{token}: synced protocol={protocol} assignment={}", text(&synced.assignment))
        }
    }
}

fn describe_record(record: &GroupRecord) -> String {
    match record {
        GroupRecord::GroupMetadata { group, value: None } => format!("record {group} deleted"),
        GroupRecord::GroupMetadata { group, value: Some(value) } => {
            let members =
                value.members.iter().map(|member| format!("{}={}", member.member_id, text(&member.assignment)));
            format!(
                "record {group} generation={} protocol={} leader={} members={}",
                value.generation,
                value.protocol.as_deref().unwrap_or("-"),
                value.leader.as_deref().unwrap_or("-"),
                members.collect::<Vec<_>>().join(",")
            )
        }
        GroupRecord::OffsetCommit { topic, partition, value: None, .. } => {
            format!("record {topic}-{partition} deleted")
        }
        GroupRecord::OffsetCommit { topic, partition, value: Some(value), .. } => {
            let expires =
                value.expire_timestamp_ms.map_or_else(String::new, |ms| format!(" expires={}", ms - EPOCH_MS));
            format!("record {topic}-{partition} at {}{expires}", value.offset)
        }
    }
}

/// `@t+u` is a `ConsumerProtocolSubscription` to two topics; anything else is what it is.
fn subscription(metadata: &str) -> Bytes {
    let Some(topics) = metadata.strip_prefix('@') else { return Bytes::copy_from_slice(metadata.as_bytes()) };
    let topics: Vec<&str> = topics.split('+').filter(|topic| !topic.is_empty()).collect();
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

fn parse_partition(text: &str) -> (Arc<str>, i32) {
    let (topic, partition) = text.rsplit_once('-').unwrap();
    (topic.into(), partition.parse().unwrap())
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(error: GroupError) -> &'static str {
    error.error_code().name()
}

/// `word word key=value`
struct Arguments<'a> {
    words: Vec<&'a str>,
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Arguments<'a> {
    fn new(arguments: &[&'a str]) -> Self {
        let values = arguments.iter().filter_map(|argument| argument.split_once('=')).collect();
        let words = arguments.iter().copied().filter(|argument| !argument.contains('=')).collect();
        Self { words, values }
    }

    fn word(&self, index: usize) -> &'a str {
        self.words[index]
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.values.get(key).copied()
    }

    fn optional(&self, key: &str) -> Option<Arc<str>> {
        self.value(key).map(Arc::from)
    }

    fn number(&self, key: &str, default: i64) -> i64 {
        self.value(key).map_or(default, |value| value.parse().unwrap())
    }

    fn topic_id(&self) -> Uuid {
        Uuid([self.number("id", 0) as u8; 16])
    }
}

/// The response of a step that answers nobody.
fn nothing((): ()) -> Option<String> {
    None
}
