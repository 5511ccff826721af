//! The admin functions of the crate: those of its `AdminClient`, and groups as every client lists them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::groups::GroupInfo;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::{Answer, Failure, code_name, configured, kafka_spelling, text};

/// No log directories, no incremental changes, no offsets of groups, no ids of topics.
pub const CAPABILITIES: &[&str] = &[
    "create_topic",
    "delete_topic",
    "metadata",
    "describe_cluster",
    "describe_configs",
    "config_entries",
    "alter_configs",
    "create_partitions",
    "delete_records",
    "list_groups",
    "describe_group",
    "delete_group",
];

const WAIT: Duration = Duration::from_secs(40);

type Client = AdminClient<DefaultClientContext>;

/// Each call has a client of its own, which keeps nothing over restarts of the broker.
pub struct Admin {
    bootstrap: String,
}

impl Admin {
    pub fn new(bootstrap: &str) -> Admin {
        Admin { bootstrap: bootstrap.to_owned() }
    }

    fn client(&self) -> Result<Client, Failure> {
        Ok(configured(&self.bootstrap, &[], &Value::Null).create()?)
    }

    pub fn create_topic(&self, args: &Value) -> Answer {
        let replication = TopicReplication::Fixed(args["replication_factor"].as_i64().unwrap_or(1) as i32);
        let mut topic = NewTopic::new(text(args, "name")?, number(args, "partitions")? as i32, replication);
        for (key, value) in entries(&args["configs"]) {
            topic = topic.set(key, value);
        }
        first(wait(self.client()?.create_topics([&topic], &options(args)))?)
    }

    pub fn delete_topic(&self, args: &Value) -> Answer {
        first(wait(self.client()?.delete_topics(&[text(args, "name")?], &options(args)))?)
    }

    pub fn create_partitions(&self, args: &Value) -> Answer {
        let grown = NewPartitions::new(text(args, "topic")?, number(args, "total")? as usize);
        first(wait(self.client()?.create_partitions([&grown], &options(args)))?)
    }

    pub fn delete_records(&self, args: &Value) -> Answer {
        let offset = match number(args, "offset")? {
            -1 => Offset::End,
            offset => Offset::Offset(offset),
        };
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(text(args, "topic")?, number(args, "partition")? as i32, offset)?;
        let answer = wait(self.client()?.delete_records(&before, &options(args)))?;
        let elements = answer.elements();
        let [partition] = elements.as_slice() else { return Err(Failure::new("CLIENT_ERROR", "not one partition")) };
        partition.error()?;
        Ok(partition.offset().to_raw().map_or(Value::Null, Value::from))
    }

    pub fn describe_cluster(&self) -> Answer {
        let client = self.client()?;
        let nodes: Vec<i32> =
            client.inner().fetch_metadata(None, WAIT)?.brokers().iter().map(|each| each.id()).collect();
        Ok(json!({"cluster_id": client.inner().fetch_cluster_id(WAIT), "nodes": nodes}))
    }

    pub fn describe_configs(&self, args: &Value) -> Answer {
        self.entries(args, |entry| json!(entry.value))
    }

    pub fn config_entries(&self, args: &Value) -> Answer {
        self.entries(args, |entry| {
            json!({
                "value": entry.value, "source": source_name(&entry.source), "read_only": entry.is_read_only,
                "sensitive": entry.is_sensitive,
            })
        })
    }

    fn entries(&self, args: &Value, view: impl Fn(&rdkafka::admin::ConfigEntry) -> Value) -> Answer {
        let described = wait(self.client()?.describe_configs([&resource(args)?], &options(args)))?;
        let [found] = described.as_slice() else { return Err(Failure::new("CLIENT_ERROR", "not one resource")) };
        let found = found.as_ref().map_err(|code| refused(*code))?;
        let entries: BTreeMap<&str, Value> =
            found.entries.iter().map(|entry| (entry.name.as_str(), view(entry))).collect();
        Ok(json!(entries))
    }

