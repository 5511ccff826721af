//! Configurations over the wire: what is answered, what is kept, what takes effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_broker::{LogLevel, Loggers, ROOT_LOGGER, Server, ServerSettings};
use ottla_client::Connection;
use ottla_config::ServerConfig;
use ottla_protocol::messages::alter_configs_request::{self, AlterConfigsRequest};
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use ottla_rt::World;
use ottla_types::ErrorCode;
use parking_lot::Mutex;

use crate::support::{TIMEOUT, TestBroker, create_topic, start, start_in, start_with, text};

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

/// A key, the operation, the value.
type Step<'a> = (i8, &'a str, Option<&'a str>);

fn incremental(resource_type: i8, name: &str, steps: &[Step<'_>]) -> AlterConfigsResource {
    let config = |(operation, key, value): &Step<'_>| AlterableConfig {
        name: text(key),
        config_operation: *operation,
        value: value.map(text),
    };
    AlterConfigsResource { resource_type, resource_name: text(name), configs: steps.iter().map(config).collect() }
}

/// Changes one resource, and returns the error and its message.
async fn alter(connection: &Connection, resource_type: i8, name: &str, steps: &[Step<'_>]) -> (ErrorCode, String) {
    let resources = vec![incremental(resource_type, name, steps)];
    let answers = alter_all(connection, resources, false).await;
    answers.into_iter().next().expect("an answer")
}

async fn alter_all(
    connection: &Connection,
    resources: Vec<AlterConfigsResource>,
    validate_only: bool,
) -> Vec<(ErrorCode, String)> {
    let count = resources.len();
    let request = IncrementalAlterConfigsRequest { resources, validate_only };
    let response = connection.send(&request).await.unwrap();
    assert_eq!(response.responses.len(), count, "every resource is answered");
    let answer = |code, message: Option<_>| {
        (
            ErrorCode::from_code(code).expect("a known error"),
            message.map(|text: ottla_protocol::StrBytes| text.to_string()),
        )
    };
    response
        .responses
        .into_iter()
        .map(|response| answer(response.error_code, response.error_message))
        .map(|(code, message)| (code, message.unwrap_or_default()))
        .collect()
}

/// Sets one key, which must be accepted.
pub async fn set(connection: &Connection, resource_type: i8, name: &str, key: &str, value: &str) {
    let answer = alter(connection, resource_type, name, &[(SET, key, Some(value))]).await;
    assert_eq!(answer.0, ErrorCode::None, "{key}={value}: {}", answer.1);
}

/// Sets one key if it is accepted, and returns the error.
pub async fn try_set(connection: &Connection, resource_type: i8, name: &str, key: &str, value: &str) -> ErrorCode {
    alter(connection, resource_type, name, &[(SET, key, Some(value))]).await.0
}

/// Takes one key's own value away.
pub async fn unset(connection: &Connection, resource_type: i8, name: &str, key: &str) {
    assert_eq!(alter(connection, resource_type, name, &[(DELETE, key, None)]).await.0, ErrorCode::None);
}

async fn replace(connection: &Connection, resource_type: i8, name: &str, configs: &[Step<'_>]) -> (ErrorCode, String) {
    let config =
        |(_, key, value): &Step<'_>| alter_configs_request::AlterableConfig { name: text(key), value: value.map(text) };
    let resource = alter_configs_request::AlterConfigsResource {
        resource_type,
        resource_name: text(name),
        configs: configs.iter().map(config).collect(),
    };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response = connection.send(&request).await.unwrap().responses.remove(0);
    let message = response.error_message.map(|message| message.to_string());
    (ErrorCode::from_code(response.error_code).unwrap(), message.unwrap_or_default())
}

async fn describe_all(
    connection: &Connection,
    resource_type: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> Result<BTreeMap<String, DescribeConfigsResourceResult>, (ErrorCode, String)> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type,
            resource_name: text(name),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| text(key)).collect()),
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    let result = connection.send(&request).await.unwrap().results.remove(0);
    if result.error_code == 0 {
        Ok(result.configs.into_iter().map(|config| (config.name.to_string(), config)).collect())
    } else {
        let message = result.error_message.map(|message| message.to_string());
        Err((ErrorCode::from_code(result.error_code).unwrap(), message.unwrap_or_default()))
    }
}

