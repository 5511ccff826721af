//! What a request costs, in things that can be counted: system calls, hand-overs to other threads, wake-ups,
//! allocations, bytes allocated. Unlike seconds they are the same on every machine, so a test can hold them.
//!
//! `cargo test --release -p ottla-broker --test budgets -- --nocapture` prints the table. The broker runs on one thread
//! and is counted there; the client is a plain socket on another one.

mod client;
mod counted;

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use allocation_counter::AllocationInfo;
use client::{Client, batch, fetch, metadata, produce};
use counted::{Calls, Counters};
use ottla_broker::Server;
use ottla_config::ServerConfig;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// What one request may cost at most.
struct Budget {
    socket_reads: f64,
    socket_writes: f64,
    file_sends: f64,
    file_reads: f64,
    file_writes: f64,
    file_syncs: f64,
    handovers: f64,
    /// Times the thread had nothing to do and waited for the system.
    parks: f64,
    allocations: f64,
    /// Bytes allocated for each byte of records.
    copies: f64,
}

/// What one request cost.
struct Cost {
    calls: Calls,
    parks: f64,
    allocations: f64,
    bytes: f64,
}

/// A broker on a runtime of one thread, with everything counted.
struct Counted {
    runtime: Runtime,
    server: Option<Server>,
    port: u16,
    counters: Arc<Counters>,
    _directory: TempDir,
}

impl Counted {
    fn start(settings: &[(&str, &str)]) -> Counted {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let mut sets = vec![("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned())];
        sets.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let config = ServerConfig::load(None, &sets, Some(directory.path()), true).expect("the settings are valid");
        let (world, counters) = counted::world();
        let server = runtime.block_on(Server::start(world, config.config)).expect("the broker starts");
        let port = server.listeners()[0].address.port();
        Counted { runtime, server: Some(server), port, counters, _directory: directory }
    }

    /// Runs the client's part on a thread of its own while the broker runs on this one; once to warm up, once counted.
    fn cost(&self, requests: usize, mut part: impl FnMut(usize) + Send) -> Cost {
        std::thread::scope(|scope| {
            let (warm, warmed) = oneshot::channel();
            let (go, told) = std::sync::mpsc::channel::<()>();
            let (done, finished) = oneshot::channel();
            scope.spawn(move || {
                part(requests);
                let _ = warm.send(());
                if told.recv().is_ok() {
                    part(requests);
                }
                let _ = done.send(());
            });
            self.runtime.block_on(warmed).expect("the client warms up");
            let before = self.counters.read();
            let parks = || self.runtime.metrics().worker_park_count(0);
            let parked_before = parks();
            let AllocationInfo { count_total, bytes_total, .. } = allocation_counter::measure(|| {
                go.send(()).expect("the client waits");
                self.runtime.block_on(finished).expect("the client finishes");
            });
            let each = |count: u64| count as f64 / requests as f64;
            Cost {
                calls: self.counters.read().since(before, requests),
                parks: each(parks() - parked_before),
                allocations: each(count_total),
                bytes: each(bytes_total),
            }
        })
    }

    /// The client's part alone, while the broker runs.
    fn run<T: Send>(&self, part: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let (done, finished) = oneshot::channel();
            scope.spawn(move || {
                let _ = done.send(part());
            });
            self.runtime.block_on(finished).expect("the client finishes")
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown()).expect("the broker stops cleanly");
        }
    }
}

#[derive(Default)]
struct Table {
    text: String,
    broken: Vec<String>,
}

impl Table {
    fn row(&mut self, name: &str, payload: usize, cost: &Cost, budget: &Budget) {
        let Cost { calls, parks, allocations, bytes } = cost;
        let copies = if payload == 0 { 0.0 } else { bytes / payload as f64 };
        let columns = [
            ("recv", calls.socket_reads, budget.socket_reads),
            ("send", calls.socket_writes, budget.socket_writes),
            ("sendfile", calls.file_sends, budget.file_sends),
            ("pread", calls.file_reads, budget.file_reads),
            ("pwritev", calls.file_writes, budget.file_writes),
            ("fdatasync", calls.file_syncs, budget.file_syncs),
            ("hand-overs", calls.handovers, budget.handovers),
            ("parks", *parks, budget.parks),
            ("allocations", *allocations, budget.allocations),
            ("copies", copies, budget.copies),
        ];
        if self.text.is_empty() {
            let names: Vec<_> = columns.iter().map(|(name, ..)| *name).collect();
            let _ = writeln!(self.text, "\n| one request | {} | bytes allocated |", names.join(" | "));
            let _ = writeln!(self.text, "|---|{}---|", "---|".repeat(names.len()));
        }
        let _ = write!(self.text, "| {name} |");
        for (column, measured, limit) in columns {
            let _ = write!(self.text, " {measured:.2} |");
            if measured > limit {
                self.broken.push(format!("{name}: {column} {measured:.2}, the budget is {limit}"));
            }
        }
        let _ = writeln!(self.text, " {bytes:.0} |");
    }