    pub fn alter_configs(&self, args: &Value) -> Answer {
        let mut altered = AlterConfig::new(resource(args)?);
        for (key, value) in entries(&args["set"]) {
            altered = altered.set(key, value);
        }
        match wait(self.client()?.alter_configs([&altered], &options(args)))?.into_iter().next() {
            Some(Err((_, code))) => Err(refused(code)),
            _ => Ok(Value::Null),
        }
    }

    pub fn list_groups(&self) -> Answer {
        let found = self.client()?.inner().fetch_group_list(None, WAIT)?;
        let listed: Vec<Value> = found
            .groups()
            .iter()
            .map(|group| json!({"group": group.name(), "state": kafka_spelling(group.state())}))
            .collect();
        Ok(json!(listed))
    }

    pub fn describe_group(&self, args: &Value) -> Answer {
        let found = self.client()?.inner().fetch_group_list(Some(text(args, "group")?), WAIT)?;
        let [group] = found.groups() else { return Err(Failure::new("GROUP_ID_NOT_FOUND", "not among those listed")) };
        Ok(json!({
            "state": kafka_spelling(group.state()), "assignor": group.protocol(), "members": members(group)?,
        }))
    }

    pub fn delete_group(&self, args: &Value) -> Answer {
        first(wait(self.client()?.delete_groups(&[text(args, "group")?], &options(args)))?)
    }
}

fn options(args: &Value) -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(WAIT))
        .operation_timeout(Some(WAIT))
        .validate_only(args["validate_only"].as_bool().unwrap_or_default())
}

fn number(args: &Value, name: &str) -> Result<i64, Failure> {
    args[name].as_i64().ok_or_else(|| Failure::new("BAD_ARGUMENTS", format!("{name} is missing")))
}

fn entries(settings: &Value) -> impl Iterator<Item = (&str, &str)> {
    settings.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

fn resource(args: &Value) -> Result<ResourceSpecifier<'_>, Failure> {
    let name = text(args, "name")?;
    match text(args, "kind")? {
        "topic" => Ok(ResourceSpecifier::Topic(name)),
        "broker" => {
            name.parse().map(ResourceSpecifier::Broker).map_err(|error| Failure::new("UNSUPPORTED_RESOURCE", error))
        }
        other => Err(Failure::new("UNSUPPORTED_RESOURCE", other)),
    }
}

fn source_name(source: &ConfigSource) -> &'static str {
    match source {
        ConfigSource::Unknown => "UNKNOWN",
        ConfigSource::DynamicTopic => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
        ConfigSource::Default => "DEFAULT_CONFIG",
    }
}

fn refused(code: RDKafkaErrorCode) -> Failure {
    Failure::new(&code_name(code), code)
}

/// The outcome for the one thing that was asked for.
fn first(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Answer {
    match results.into_iter().next() {
        Some(Err((_, code))) => Err(refused(code)),
        _ => Ok(Value::Null),
    }
}

fn members(group: &GroupInfo) -> Result<Vec<Value>, Failure> {
    let member = |each: &rdkafka::groups::GroupMemberInfo| {
        let partitions = assigned(each.assignment().unwrap_or_default())
            .ok_or_else(|| Failure::new("CLIENT_ERROR", "an assignment that is cut short"))?;
        // The list of this library does not tell of static members.
        Ok(json!({"client_id": each.client_id(), "instance_id": null, "partitions": partitions}))
    };
    group.members().iter().map(member).collect()
}

/// The partitions in an assignment as the consumer protocol has it; the crate gives its bytes.
fn assigned(mut bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut found = Vec::new();
    if bytes.is_empty() {
        return Some(found);
    }
    take(&mut bytes, 2)?;
    for _ in 0..int(&mut bytes)? {
        let length = take(&mut bytes, 2)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let topic = String::from_utf8(take(&mut bytes, length)?.to_vec()).ok()?;
        for _ in 0..int(&mut bytes)? {
            found.push((topic.clone(), int(&mut bytes)?));
        }
    }
    found.sort();
    Some(found)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = bytes.split_at_checked(count)?;
    *bytes = left;
    Some(taken)
}

fn int(bytes: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(bytes, 4)?.try_into().ok()?))
}

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits here: requests have threads of their own.
fn wait<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let waker = Waker::from(Arc::new(Parked(std::thread::current())));
    loop {
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}
