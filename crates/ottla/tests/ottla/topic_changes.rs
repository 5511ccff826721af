//! `ottla topic alter` and `ottla topic delete-records`.

use serde_json::{Value, json};

use crate::binary::{Server, fail};

fn beginnings(server: &Server, topic: &str) -> Vec<i64> {
    let described = server.json(&format!("topic describe {topic}"));
    let partitions = described[0]["partitions"].as_array().unwrap();
    partitions.iter().map(|partition| partition["log_start_offset"].as_i64().unwrap()).collect()
}

#[test]
fn a_topic_grows() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    let checked = server.run("topic alter t --partitions 3 --validate-only");
    assert_eq!(checked, "t could have 3 partitions, up from 1\n\nNothing was changed. The broker would accept this.\n");
    assert_eq!(beginnings(&server, "t").len(), 1);
    let grown = server.json("topic alter t --partitions 3 --replica-assignment 1,1");
    assert_eq!(grown["partitions"], json!({"old": 1, "new": 3}));
    assert_eq!(beginnings(&server, "t").len(), 3);
    server.produce("t --partition 2", "a\n");
    assert_eq!(server.run("consume t --from-beginning --max-records 1"), "a\n");
    let refused = fail(&mut server.tool("topic alter t --partitions 2"), 1);
    assert!(refused.contains("INVALID_PARTITIONS"), "{refused}");
    let refused = fail(&mut server.tool("topic alter nowhere --partitions 2"), 1);
    assert!(refused.contains("'nowhere' does not exist"), "{refused}");
}

#[test]
fn the_oldest_records_are_deleted() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 2");
    server.produce("t --partition 0", "0\n1\n2\n3\n4\n");
    server.produce("t --partition 1", "0\n1\n");
    let sizes = &server.json("topic describe t")[0]["partitions"];
    assert!(sizes[0]["size_bytes"].as_i64() > sizes[1]["size_bytes"].as_i64(), "{sizes}");
    let planned = server.json("topic delete-records t --before-offset 2 --validate-only");
    assert_eq!(planned["partitions"][0]["offsets"], 2);
    assert_eq!(beginnings(&server, "t"), [0, 0], "a check deletes nothing");
    let text = server.run("topic delete-records t --before-offset 3 --partition 0");
    assert_eq!(text, "PARTITION  BEGINNING  NEW BEGINNING  OFFSETS\n        0          0              3        3\n");
    assert_eq!(beginnings(&server, "t"), [3, 0]);
    assert_eq!(server.run("consume t --partition 0 --from-beginning --exit-at-end"), "3\n4\n");
    let done = server.json("topic delete-records t --before-offset 1 --partition 0");
    assert_eq!(done["partitions"][0]["offsets"], 0, "what is deleted stays deleted");
    let refused = fail(&mut server.tool("topic delete-records t --before-offset 4"), 1);
    assert!(refused.contains("partition 1 of topic 't' has no offset 4"), "{refused}");
    server.run("topic delete-records t --before-time 2100-01-01 --partition 0");
    server.run("topic delete-records t --all");
    assert_eq!(beginnings(&server, "t"), [5, 2]);
    let refused = fail(&mut server.tool("topic delete-records t --all --partition 9"), 1);
    assert!(refused.contains("no partition 9"), "{refused}");
}

#[test]
fn a_group_behind_the_beginning_reads_on_there() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    server.produce("t", "0\n1\n2\n");
    server.run("group reset-offsets g --topic t --to-earliest --execute");
    server.run("topic delete-records t --before-offset 2");
    let described = &server.json("group describe g")[0]["partitions"][0];
    assert_eq!((&described["committed_offset"], &described["log_start_offset"]), (&json!(0), &json!(2)));
    assert_eq!(described["lag_records"], 3);
    assert_ne!(described["next_record_time"], Value::Null);
    server.run("topic delete-records t --all");
    assert_eq!(server.json("group describe g")[0]["partitions"][0]["lag_ms"], 0);
}
