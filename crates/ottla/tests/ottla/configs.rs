//! `ottla config`, and the settings of `ottla topic alter`.

use serde_json::{Value, json};

use crate::binary::{Server, fail};

/// The value and source of a key.
fn value(server: &Server, words: &str) -> (Value, Value) {
    let entry = &server.json(&format!("config get {words}"))[0];
    (entry["value"].clone(), entry["source"].clone())
}

#[test]
fn a_topics_settings_are_set_and_taken_back() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    assert!(server.run("config get --topic t").starts_with("Nothing is set for topic 't'; --all shows the "));
    let words = "config set --topic t retention.ms=3600000 --append cleanup.policy=compact";
    let checked = server.json(&format!("{words} --validate-only"));
    assert_eq!(
        checked["changes"],
        json!([
            {"name": "retention.ms", "old": "604800000", "new": "3600000"},
            {"name": "cleanup.policy", "old": "delete", "new": "delete,compact"},
        ])
    );
    assert_eq!(server.json("config get --topic t"), json!([]), "a check changes nothing");
    assert_eq!(server.json(words)["changes"], checked["changes"]);
    let text = server.run("config get --topic t");
    assert_eq!(
        text,
        "KEY             VALUE           SOURCE                DYNAMIC\n\
         cleanup.policy  delete,compact  DYNAMIC_TOPIC_CONFIG  yes\n\
         retention.ms    3600000         DYNAMIC_TOPIC_CONFIG  yes\n"
    );
    server.run("config set --topic t --subtract cleanup.policy=delete");
    assert_eq!(value(&server, "--topic t cleanup.policy").0, "compact");
    server.run("config unset --topic t retention.ms cleanup.policy");
    assert_eq!(server.json("config get --topic t"), json!([]));
    assert_eq!(value(&server, "--topic t retention.ms"), (json!("604800000"), json!("DEFAULT_CONFIG")));
    assert!(server.json("config get --topic t --all").as_array().unwrap().len() > 20);
}

#[test]
fn brokers_and_their_default() {
    let server = Server::start(&[]);
    server.run("config set --broker-default log.retention.ms=7200000");
    let of_default = (json!("7200000"), json!("DYNAMIC_DEFAULT_BROKER_CONFIG"));
    assert_eq!(value(&server, "--broker 1 log.retention.ms"), of_default);
    assert_eq!(value(&server, "--broker-default"), of_default);
    let set = server.json("config set --broker 1 log.retention.ms=5000000");
    assert_eq!(set["changes"][0]["old"], "7200000");
    assert_eq!(value(&server, "--broker 1 log.retention.ms").1, "DYNAMIC_BROKER_CONFIG");
    let unset = server.json("config unset --broker 1 log.retention.ms");
    assert_eq!(unset["changes"], json!([{"name": "log.retention.ms", "old": "5000000", "new": "7200000"}]));
    assert_eq!(value(&server, "--broker 1 log.retention.ms"), of_default);
    let server = server.stop().start();
    assert_eq!(value(&server, "--broker 1 log.retention.ms"), of_default, "a restart forgets nothing");
}

#[test]
fn mistakes_are_named_and_change_nothing() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    for (words, said) in [
        ("get --topic t retntion.ms", "did you mean retention.ms?"),
        ("set --topic t retntion.ms=1", "did you mean retention.ms?"),
        ("set --topic t retention.ms=soon segment.ms=5000", "INVALID_CONFIG"),
        ("set --topic t retention.ms=soon --validate-only", "INVALID_CONFIG"),
        ("set --topic t retention.ms=1 retention.ms=2", "retention.ms is named twice"),
        ("set --topic nowhere retention.ms=1", "UNKNOWN_TOPIC_OR_PARTITION"),
        ("set --broker 1 log.dirs=/elsewhere", "log.dirs"),
        ("get --broker 9", "no broker 9; its brokers are 1"),
    ] {
        let refused = fail(&mut server.tool(&format!("config {words}")), 1);
        assert!(refused.contains(said), "{words}: {refused}");
    }
    assert_eq!(server.json("config get --topic t"), json!([]));
    let refused = fail(&mut server.tool("topic alter t --partitions 3 --config retention.ms=soon"), 1);
    assert!(refused.contains("INVALID_CONFIG"), "{refused}");
    let described = server.json("topic describe t");
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 1, "all or nothing");
}

#[test]
fn a_topic_is_altered_in_one_go() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1 --config segment.ms=100000");
    let altered = server.json("topic alter t --partitions 2 --config retention.ms=3600000 --unset segment.ms");
    assert_eq!(altered["partitions"], json!({"old": 1, "new": 2}));
    assert_eq!(altered["configs"][1], json!({"name": "segment.ms", "old": "100000", "new": "(default)"}));
    let described = &server.json("topic describe t")[0];
    assert_eq!(described["partitions"].as_array().unwrap().len(), 2);
    assert_eq!(described["configs"][0]["name"], "retention.ms");
    assert_eq!(described["configs"].as_array().unwrap().len(), 1);
}
