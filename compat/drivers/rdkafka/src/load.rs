//! An idempotent producer that goes on until stopped and writes `partition sequence offset` per acknowledgement.
//!
//! A record's value is `producer sequence`; each partition has its own sequence.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};

use crate::records::{Deliveries, Outcome, Sending, flush};
use crate::{Answer, Failure, configured, text};

/// May be under way at once.
const IN_FLIGHT: u64 = 2000;
const FLUSH: Duration = Duration::from_secs(100);

struct Told {
    sent: u64,
    acked: u64,
    failures: Vec<String>,
    acks: BufWriter<File>,
}

impl Told {
    fn left(&self) -> u64 {
        self.sent - self.acked - self.failures.len() as u64
    }
}

struct Load {
    told: Arc<Mutex<Told>>,
    stopping: Arc<AtomicBool>,
    producer: Arc<Sending>,
    thread: JoinHandle<()>,
}

pub struct Loads {
    bootstrap: String,
    running: Mutex<HashMap<String, Load>>,
}

fn state(told: &Told) -> Value {
    let failures: Vec<&String> = told.failures.iter().take(5).collect();
    json!({"sent": told.sent, "acked": told.acked, "failures": failures, "left": told.left()})
}

impl Loads {
    pub fn new(bootstrap: &str) -> Loads {
        Loads { bootstrap: bootstrap.to_owned(), running: Mutex::default() }
    }

    pub fn start(&self, args: &Value) -> Answer {
        let fixed = [("acks", "all"), ("enable.idempotence", "true"), ("linger.ms", "2"), ("message.timeout.ms", "0")];
        let producer: Sending = configured(&self.bootstrap, &fixed, &Value::Null).create_with_context(Deliveries)?;
        let producer = Arc::new(producer);
        let file = File::create(text(args, "ack_path")?).map_err(|error| Failure::new("ACK_PATH", error))?;
        let told = Arc::new(Mutex::new(Told { sent: 0, acked: 0, failures: Vec::new(), acks: BufWriter::new(file) }));
        let stopping = Arc::new(AtomicBool::new(false));
        let name = text(args, "id")?.to_owned();
        let work = Work {
            name: name.clone(),
            topic: text(args, "topic")?.to_owned(),
            sequences: vec![0; args["partitions"].as_u64().unwrap_or(1) as usize],
            padding: ".".repeat(args["size"].as_u64().unwrap_or_default() as usize),
            pause: Duration::from_secs_f64(1.0 / args["records_per_s"].as_f64().unwrap_or(1.0)),
        };
        let thread = {
            let (producer, told, stopping) = (Arc::clone(&producer), Arc::clone(&told), Arc::clone(&stopping));
            std::thread::spawn(move || work.run(&producer, &told, &stopping))
        };
        let load = Load { told, stopping, producer, thread };
        self.running.lock().expect("no panic under the lock").insert(name, load);
        Ok(Value::Null)
    }

    pub fn state(&self, args: &Value) -> Answer {
        let running = self.running.lock().expect("no panic under the lock");
        let load = running.get(text(args, "id")?).ok_or_else(|| Failure::new("NO_SUCH_LOAD", &args["id"]))?;
        Ok(state(&load.told.lock().expect("no panic under the lock")))
    }

    pub fn stop(&self, args: &Value) -> Answer {
        let load = self.running.lock().expect("no panic under the lock").remove(text(args, "id")?);
        let load = load.ok_or_else(|| Failure::new("NO_SUCH_LOAD", &args["id"]))?;
        load.stopping.store(true, Ordering::Release);
        load.thread.join().map_err(|_| Failure::new("PANIC", "the load's thread"))?;
        flush(&load.producer, FLUSH)?;
        let mut told = load.told.lock().expect("no panic under the lock");
        told.acks.flush().map_err(|error| Failure::new("ACK_PATH", error))?;
        Ok(state(&told))
    }
}

struct Work {
    name: String,
    topic: String,
    sequences: Vec<u64>,
    padding: String,
    pause: Duration,
}

impl Work {
    fn run(mut self, producer: &Sending, told: &Arc<Mutex<Told>>, stopping: &AtomicBool) {
        let mut due = Instant::now();
        let mut number = 0;
        while !stopping.load(Ordering::Acquire) {
            if told.lock().expect("no panic under the lock").left() >= IN_FLIGHT {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            // No pace is caught up with after the broker was away.
            due = (due + self.pause).max(Instant::now() - Duration::from_secs(1));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let partition = number % self.sequences.len();
            number += 1;
            self.send(producer, told, partition);
        }
    }

    fn send(&mut self, producer: &Sending, told: &Arc<Mutex<Told>>, partition: usize) {
        let sequence = self.sequences[partition];
        self.sequences[partition] += 1;
        told.lock().expect("no panic under the lock").sent += 1;
        let value = format!("{} {sequence} {}", self.name, self.padding);
        let outcome: Outcome = {
            let told = Arc::clone(told);
            Box::new(move |outcome| {
                let mut told = told.lock().expect("no panic under the lock");
                match outcome {
                    Ok((partition, offset)) => {
                        told.acked += 1;
                        if let Err(error) = writeln!(told.acks, "{partition} {sequence} {offset}") {
                            told.failures.push(format!("acknowledgement not written: {error}"));
                        }
                    }
                    Err(error) => told.failures.push(format!("sequence {sequence}: {error}")),
                }
            })
        };
        let record: BaseRecord<'_, [u8], [u8], Box<Outcome>> =
            BaseRecord::with_opaque_to(&self.topic, Box::new(outcome))
                .partition(partition as i32)
                .payload(value.as_bytes());
        if let Err((error, record)) = producer.send(record) {
            (record.delivery_opaque)(Err(error));
        }
    }
}
