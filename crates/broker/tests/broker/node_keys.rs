//! What single keys of a node do, as far as a client or the directories show it.

use std::path::Path;
use std::time::Duration;

use ottla_broker::Server;
use ottla_config::ServerConfig;
use ottla_protocol::FetchedRecords;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequest;
use ottla_rt::World;
use ottla_rt::memory::MemoryWorld;
use ottla_types::Uuid;

use crate::groups::{GROUP, OFFSETS, commit, commit_request, committed, find};
use crate::support::{
    TIMEOUT, TestBroker, create_topic, fetch, fetch_raw, fetch_request, metadata, start_on, start_with,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_who_and_where_it_was_told() {
    for id_key in ["node.id", "broker.id"] {
        let root = tempfile::tempdir().unwrap();
        let (data, metadata_log) = (root.path().join("data"), root.path().join("metadata"));
        let file = format!(
            "{id_key}=7\n\
             listeners=OUTSIDE://127.0.0.1:0,CONTROLLER://127.0.0.1:0\n\
             listener.security.protocol.map=OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=OUTSIDE\n\
             advertised.listeners=OUTSIDE://elsewhere.example:19092\n\
             log.dir={}\n\
             metadata.log.dir={}\n",
            data.display(),
            metadata_log.display()
        );
        for _start in 0..2 {
            let world = World::os();
            let config = ServerConfig::load(Some(&file), &[], None, true).unwrap().config;
            let server = Server::start(world.clone(), config).await.unwrap();
            assert_eq!(server.listeners().len(), 1, "clients are not sent to the controller's");
            assert_eq!(&*server.listeners()[0].name, "OUTSIDE");
            let broker = TestBroker { port: server.listeners()[0].address.port(), server, world };
            let connection = broker.connect().await;
            let answer = metadata(&connection, &["t"], true).await;
            let [node] = answer.brokers.as_slice() else { panic!("{:?}", answer.brokers) };
            assert_eq!((node.node_id, &*node.host, node.port), (7, "elsewhere.example", 19092), "{id_key}");
            broker.stop().await;
            assert!(data.join("t-0").is_dir());
            assert_eq!(
                (data.join("ottla-metadata").exists(), metadata_log.join("ottla-metadata").is_dir()),
                (false, true)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_fetch_sessions_are_remembered() {
    for slots in [0, 2] {
        let settings = [("max.incremental.fetch.session.cache.slots", slots.to_string())];
        let (_directory, broker) = start_with(&[(settings[0].0, &settings[0].1)]).await;
        let connection = broker.connect().await;
        create_topic(&connection, "t", 1, &[]).await;
        let mut request = fetch_request("t", 0, 0, 0);
        request.session_epoch = 0;
        for number in 0..3 {
            let has_session = fetch_raw(&connection, &request).await.session_id != 0;
            assert_eq!(has_session, number < slots, "fetch {number} with {slots} slots");
        }
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_are_stored_with_the_nodes_codec() {
    for codec in 0..=4 {
        let settings =
            [("offsets.topic.compression.codec", codec.to_string()), ("offsets.topic.num.partitions", "1".into())];
        let settings = settings.each_ref().map(|(key, value)| (*key, value.as_str()));
        let (_directory, broker) = start_with(&settings).await;
        let connection = broker.connect().await;
        let id = create_topic(&connection, "t", 1, &[]).await;
        find(&connection, GROUP).await;
        assert_eq!(commit(&connection, &commit_request(None, "t", id, &[(0, 42)]), 10).await, [(0, 0)]);
        let records = fetch(&connection, OFFSETS, 0, 0, 0).await.records.and_then(FetchedRecords::into_bytes).unwrap();
        let (header, _) = ottla_record::batches(&records).next().unwrap().unwrap();
        assert_eq!(header.attributes.codec_id(), codec);
        assert_eq!(committed(&connection).await.len(), 1);
        broker.stop().await;
    }
}

/// On a clock that stands still. An offset with a retention of its own shows that the others were looked at.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_kept_as_long_as_the_node_says() {
    let machine = MemoryWorld::new(1);
    let settings = [("offsets.retention.minutes", "2"), ("offsets.retention.check.interval.ms", "20")];
    let broker = start_on(machine.world(), Path::new("/data"), &settings).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    find(&connection, GROUP).await;
    assert_eq!(commit(&connection, &commit_request(None, "t", Uuid::ZERO, &[(0, 1)]), 9).await, [(0, 0)]);
    let wait_for = async |left: usize| {
        let waiting = async {
            while committed(&connection).await.len() != left {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, waiting).await.expect("offsets go");
    };
    machine.clock.advance(Duration::from_secs(119));
    let witness = OffsetCommitRequest { retention_time_ms: 1, ..commit_request(None, "t", Uuid::ZERO, &[(1, 2)]) };
    assert_eq!(commit(&connection, &witness, 2).await, [(1, 0)]);
    machine.clock.advance(Duration::from_millis(500));
    wait_for(1).await;
    assert!(committed(&connection).await.contains_key(&("t".to_owned(), 0)));
    machine.clock.advance(Duration::from_millis(521));
    wait_for(0).await;
    broker.stop().await;
}
