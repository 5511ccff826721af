//! What committed offsets cost on this machine: `cargo run --release -p ottla-broker --example offsets`.
//!
//! A broker with one partition of `__consumer_offsets` is given a million offsets (10,000 groups, 100 partitions each),
//! then single commits as fast as it takes them; another process starts it again: how long until the first group's
//! offsets are answered, and how much processor time and memory that takes. Arguments: groups, partitions, seconds of
//! single commits, `ottla.durability`, `group.coordinator.append.linger.ms`.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ottla_broker::Server;
use ottla_client::Connection;
use ottla_config::ServerConfig;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup};
use ottla_rt::World;
use ottla_types::ErrorCode;

type Failed = Box<dyn Error + Send + Sync>;

/// The argument of the process that loads.
const LOAD: &str = "--load";
const TIMEOUT: Duration = Duration::from_secs(60);
/// Requests under way at once, on each of several connections.
const IN_FLIGHT: usize = 32;
const CONNECTIONS: usize = 8;
/// Topics are named by name up to this version.
const COMMIT_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 9;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [LOAD, directory, durability] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return load(Path::new(directory), durability).await;
    }
    let number = |at: usize, default: i32| arguments.get(at).map_or(Ok(default), |text| text.parse::<i32>());
    let (groups, partitions, seconds) = (number(0, 10_000)?, number(1, 100)?, number(2, 5)?);
    let durability = arguments.get(3).map_or("page-cache", String::as_str);
    let linger_ms = arguments.get(4).map_or("-1", String::as_str);
    let directory = tempfile::tempdir()?;

    let server = start(directory.path(), durability, linger_ms).await?;
    prepare(&connect(&server).await?, partitions).await?;
    let began = Instant::now();
    fill(&server, groups, partitions).await?;
    let offsets = f64::from(groups) * f64::from(partitions);
    let rate = offsets / began.elapsed().as_secs_f64();
    say(&format!("{durability}: {offsets} offsets committed, {partitions} to a request: {rate:.0} offsets/s"))?;
    let (used_ms, time) = (processor_ms()?, Duration::from_secs(u64::try_from(seconds)?));
    let rate = single_commits(&server, groups, time).await?;
    let used_us = (processor_ms()? - used_ms) as f64 * 1e3 / (rate * time.as_secs_f64());
    say(&format!(
        "{CONNECTIONS} connections with {IN_FLIGHT} commits of one offset in flight, linger {linger_ms}: {rate:.0} \
         requests/s, {used_us:.1} us of processor time each, the client's included"
    ))?;
    server.shutdown().await?;

    // A process of its own, whose memory is that of what it loads.
    let status = Command::new(std::env::current_exe()?).arg(LOAD).arg(directory.path()).arg(durability).status()?;
    if status.success() { Ok(()) } else { Err("loading failed".into()) }
}

/// Starts a broker on what was committed.
async fn load(directory: &Path, durability: &str) -> Result<(), Failed> {
    let began = Instant::now();
    let server = start(directory, durability, "-1").await?;
    let listening = began.elapsed();
    let before_kib = resident_kib()?;
    let connection = connect(&server).await?;
    while fetch(&connection).await? == ErrorCode::CoordinatorLoadInProgress.code() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    say(&format!(
        "loaded: listening after {:.0} ms, offsets answered after {:.0} ms, {} ms of processor time; resident {} MiB when \
         listening, {} MiB then",
        listening.as_secs_f64() * 1e3,
        began.elapsed().as_secs_f64() * 1e3,
        processor_ms()?,
        before_kib / 1024,
        resident_kib()? / 1024
    ))?;
    server.shutdown().await?;
    Ok(())
}

async fn start(directory: &Path, durability: &str, linger_ms: &str) -> Result<Server, Failed> {
    let settings = [
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("offsets.topic.num.partitions", "1"),
        ("ottla.durability", durability),
        ("group.coordinator.append.linger.ms", linger_ms),
    ];
    let settings: Vec<(String, String)> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let config =
        ServerConfig::load(None, &settings, Some(directory), true).map_err(|_| "the settings are refused")?.config;
    Ok(Server::start(World::os(), config).await?)
}