    fn row_of_memory(&mut self, name: &str, bytes: f64, limit: f64) {
        let _ = writeln!(self.text, "\n{name} keeps {bytes:.0} bytes.");
        if bytes > limit {
            self.broken.push(format!("{name}: {bytes:.0} bytes, the budget is {limit}"));
        }
    }

    fn finish(self) {
        let _ = std::io::stdout().lock().write_all(self.text.as_bytes());
        assert!(self.broken.is_empty(), "over budget:\n{}", self.broken.join("\n"));
    }
}

const NOTHING: Budget = Budget {
    socket_reads: 0.0,
    socket_writes: 0.0,
    file_sends: 0.0,
    file_reads: 0.0,
    file_writes: 0.0,
    file_syncs: 0.0,
    handovers: 0.0,
    parks: 0.0,
    allocations: 0.0,
    copies: 0.0,
};

/// A request that is here as a whole, answered with one write. Upkeep and scheduling may add a little.
const ONE: Budget = Budget { socket_reads: 1.1, socket_writes: 1.05, parks: 1.5, ..NOTHING };

#[test]
fn requests_keep_to_their_budgets() {
    let mut table = Table::default();
    page_cache(&mut table);
    durable(&mut table);
    cold(&mut table);
    idle_connections(&mut table);
    table.finish();
}

/// Requests to a broker that answers from and to the page cache.
fn page_cache(table: &mut Table) {
    let broker = Counted::start(&[("ottla.durability", "page-cache"), ("offsets.topic.num.partitions", "1")]);
    let mut client = broker.run(|| {
        let mut client = Client::connect(broker.port);
        client.exchange(&metadata());
        client
    });

    let small = batch(1, 100);
    let request = produce(small.clone());
    let cost = broker.cost(1_000, |requests| client.repeat(&request, requests));
    let budget = Budget { file_writes: 1.02, allocations: 13.0, copies: 10.0, ..ONE };
    table.row("produce 1 x 100 B", small.len(), &cost, &budget);

    let together = request.repeat(50);
    let cost = broker.cost(2_000, |requests| {
        for _ in 0..requests / 50 {
            client.send(&together);
            client.receive_many(50);
        }
    });
    let budget = Budget {
        socket_reads: 0.06,
        socket_writes: 0.06,
        file_writes: 1.02,
        parks: 0.1,
        allocations: 11.0,
        copies: 9.0,
        ..NOTHING
    };
    table.row("produce 1 x 100 B, 50 sent together", small.len(), &cost, &budget);

    let medium = batch(150, 100);
    let request = produce(medium.clone());
    let cost = broker.cost(500, |requests| client.repeat(&request, requests));
    let budget = Budget { file_writes: 1.02, allocations: 13.0, copies: 1.6, ..ONE };
    table.row("produce 150 x 100 B", medium.len(), &cost, &budget);

    let large = batch(900, 1024);
    let request = produce(large.clone());
    let cost = broker.cost(50, |requests| client.repeat(&request, requests));
    // A large frame comes in as many pieces as the network makes of it.
    let budget = Budget { socket_reads: 20.0, parks: 20.0, file_writes: 1.05, allocations: 16.5, copies: 1.1, ..ONE };
    table.row("produce 900 x 1 KiB", large.len(), &cost, &budget);

    // The first records of the large batches are in memory as long as the newest of them all.
    let end = broker.run(|| high_watermark(&mut client));
    let request = fetch(end - 900, 1 << 20, 0);
    let cost = broker.cost(100, |requests| client.repeat(&request, requests));
    // So much at once leaves from the system's cache: it was written there a moment ago.
    let budget = Budget { socket_writes: 10.0, file_sends: 10.0, parks: 10.0, allocations: 24.0, copies: 0.01, ..ONE };
    table.row("fetch 900 x 1 KiB, hot", large.len(), &cost, &budget);

    let request = fetch(end, 1 << 20, 0);
    let cost = broker.cost(1_000, |requests| client.repeat(&request, requests));
    let budget = Budget { allocations: 18.5, ..ONE };
    table.row("fetch of nothing new", 0, &cost, &budget);

    let mut consumer = Client::connect(broker.port);
    let mut offset = end;
    let request = produce(small.clone());
    let cost = broker.cost(500, |requests| {
        for _ in 0..requests {
            consumer.send(&fetch(offset, 1 << 20, 10_000));
            client.exchange(&request);
            consumer.receive();
            offset += 1;
        }
    });
    // Two requests; the fetch may come before or after the record.
    let budget = Budget {
        socket_reads: 2.2,
        socket_writes: 2.2,
        file_writes: 1.02,
        parks: 3.0,
        allocations: 36.0,
        copies: 38.0,
        ..NOTHING
    };
    table.row("produce and the fetch that waits for it", small.len(), &cost, &budget);

    let request = metadata();
    let cost = broker.cost(500, |requests| client.repeat(&request, requests));
    table.row("metadata of one topic", 0, &cost, &Budget { allocations: 18.5, ..ONE });

    broker.run(|| coordinator_is_ready(&mut client));
    let request = client::offset_commit();
    let cost = broker.cost(500, |requests| client.repeat(&request, requests));
    table.row("commit of one offset", 0, &cost, &Budget { file_writes: 1.02, allocations: 53.0, ..ONE });
}

