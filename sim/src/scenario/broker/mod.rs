//! The broker as the binary starts it, with producers and a consumer over simulated TCP.
//!
//! Promised and checked: what was acknowledged or read stays where it was; each producer's records are there once and
//! in order; a topic that was created keeps its id; offsets of a group that were committed stay; deleted records and
//! topics do not come back.

mod committer;
mod consumer;
mod janitor;
mod producer;
mod server;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_rt::World;
use ottla_types::{ErrorCode, Uuid};

use self::committer::{Committer, Promises};
use self::consumer::Consumer;
use self::janitor::{Done, Janitor};
use self::producer::Producer;
use crate::choice::Choice;
use crate::driver::{Faults, Planted, Progress, Run, SERVER, drive};
use crate::history::History;
use crate::kafka::{Connection, Trouble, anomaly};
use crate::machine::Machine;

const BROKER_PORT: u16 = 9092;
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
/// More than partitions, so that some share one.
const PRODUCERS: u32 = 4;

pub fn run(run: &Run) -> anyhow::Result<()> {
    let machine = Machine::new(run.seed, &run.trace);
    let clients = Machine::new(!run.seed, &run.trace);
    let faults = Faults { network: true, power_during_operations: true, disk_errors: true };
    let (seed, counts) = (run.seed, Rc::clone(&run.counts));
    let config = server::config(&Choice::new(seed, "configuration"))?;
    let planted = run.planted.and_then(Planted::of_the_log);
    drive(
        run,
        &machine,
        faults,
        move |world| server::serve(world, config.clone(), planted),
        move |progress| async move {
            let history = Rc::new(RefCell::new(History::default()));
            let result = clients_work(&clients, seed, progress, Rc::clone(&history)).await;
            let mut counts = counts.borrow_mut();
            counts.acknowledged += history.borrow().acknowledged;
            counts.observed += history.borrow().observed;
            let found = result?;
            counts.verified += found.records;
            counts.commits_acknowledged += found.commits;
            counts.topics_deleted += found.deleted.topics_deleted;
            counts.records_deleted += found.deleted.records_deleted;
            Ok(())
        },
    )
}

/// What was read back or acknowledged in the end.
struct Found {
    records: u64,
    commits: u64,
    deleted: Done,
}

async fn clients_work(
    machine: &Machine,
    seed: u64,
    progress: Rc<Progress>,
    history: Rc<RefCell<History>>,
) -> anyhow::Result<Found> {
    let world = machine.world();
    let choice = Choice::new(seed, "topic");
    let topic_id = create_topic(&world, &choice).await?;
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|number| Producer {
            number,
            partition: number as i32 % PARTITIONS,
            topic: TOPIC,
            topic_id,
            world: machine.world(),
            choice: Choice::new(seed, &format!("producer {number}")),
            history: Rc::clone(&history),
            progress: Rc::clone(&progress),
        })
        .map(|producer| tokio::task::spawn_local(producer.run()))
        .collect();
    let consumer = Rc::new(Consumer {
        topic: TOPIC,
        topic_id,
        world: machine.world(),
        choice: Choice::new(seed, "consumer"),
        history: Rc::clone(&history),
    });
    let done = Rc::new(Cell::new(false));
    let (reading, stop) = (Rc::clone(&consumer), Rc::clone(&done));
    let reader = tokio::task::spawn_local(async move { reading.run(stop).await });
    let committer = Committer {
        topic: TOPIC,
        world: machine.world(),
        choice: Choice::new(seed, "committer"),
        progress: Rc::clone(&progress),
        promises: Promises::default(),
    };
    let committer = tokio::task::spawn_local(committer.run());
    let janitor = Janitor {
        world: machine.world(),
        choice: Choice::new(seed, "janitor"),
        progress: Rc::clone(&progress),
        gone: BTreeSet::new(),
        done: Done::default(),
    };
    let janitor = tokio::task::spawn_local(janitor.run());
    for producer in producers {
        producer.await??;
    }
    let (commits, deleted) = (committer.await??, janitor.await??);
    done.set(true);
    reader.await??;

    let mut verified = 0;
    for partition in 0..PARTITIONS {
        let log = consumer.read_all(partition).await.context("reading everything back")?;
        if let Err(anomaly) = history.borrow().verify(partition, &log) {
            bail!("{anomaly}");
        }
        verified += log.len() as u64;
    }
    ensure!(topic_id_now(&mut connect(&world).await?, TOPIC).await? == Some(topic_id), "the topic is another one");
    Ok(Found { records: verified, commits, deleted })
}

async fn connect(world: &World) -> Result<Connection, Trouble> {
    Connection::open(world, SERVER, BROKER_PORT).await
}

/// Creates the topic however long it takes; its id once that was acknowledged or seen.
async fn create_topic(world: &World, choice: &Choice) -> anyhow::Result<Uuid> {
    loop {
        match try_to_create(world, choice).await {
            Ok(topic_id) => return Ok(topic_id),
            Err(Trouble::Anomaly(what)) => bail!("creating the topic: {what}"),
            Err(Trouble::Connection(_) | Trouble::Refused(_)) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn try_to_create(world: &World, choice: &Choice) -> Result<Uuid, Trouble> {
    let mut connection = connect(world).await?;
    // An earlier try may have been answered to nobody.
    if choice.one_in(2)
        && let Some(topic_id) = topic_id_now(&mut connection, TOPIC).await?
    {
        return Ok(topic_id);
    }
    // Small segments, so that rolls are among what faults hit.
    let configs = [("segment.ms", *choice.of(&["200", "5000"])), ("segment.bytes", "1048576")];
    let config = |(name, value): (&'static str, &'static str)| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
    };
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: configs.into_iter().map(config).collect(),
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 3000, validate_only: false };
    let response = connection.call(&request, 7).await?;
    let Some(result) = response.topics.first() else { return anomaly("an answer without a topic") };
    match ErrorCode::from_code(result.error_code) {
        Some(ErrorCode::None) => Ok(result.topic_id),
        Some(ErrorCode::TopicAlreadyExists) => match topic_id_now(&mut connection, TOPIC).await? {
            Some(topic_id) => Ok(topic_id),
            None => anomaly("a topic exists and is not there"),
        },
        _ => refused("create topics", result.error_code),
    }
}

async fn topic_id_now(connection: &mut Connection, name: &'static str) -> Result<Option<Uuid>, Trouble> {
    let topic = MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() };
    let request =
        MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..MetadataRequest::default() };
    let response = connection.call(&request, 12).await?;
    let known = response.topics.first().filter(|topic| topic.error_code == 0);
    Ok(known.map(|topic| topic.topic_id))
}

/// Sorts an error code: a retriable one is a refusal, any other an anomaly here.
fn refused<T>(what: &str, code: i16) -> Result<T, Trouble> {
    match ErrorCode::from_code(code) {
        Some(error) if error.is_retriable() => Err(Trouble::Refused(format!("{what}: {}", error.name()))),
        Some(error) => anomaly(format!("{what}: {}", error.name())),
        None => anomaly(format!("{what}: error {code}")),
    }
}
