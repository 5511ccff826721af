//! `ottla topic`.

use serde_json::json;

use crate::binary::{Server, fail};

#[test]
fn from_creation_to_deletion() {
    let server = Server::start(&[]);
    assert_eq!(server.json("topic list"), json!([]));
    assert!(server.run("topic list").starts_with("There are no topics yet"));
    let made = server.run("topic create orders --partitions 3 --config retention.ms=3600000");
    assert_eq!(made, "orders created with 3 partitions\n");
    let refused = fail(&mut server.tool("topic create orders"), 1);
    assert!(refused.contains("TOPIC_ALREADY_EXISTS") && refused.contains("--if-not-exists"), "{refused}");
    assert_eq!(server.json("topic create orders --if-not-exists"), json!([{"topic": "orders", "created": false}]));

    server.produce("orders --partition 1", "a\nb\n");
    let described = server.json("topic describe orders");
    let topic = &described[0];
    assert_eq!(topic["topic"], "orders");
    assert_eq!(topic["replication_factor"], 1);
    assert_eq!(
        topic["configs"],
        json!([{
            "name": "retention.ms", "value": "3600000", "source": "DYNAMIC_TOPIC_CONFIG"
        }])
    );
    let ends: Vec<_> = topic["partitions"].as_array().unwrap().iter().map(|one| one["end_offset"].clone()).collect();
    assert_eq!(ends, [json!(0), json!(2), json!(0)]);

    let listed = server.json("topic list");
    assert_eq!(listed[0]["id"], topic["id"]);
    let table = server.run("topic list");
    assert!(table.starts_with("TOPIC   PARTITIONS  REPLICAS  ID\norders           3         1  "), "{table}");
    let described = server.run("topic describe orders");
    assert!(described.contains("Settings  retention.ms=3600000"), "{described}");

    assert_eq!(server.run("topic delete orders"), "orders deleted\n");
    assert_eq!(server.json("topic list"), json!([]));
    assert_eq!(server.run("topic delete orders --if-exists"), "orders does not exist\n");
    for words in ["topic delete orders", "topic describe orders", "consume orders"] {
        let refused = fail(&mut server.tool(words), 1);
        assert!(refused.contains("does not exist"), "{words}: {refused}");
        assert!(refused.contains("ottla topic create orders"), "{words}: {refused}");
    }
}

#[test]
fn topics_are_chosen_by_name() {
    let server = Server::start(&[]);
    server.run("topic create orders orders-old payments --partitions 1");
    let names = |words: &str| -> Vec<String> {
        let listed = server.json(&format!("topic list {words}"));
        listed.as_array().unwrap().iter().map(|topic| topic["topic"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("orders*"), ["orders", "orders-old"]);
    assert_eq!(names("*s"), ["orders", "payments"]);
    assert_eq!(names("orders pay*"), ["orders", "payments"]);
    assert_eq!(names("--under-replicated"), [""; 0]);
    assert_eq!(server.run("topic list nothing"), "No topic is like that.\n");
}

#[test]
fn a_topic_is_placed_by_hand_or_only_checked() {
    let server = Server::start(&[]);
    let checked = server.json("topic create t --replica-assignment 1,1,1 --validate-only");
    assert_eq!((&checked[0]["validated"], &checked[0]["partitions"]), (&json!(true), &json!(3)));
    assert_eq!(server.json("topic list"), json!([]), "a check makes nothing");
    assert_eq!(server.run("topic create t --replica-assignment 1,1,1"), "t created with 3 partitions\n");
    assert_eq!(server.json("topic describe t")[0]["partitions"][2]["replicas"], json!([1]));
    let refused = fail(&mut server.tool("topic create u --replica-assignment 9"), 1);
    assert!(refused.contains("INVALID_REPLICA_ASSIGNMENT"), "{refused}");
    fail(&mut server.tool("topic create u --replica-assignment 1 --partitions 1"), 2);
}

#[test]
fn bad_settings_are_named() {
    let server = Server::start(&[]);
    let refused = fail(&mut server.tool("topic create t --config retention.ms=soon"), 1);
    assert!(refused.contains("INVALID_CONFIG") && refused.contains("retention.ms"), "{refused}");
    let refused = fail(&mut server.tool("topic create t --replication-factor 3"), 1);
    assert!(refused.contains("INVALID_REPLICATION_FACTOR"), "{refused}");
    let refused = fail(&mut server.tool("topic create not/a/name"), 1);
    assert!(refused.contains("INVALID_TOPIC_EXCEPTION"), "{refused}");
}