/// Connections on which nothing happens, each after one question.
fn idle_connections(table: &mut Table) {
    const CONNECTIONS: usize = 200;
    let broker = Counted::start(&[]);
    let open = || {
        (0..CONNECTIONS)
            .map(|_| {
                let mut client = Client::connect(broker.port);
                client.exchange(&metadata());
                client
            })
            .collect::<Vec<_>>()
    };
    let warm = broker.run(open);
    let mut clients = Vec::new();
    let kept = allocation_counter::measure(|| clients = broker.run(open)).bytes_current;
    drop((warm, clients));
    table.row_of_memory("an idle connection", kept as f64 / CONNECTIONS as f64, 4_096.0);
}

/// What durability adds: the flush round is another thread's work, which wakes this one.
fn durable(table: &mut Table) {
    let broker = Counted::start(&[("ottla.durability", "fsync")]);
    let mut client = broker.run(|| {
        let mut client = Client::connect(broker.port);
        client.exchange(&metadata());
        client
    });
    let small = batch(1, 100);
    let request = produce(small.clone());
    let cost = broker.cost(200, |requests| client.repeat(&request, requests));
    // The records, and the note of a sync before and after it: docs/decisions/0022.
    let budget = Budget {
        file_writes: 3.05,
        file_syncs: 1.05,
        handovers: 1.05,
        parks: 4.0,
        allocations: 50.0,
        copies: 26.0,
        ..ONE
    };
    table.row("produce 1 x 100 B, durable", small.len(), &cost, &budget);

    let together = request.repeat(50);
    let cost = broker.cost(2_000, |requests| {
        for _ in 0..requests / 50 {
            client.send(&together);
            client.receive_many(50);
        }
    });
    // One flush round, or the few that begin while requests are taken up.
    let budget = Budget {
        socket_reads: 0.1,
        socket_writes: 0.12,
        file_writes: 1.25,
        file_syncs: 0.12,
        handovers: 0.12,
        parks: 0.4,
        allocations: 16.0,
        copies: 13.0,
        ..NOTHING
    };
    table.row("produce 1 x 100 B, durable, 50 sent together", small.len(), &cost, &budget);
}

/// Records that are in no memory of the broker's.
fn cold(table: &mut Table) {
    let broker = Counted::start(&[("ottla.durability", "page-cache"), ("ottla.memory.hot.tail.bytes", "0")]);
    let large = batch(900, 1024);
    let mut client = broker.run(|| {
        let mut client = Client::connect(broker.port);
        client.exchange(&metadata());
        let request = produce(large.clone());
        client.repeat(&request, 4);
        client
    });
    let request = fetch(900, 1 << 20, 0);
    let cost = broker.cost(100, |requests| client.repeat(&request, requests));
    let budget = Budget {
        socket_writes: 2.05,
        file_sends: 24.0,
        file_reads: 2.05,
        parks: 25.0,
        allocations: 28.0,
        copies: 0.01,
        ..ONE
    };
    table.row("fetch 900 x 1 KiB, cold", large.len(), &cost, &budget);
}

/// The high watermark that a fetch answers (version 12: throttle time, error, session, one topic, one partition).
fn high_watermark(client: &mut Client) -> i64 {
    let answer = client.exchange(&fetch(0, 1, 0));
    let name = client::TOPIC.len();
    // Header tag, throttle 4, error 2, session 4, topics 1, name 1 + n, partitions 1, index 4, error 2.
    let at = 1 + 4 + 2 + 4 + 1 + 1 + name + 1 + 4 + 2;
    i64::from_be_bytes(answer[at..at + 8].try_into().expect("eight bytes"))
}

fn coordinator_is_ready(client: &mut Client) {
    client.exchange(&client::find_coordinator());
    // Its partition loads in the background; until then a commit is answered with an error, and is longer for none.
    let request = client::offset_commit();
    while client.exchange(&request).ends_with(&[14, 0, 0, 0]) {
        std::thread::yield_now();
    }
}