/// One key as `value source`, and what it comes from as `name=value source`.
async fn describe(connection: &Connection, resource_type: i8, name: &str, key: &str) -> (String, Vec<String>) {
    let described = describe_all(connection, resource_type, name, Some(&[key])).await.expect("it is described");
    let shown = |value: &Option<ottla_protocol::StrBytes>| value.as_deref().unwrap_or("null").to_owned();
    let config = &described[key];
    let synonyms = config.synonyms.iter();
    let synonyms = synonyms.map(|synonym| format!("{}={} {}", synonym.name, shown(&synonym.value), synonym.source));
    (format!("{} {}", shown(&config.value), config.config_source), synonyms.collect())
}

/// `operation|key|value&…`, as the golden file has it.
fn steps(text: &str) -> Vec<Step<'_>> {
    let step = |step: &'_ str| -> Vec<usize> { step.match_indices('|').map(|(at, _)| at).collect() };
    text.split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let bars = step(part);
            let value = &part[bars[1] + 1..];
            (part[..bars[0]].parse().unwrap(), &part[bars[0] + 1..bars[1]], (value != "NULL").then_some(value))
        })
        .collect()
}

/// Loggers that only remember.
#[derive(Default)]
struct TestLoggers(Mutex<BTreeMap<String, LogLevel>>);

impl Loggers for TestLoggers {
    fn levels(&self) -> BTreeMap<String, LogLevel> {
        let mut levels = self.0.lock().clone();
        let root = *levels.entry(ROOT_LOGGER.to_owned()).or_insert(LogLevel::Warn);
        levels.entry("ottla_log".to_owned()).or_insert(root);
        levels
    }

    fn set(&self, levels: &BTreeMap<String, Option<LogLevel>>) {
        let mut set = self.0.lock();
        for (name, level) in levels {
            match level {
                Some(level) => drop(set.insert(name.clone(), *level)),
                None => drop(set.remove(name)),
            }
        }
    }
}

async fn start_with_loggers(directory: &std::path::Path) -> (TestBroker, Arc<TestLoggers>) {
    let loggers = Arc::new(TestLoggers::default());
    let sets = [("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned())];
    let config = ServerConfig::load(None, &sets, Some(directory), true).unwrap().config;
    let settings = ServerSettings { loggers: Arc::clone(&loggers) as Arc<dyn Loggers>, ..ServerSettings::default() };
    let server = Server::start_with(World::os(), config, settings).await.unwrap();
    let port = server.listeners()[0].address.port();
    (TestBroker { server, port, world: World::os() }, loggers)
}

/// One row of the golden file: the API, the resource, what is asked, and Kafka's answer.
struct Row<'a> {
    api: &'a str,
    resource_type: i8,
    name: &'a str,
    asked: &'a str,
    code: i16,
    message: &'a str,
}

fn rows() -> impl Iterator<Item = Row<'static>> {
    include_str!("golden/alter_configs.tsv").lines().map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        let [api, resource_type, name, asked, code, message] = columns[..] else { panic!("{line}") };
        Row { api, resource_type: resource_type.parse().unwrap(), name, asked, code: code.parse().unwrap(), message }
    })
}

/// Where Ottla's code differs from Kafka's, and why.
const OTHER_CODES: &[(&str, &str)] = &[(
    "0|cordoned.log.dirs|/x",
    "directories cannot be cordoned yet; the key is kept with a warning, whatever it names",
)];

