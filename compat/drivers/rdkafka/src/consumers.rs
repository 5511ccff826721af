//! Consumers that stay between operations, polled all the time, each in a thread of its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::records::record_json;
use crate::{Answer, Failure, configured, text};

const POLL: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_secs(40);

#[derive(Default)]
struct Seen {
    records: Vec<Value>,
    history: Vec<Value>,
    errors: Vec<String>,
    received: usize,
}

/// Told of rebalances by the library.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Seen>>);

impl ClientContext for Watch {}

impl ConsumerContext for Watch {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let (event, list) = match rebalance {
            Rebalance::Assign(list) => ("assigned", list),
            Rebalance::Revoke(list) => ("revoked", list),
            Rebalance::Error(error) => {
                let name = Failure::from(error.clone()).name;
                self.0.lock().expect("no panic under the lock").errors.push(name);
                return;
            }
        };
        let event = json!({"event": event, "partitions": pairs(list)});
        self.0.lock().expect("no panic under the lock").history.push(event);
    }
}

fn pairs(list: &TopicPartitionList) -> BTreeSet<(String, i32)> {
    list.elements().iter().map(|each| (each.topic().to_owned(), each.partition())).collect()
}

struct Polled {
    consumer: Arc<BaseConsumer<Watch>>,
    seen: Watch,
    closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

pub struct Consumers {
    bootstrap: String,
    open: Mutex<HashMap<String, Polled>>,
}

fn point(each: &Value) -> (String, i32, i64) {
    (
        each[0].as_str().unwrap_or_default().to_owned(),
        each[1].as_i64().unwrap_or_default() as i32,
        each[2].as_i64().unwrap_or(-1),
    )
}

fn listed<'a>(args: &'a Value, name: &str) -> &'a [Value] {
    args[name].as_array().map_or(&[][..], Vec::as_slice)
}

impl Consumers {
    pub fn new(bootstrap: &str) -> Consumers {
        Consumers { bootstrap: bootstrap.to_owned(), open: Mutex::default() }
    }

    pub fn open(&self, args: &Value) -> Answer {
        let fixed = [
            ("auto.offset.reset", "earliest"),
            ("enable.auto.commit", "false"),
            ("group.id", args["group"].as_str().unwrap_or("compat-assigned")),
        ];
        let seen = Watch::default();
        let consumer: BaseConsumer<Watch> =
            configured(&self.bootstrap, &fixed, &args["config"]).create_with_context(seen.clone())?;
        if args["topics"].is_array() {
            let topics: Vec<&str> = listed(args, "topics").iter().filter_map(Value::as_str).collect();
            consumer.subscribe(&topics)?;
        } else {
            let mut list = TopicPartitionList::new();
            for (topic, partition, offset) in listed(args, "assign").iter().map(point) {
                let start = match offset {
                    -1 => Offset::End,
                    -2 => Offset::Beginning,
                    _ => Offset::Offset(offset),
                };
                list.add_partition_offset(&topic, partition, start)?;
            }
            consumer.assign(&list)?;
        }
        let consumer = Arc::new(consumer);
        let closing = Arc::new(AtomicBool::new(false));
        let thread = {
            let (consumer, seen, closing) = (Arc::clone(&consumer), seen.clone(), Arc::clone(&closing));
            std::thread::spawn(move || poll(&consumer, &seen, &closing))
        };
        let polled = Polled { consumer, seen, closing, thread };
        self.open.lock().expect("no panic under the lock").insert(text(args, "id")?.to_owned(), polled);
        Ok(Value::Null)
    }

    fn with<T>(&self, args: &Value, run: impl FnOnce(&Polled) -> T) -> Result<T, Failure> {
        let open = self.open.lock().expect("no panic under the lock");
        open.get(text(args, "id")?).map(run).ok_or_else(|| Failure::new("NO_SUCH_CONSUMER", &args["id"]))
    }

    pub fn state(&self, args: &Value) -> Answer {
        let (consumer, seen) = self.with(args, |polled| (Arc::clone(&polled.consumer), polled.seen.clone()))?;
        let assignment = pairs(&consumer.assignment()?);
        let seen = seen.0.lock().expect("no panic under the lock");
        Ok(json!({
            "assignment": assignment, "history": seen.history, "received": seen.received, "errors": seen.errors,
        }))
    }

    pub fn take(&self, args: &Value) -> Answer {
        let seen = self.with(args, |polled| polled.seen.clone())?;
        let records = std::mem::take(&mut seen.0.lock().expect("no panic under the lock").records);
        Ok(json!({"records": records}))
    }

    pub fn act(&self, args: &Value) -> Answer {
        let consumer = self.with(args, |polled| Arc::clone(&polled.consumer))?;
        match text(args, "action")? {
            "commit" => {
                let mode = if args["mode"] == "sync" { CommitMode::Sync } else { CommitMode::Async };
                if args["offsets"].is_array() {
                    let mut list = TopicPartitionList::new();
                    for (topic, partition, offset) in listed(args, "offsets").iter().map(point) {
                        list.add_partition_offset(&topic, partition, Offset::Offset(offset))?;
                    }
                    consumer.commit(&list, mode)?;
                } else {
                    consumer.commit_consumer_state(mode)?;
                }
                Ok(Value::Null)
            }
            "committed" => {
                let mut list = TopicPartitionList::new();
                for (topic, partition, _) in listed(args, "partitions").iter().map(point) {
                    list.add_partition(&topic, partition);
                }
                let found = consumer.committed_offsets(list, WAIT)?;
                let offsets: Vec<Value> = found
                    .elements()
                    .iter()
                    .map(|each| {
                        let offset = if let Offset::Offset(offset) = each.offset() { offset } else { -1 };
                        json!([each.topic(), each.partition(), offset])
                    })
                    .collect();
                Ok(Value::from(offsets))
            }
            "seek" => {
                let partition = args["partition"].as_i64().unwrap_or_default() as i32;
                let offset = Offset::Offset(args["offset"].as_i64().unwrap_or_default());
                consumer.seek(text(args, "topic")?, partition, offset, WAIT)?;
                Ok(Value::Null)
            }
            other => Err(Failure::new("NO_SUCH_ACTION", other)),
        }
    }

    pub fn close(&self, args: &Value) -> Answer {
        let polled = self.open.lock().expect("no panic under the lock").remove(text(args, "id")?);
        let polled = polled.ok_or_else(|| Failure::new("NO_SUCH_CONSUMER", &args["id"]))?;
        polled.closing.store(true, Ordering::Release);
        polled.thread.join().map_err(|_| Failure::new("PANIC", "the consumer's thread"))?;
        // The last one to hold the consumer closes it, which leaves the group.
        drop(polled.consumer);
        Ok(Value::Null)
    }
}

fn poll(consumer: &BaseConsumer<Watch>, seen: &Watch, closing: &AtomicBool) {
    while !closing.load(Ordering::Acquire) {
        let polled = consumer.poll(POLL);
        let Some(polled) = polled else { continue };
        let mut seen = seen.0.lock().expect("no panic under the lock");
        match polled {
            Ok(message) => {
                seen.received += 1;
                seen.records.push(record_json(&message));
            }
            Err(error) => seen.errors.push(Failure::from(error).name),
        }
    }
}