async fn connect(server: &Server) -> Result<Connection, Failed> {
    let port = server.listeners().first().ok_or("no listener")?.address.port();
    Ok(Connection::connect(&*World::os().net, "127.0.0.1", port, "offsets", TIMEOUT).await?)
}

async fn prepare(connection: &Connection, partitions: i32) -> Result<(), Failed> {
    let topic = CreatableTopic {
        name: StrBytes::from_static("t"),
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    };
    connection.send(&CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, validate_only: false }).await?;
    let request = FindCoordinatorRequest { coordinator_keys: vec![group(0)], ..Default::default() };
    connection.send(&request).await?;
    Ok(())
}

/// Commits every partition of every group, a request for each group.
async fn fill(server: &Server, groups: i32, partitions: i32) -> Result<(), Failed> {
    let mut tasks = Vec::new();
    for first in 0..CONNECTIONS as i32 {
        let connection = connect(server).await?;
        tasks.push(tokio::spawn(async move {
            for number in (first..groups).step_by(CONNECTIONS) {
                commit(&connection, &commit_request(number, 0..partitions)).await?;
            }
            Ok::<(), Failed>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn single_commits(server: &Server, groups: i32, time: Duration) -> Result<f64, Failed> {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for first in 0..CONNECTIONS as i32 {
        let connection = Arc::new(connect(server).await?);
        for lane in 0..IN_FLIGHT as i32 {
            let (connection, stop, count) = (Arc::clone(&connection), Arc::clone(&stop), Arc::clone(&count));
            let request = commit_request((first * IN_FLIGHT as i32 + lane) % groups, 0..1);
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    commit(&connection, &request).await?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), Failed>(())
            }));
        }
    }
    let began = Instant::now();
    tokio::time::sleep(time).await;
    let rate = count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    Ok(rate)
}

fn group(number: i32) -> StrBytes {
    StrBytes::from(format!("group-{number}"))
}

fn commit_request(number: i32, partitions: std::ops::Range<i32>) -> OffsetCommitRequest {
    let partitions = partitions
        .map(|partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: 1_000_000,
            committed_leader_epoch: 0,
            committed_metadata: Some(StrBytes::default()),
        })
        .collect();
    OffsetCommitRequest {
        group_id: group(number),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic { name: StrBytes::from_static("t"), partitions, ..Default::default() }],
        ..Default::default()
    }
}

async fn commit(connection: &Connection, request: &OffsetCommitRequest) -> Result<(), Failed> {
    let response = connection.send_at_most(request, COMMIT_VERSION, TIMEOUT).await?;
    let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    if partitions.any(|partition| partition.error_code != 0) {
        return Err("a commit is refused".into());
    }
    Ok(())
}

/// The error of asking for the first group's offsets.
async fn fetch(connection: &Connection) -> Result<i16, Failed> {
    let groups = vec![OffsetFetchRequestGroup { group_id: group(0), topics: None, ..Default::default() }];
    let request = OffsetFetchRequest { groups, ..Default::default() };
    let response = connection.send_at_most(&request, FETCH_VERSION, TIMEOUT).await?;
    Ok(response.groups.first().ok_or("no group in the answer")?.error_code)
}

fn resident_kib() -> Result<u64, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

/// User and system time of this process; the kernel counts it in hundredths of a second.
fn processor_ms() -> Result<u64, Failed> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name, in parentheses, may hold blanks; user time is the twelfth field after it.
    let after_name = stat.rsplit_once(") ").ok_or("no process name")?.1;
    let times = after_name.split(' ').skip(11).take(2).map(str::parse::<u64>);
    Ok(times.sum::<Result<u64, _>>()? * 10)
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}