/// Every row of what Kafka 4.4 answered, asked of this broker in the same order.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_kafkas() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, _) = start_with_loggers(directory.path()).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let (mut differing, mut messages, mut count) = (Vec::new(), 0, 0);
    for row in rows() {
        let asked = steps(row.asked);
        let (code, message) = match row.api {
            "whole" => replace(&connection, row.resource_type, row.name, &asked).await,
            api => {
                let resources = vec![incremental(row.resource_type, row.name, &asked)];
                alter_all(&connection, resources, api == "validate").await.remove(0)
            }
        };
        count += 1;
        messages += usize::from(message == row.message);
        if code.code() != row.code && !OTHER_CODES.iter().any(|(asked, _)| *asked == row.asked) {
            differing.push(format!(
                "{} {} {:?} {}: {} {:?} instead of {} {:?}",
                row.api, row.resource_type, row.name, row.asked, code, message, row.code, row.message
            ));
        }
        assert_eq!(code.is_error(), !message.is_empty(), "an error says why: {}", row.asked);
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert!(messages * 10 >= count * 7, "{messages} of {count} messages are Kafka's, word for word");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_is_described_with_everything_below_it() {
    let (_directory, broker) = start_with(&[("message.max.bytes", "1000"), ("log.retention.hours", "5")]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let key = "message.max.bytes";
    set(&connection, BROKER, "", key, "3000").await;
    set(&connection, BROKER, "1", key, "2000").await;
    set(&connection, TOPIC, "t", "max.message.bytes", "500").await;
    let below = ["message.max.bytes=2000 2", "message.max.bytes=3000 3", "message.max.bytes=1000 4"];
    let default = "message.max.bytes=1048588 5";
    let (value, synonyms) = describe(&connection, BROKER, "1", key).await;
    assert_eq!(
        (value.as_str(), synonyms),
        ("2000 2", [&below[..], &[default]].concat().iter().map(ToString::to_string).collect())
    );
    let (value, synonyms) = describe(&connection, BROKER, "", key).await;
    assert_eq!((value.as_str(), synonyms), ("3000 3", vec![below[1].to_owned()]));
    let (value, synonyms) = describe(&connection, TOPIC, "t", "max.message.bytes").await;
    let all = [&["max.message.bytes=500 1"], &below[..], &[default]].concat();
    assert_eq!((value.as_str(), synonyms), ("500 1", all.iter().map(ToString::to_string).collect()));

    // Keys that say the same in other units are named too, but only after the key itself.
    assert_eq!(describe(&connection, BROKER, "1", "log.retention.ms").await, ("null 5".to_owned(), Vec::new()));
    set(&connection, BROKER, "1", "log.retention.ms", "60000").await;
    let (value, synonyms) = describe(&connection, BROKER, "1", "log.retention.ms").await;
    let expected = ["log.retention.ms=60000 2", "log.retention.hours=5 4", "log.retention.hours=168 5"];
    assert_eq!((value.as_str(), synonyms), ("60000 2", expected.map(str::to_owned).to_vec()));
    assert_eq!(describe(&connection, TOPIC, "t", "retention.ms").await.0, "60000 2");

    // A key that nobody declared may be a secret; one of a listener has its base's type and default.
    set(&connection, BROKER, "1", "foo.bar", "secret").await;
    set(&connection, BROKER, "", "listener.name.plaintext.max.connections", "10").await;
    let described = describe_all(&connection, BROKER, "1", None).await.unwrap();
    let foreign = &described["foo.bar"];
    assert!(foreign.is_sensitive && foreign.read_only && foreign.value.is_none() && foreign.config_type == 0);
    assert!(foreign.synonyms.iter().all(|synonym| synonym.value.is_none()));
    let (value, synonyms) = describe(&connection, BROKER, "1", "listener.name.plaintext.max.connections").await;
    let expected = ["listener.name.plaintext.max.connections=10 3", "max.connections=2147483647 5"];
    assert_eq!((value.as_str(), synonyms), ("10 3", expected.map(str::to_owned).to_vec()));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_described_can_be_narrowed_and_explained() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    set(&connection, GROUP, "g", "consumer.session.timeout.ms", "50000").await;
    set(&connection, CLIENT_METRICS, "m", "interval.ms", "100").await;
    for (resource_type, name) in [(TOPIC, "t"), (BROKER, "1"), (GROUP, "g"), (GROUP, "x"), (CLIENT_METRICS, "m")] {
        let all = describe_all(&connection, resource_type, name, None).await.unwrap();
        assert!(all.len() >= 3 && all.values().all(|config| config.documentation.is_some()), "{name}");
        let empty = describe_all(&connection, resource_type, name, Some(&[])).await.unwrap();
        assert_eq!(all, empty, "no key named is every key");
        let one = all.keys().next_back().unwrap();
        let some = describe_all(&connection, resource_type, name, Some(&[one, one, "nobody"])).await.unwrap();
        assert_eq!(some.keys().collect::<Vec<_>>(), [one]);
    }
    let group = |key: &'static str| describe(&connection, GROUP, "g", key);
    assert_eq!(
        group("consumer.session.timeout.ms").await,
        (
            "50000 8".to_owned(),
            vec![
                "consumer.session.timeout.ms=50000 8".to_owned(),
                "group.consumer.session.timeout.ms=45000 5".to_owned()
            ]
        )
    );
    assert_eq!(
        group("streams.assignor.name").await,
        ("sticky 5".to_owned(), vec!["group.streams.assignors=sticky 5".to_owned()])
    );
    assert_eq!(describe(&connection, CLIENT_METRICS, "m", "interval.ms").await.0, "100 7");
    assert_eq!(describe(&connection, CLIENT_METRICS, "m", "metrics").await, (" 5".to_owned(), Vec::new()));
    assert!(describe_all(&connection, BROKER, "", None).await.unwrap().is_empty());

    let cases = [
        (TOPIC, "none", ErrorCode::UnknownTopicOrPartition),
        (TOPIC, "", ErrorCode::InvalidTopicException),
        (TOPIC, "a/b", ErrorCode::InvalidTopicException),
        (BROKER, "2", ErrorCode::InvalidRequest),
        (BROKER, "x", ErrorCode::InvalidRequest),
        (LOGGER, "", ErrorCode::InvalidRequest),
        (LOGGER, "2", ErrorCode::InvalidRequest),
        (LOGGER, "x", ErrorCode::InvalidRequest),
        (CLIENT_METRICS, "", ErrorCode::InvalidRequest),
        (GROUP, "", ErrorCode::InvalidRequest),
        (0, "x", ErrorCode::InvalidRequest),
        (3, "x", ErrorCode::InvalidRequest),
        (64, "x", ErrorCode::InvalidRequest),
        (-1, "x", ErrorCode::InvalidRequest),
    ];
    for (resource_type, name, expected) in cases {
        let error = describe_all(&connection, resource_type, name, None).await.unwrap_err();
        assert_eq!(error.0, expected, "{resource_type} {name:?}: {}", error.1);
        assert!(!error.1.is_empty());
    }
    broker.stop().await;
}

/// A few bytes for each time it is named, and a description of a hundred thousand.
#[tokio::test(flavor = "multi_thread")]
async fn a_resource_named_often_is_described_once() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let resource = |resource_type, name: &str, keys: Option<&[&str]>| DescribeConfigsResource {
        resource_type,
        resource_name: text(name),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| text(key)).collect()),
    };
    let mut resources = vec![resource(BROKER, "1", None); 1_000];
    // A number may be written in many ways.
    resources.extend(["01", "+1", "0000000001"].map(|name| resource(BROKER, name, None)));
    resources.push(resource(BROKER, "1", Some(&["num.io.threads"])));
    resources.push(resource(TOPIC, "t", Some(&["retention.ms"])));
    resources.push(resource(TOPIC, "t", Some(&["retention.ms", "segment.ms"])));
    let request = DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: true };
    let results = connection.send(&request).await.unwrap().results;
    let [of_broker, of_topic] = &results[..] else { panic!("{} results", results.len()) };
    assert_eq!(&*of_broker.resource_name, "1");
    assert!(of_broker.configs.len() > 100, "all keys, though some were named once");
    let mut keys: Vec<_> = of_topic.configs.iter().map(|config| &*config.name).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["retention.ms", "segment.ms"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_survive_a_restart_and_what_is_only_checked_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let kept = [
        (TOPIC, "t", "retention.ms", "77"),
        (BROKER, "1", "message.max.bytes", "2000"),
        (BROKER, "", "log.segment.bytes", "2000000"),
        (GROUP, "g", "share.isolation.level", "read_committed"),
        (CLIENT_METRICS, "m", "match", "client_id=a.*"),
    ];
    for (resource_type, name, key, value) in kept {
        let checked = vec![incremental(resource_type, name, &[(SET, key, Some(value))])];
        assert_eq!(alter_all(&connection, checked, true).await, [(ErrorCode::None, String::new())]);
    }
    assert_eq!(describe(&connection, TOPIC, "t", "retention.ms").await.0, "604800000 5");
    assert_eq!(describe(&connection, BROKER, "1", "message.max.bytes").await.0, "1048588 5");
    assert!(describe_all(&connection, BROKER, "", None).await.unwrap().is_empty());
    for (resource_type, name, key, value) in kept {
        set(&connection, resource_type, name, key, value).await;
    }
    broker.stop().await;
    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    for (resource_type, name, key, value) in kept {
        let described = describe_all(&connection, resource_type, name, Some(&[key])).await.unwrap();
        assert_eq!(described[key].value.as_deref(), Some(value), "{key}");
    }
    // What the node got at run time is the default of its topics again, too.
    assert_eq!(describe(&connection, TOPIC, "t", "max.message.bytes").await.0, "2000 2");
    assert_eq!(describe(&connection, TOPIC, "t", "segment.bytes").await.0, "2000000 3");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loggers_change_while_the_broker_runs() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, loggers) = start_with_loggers(directory.path()).await;
    let connection = broker.connect().await;
    let levels = || loggers.levels().into_iter().map(|(name, level)| format!("{name}={level}")).collect::<Vec<_>>();
    assert_eq!(levels(), ["ottla_log=WARN", "root=WARN"]);
    let described = describe_all(&connection, LOGGER, "1", None).await.unwrap();
    assert_eq!(described.keys().collect::<Vec<_>>(), ["ottla_log", "root"]);
    assert_eq!(described["root"].value.as_deref(), Some("WARN"));
    assert_eq!((described["root"].config_source, described["root"].read_only), (6, false));
    set(&connection, LOGGER, "1", "ottla_log", "TRACE").await;
    assert_eq!(levels(), ["ottla_log=TRACE", "root=WARN"]);
    assert_eq!(describe(&connection, LOGGER, "1", "ottla_log").await.0, "TRACE 6");
    // All that are named, or none.
    let mixed = [(SET, "root", Some("DEBUG")), (SET, "nobody", Some("DEBUG"))];
    assert_eq!(alter(&connection, LOGGER, "1", &mixed).await.0, ErrorCode::InvalidConfig);
    let checked = vec![incremental(LOGGER, "1", &[(SET, "root", Some("DEBUG"))])];
    assert_eq!(alter_all(&connection, checked, true).await[0].0, ErrorCode::None);
    assert_eq!(levels(), ["ottla_log=TRACE", "root=WARN"]);
    unset(&connection, LOGGER, "1", "ottla_log").await;
    set(&connection, LOGGER, "1", "root", "ERROR").await;
    assert_eq!(levels(), ["ottla_log=ERROR", "root=ERROR"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_answered_each_for_itself() {
    use ErrorCode::{InvalidConfig, InvalidRequest, None, UnknownTopicOrPartition};

    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    create_topic(&connection, "u", 1, &[]).await;
    let good = |name| incremental(TOPIC, name, &[(SET, "retention.ms", Some("5"))]);
    let bad = incremental(TOPIC, "u", &[(SET, "retention.bytes", Some("5")), (SET, "retention.ms", Some("x"))]);
    let foreign = incremental(99, "t", &[(SET, "retention.ms", Some("5"))]);
    let answers = alter_all(&connection, vec![good("t"), bad, foreign, good("none")], false).await;
    let codes: Vec<_> = answers.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [None, InvalidConfig, InvalidRequest, UnknownTopicOrPartition]);
    assert_eq!(describe(&connection, TOPIC, "t", "retention.ms").await.0, "5 1");
    assert_eq!(describe(&connection, TOPIC, "u", "retention.bytes").await.0, "-1 5", "not half of them");

    let answers = alter_all(&connection, vec![good("t"), good("u"), good("t")], false).await;
    assert_eq!(answers.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [InvalidRequest, None, InvalidRequest]);
    // Kafka fails with an unexpected exception on an operation it does not know.
    assert_eq!(alter(&connection, TOPIC, "t", &[(9, "retention.ms", Some("5"))]).await.0, InvalidRequest);
    // However the node's number is spelled, it is this node.
    set(&connection, BROKER, "01", "message.max.bytes", "2000").await;
    assert_eq!(describe(&connection, BROKER, "1", "message.max.bytes").await.0, "2000 2");
    broker.stop().await;
}

/// The types that are listed; `None`: the request is refused.
type Listed = Option<&'static [i8]>;

#[tokio::test(flavor = "multi_thread")]
async fn resources_with_a_configuration_are_listed() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    set(&connection, GROUP, "g", "share.isolation.level", "read_committed").await;
    set(&connection, CLIENT_METRICS, "m", "interval.ms", "100").await;
    let all = [(TOPIC, "t"), (BROKER, "1"), (LOGGER, "1"), (CLIENT_METRICS, "m"), (GROUP, "g")];
    let cases: [(i16, &[i8], Listed); 7] = [
        (0, &[], Some(&[CLIENT_METRICS])),
        (1, &[], Some(&[TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP])),
        (1, &[GROUP], Some(&[GROUP])),
        (1, &[BROKER, TOPIC, BROKER], Some(&[TOPIC, BROKER])),
        (1, &[LOGGER], Some(&[LOGGER])),
        (1, &[TOPIC, 99], None),
        (1, &[0], None),
    ];
    for (version, types, expected) in cases {
        let request = ListConfigResourcesRequest { resource_types: types.to_vec() };
        let response = connection.send_as(&request, version, TIMEOUT).await.unwrap();
        let listed: BTreeSet<(i8, String)> = response
            .config_resources
            .iter()
            .map(|resource| (resource.resource_type, resource.resource_name.to_string()))
            .collect();
        let code = if expected.is_some() { ErrorCode::None } else { ErrorCode::UnsupportedVersion };
        assert_eq!(ErrorCode::from_code(response.error_code), Some(code), "{types:?}");
        let expected = expected.unwrap_or_default();
        let expected = all.iter().filter(|(kind, _)| expected.contains(kind));
        assert_eq!(listed, expected.map(|(kind, name)| (*kind, (*name).to_owned())).collect(), "{version} {types:?}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_whole() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let long = "x".repeat(i16::MAX as usize);
    // Ten thousand unknown keys of a topic, and as many keys of a broker, of which any name is let through.
    let names: Vec<String> = (0..10_000).map(|number| format!("k{number}")).collect();
    let many: Vec<Step<'_>> = names.iter().map(|name| (SET, name.as_str(), Some("v"))).collect();
    assert_eq!(alter(&connection, TOPIC, "t", &many).await.0, ErrorCode::PolicyViolation);
    assert_eq!(alter(&connection, BROKER, "1", &many).await.0, ErrorCode::PolicyViolation);
    assert_eq!(replace(&connection, BROKER, "", &many).await.0, ErrorCode::PolicyViolation);
    let twice: Vec<Step<'_>> = many.iter().chain(&many[..1]).copied().collect();
    assert_eq!(alter(&connection, TOPIC, "t", &twice).await.0, ErrorCode::InvalidRequest);
    // A string is never longer than a short's largest number; more cannot be sent without being malformed.
    let large: Vec<Step<'_>> =
        many[..40].iter().map(|(operation, key, _)| (*operation, *key, Some(long.as_str()))).collect();
    assert_eq!(alter(&connection, BROKER, "1", &large).await.0, ErrorCode::PolicyViolation);
    assert_eq!(alter(&connection, TOPIC, "t", &[(SET, &long, Some("v"))]).await.0, ErrorCode::InvalidConfig);
    assert_eq!(alter(&connection, TOPIC, "t", &[(SET, "retention.ms", Some(&long))]).await.0, ErrorCode::InvalidConfig);
    assert_eq!(alter(&connection, CLIENT_METRICS, &long, &[(SET, "x", Some("v"))]).await.0, ErrorCode::InvalidRequest);
    let mebibyte = "x".repeat(1 << 20);
    let oversized = IncrementalAlterConfigsRequest {
        resources: vec![incremental(TOPIC, "t", &[(SET, "retention.ms", Some(&mebibyte))])],
        validate_only: false,
    };
    assert!(connection.send(&oversized).await.is_err(), "no such string can be sent");
    let connection = broker.connect().await;
    // Thousands of resources, all refused, each by its own error.
    let resources: Vec<_> =
        names.iter().map(|name| incremental(TOPIC, name, &[(APPEND, "cleanup.policy", Some("compact"))])).collect();
    let answers = alter_all(&connection, resources, false).await;
    assert!(answers.iter().all(|(code, _)| *code == ErrorCode::UnknownTopicOrPartition));
    assert!(describe_all(&connection, BROKER, "", None).await.unwrap().is_empty());
    let own = describe_all(&connection, BROKER, "1", None).await.unwrap();
    assert!(own.values().all(|config| config.config_source != 2), "nothing of all that was kept");
    broker.stop().await;
}
