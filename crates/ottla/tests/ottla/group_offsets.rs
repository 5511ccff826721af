//! `ottla group`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::binary::{Running, Server, fail, run, succeed};

/// No waiting for further members, as production has it.
const AT_ONCE: &str = "group.initial.rebalance.delay.ms=0";

/// A topic of two partitions with ten records each, of which the group `g` has read four of partition 0.
fn server_with_group() -> Server {
    let server = Server::start(&[AT_ONCE]);
    server.run("topic create t --partitions 2");
    server.run("topic create u --partitions 1");
    for partition in 0..2 {
        server.produce(&format!("t --partition {partition}"), "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    }
    server.run("group reset-offsets g --topic t:0 --to-offset 4 --execute");
    server
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The committed offset of each partition of `t`, null where there is none.
fn committed(server: &Server, group: &str) -> [Value; 2] {
    let described = server.json(&format!("group describe {group} --no-times"));
    let of = |partition: i64| {
        let partitions = described[0]["partitions"].as_array().unwrap();
        let found = partitions.iter().find(|found| found["topic"] == "t" && found["partition"] == partition);
        found.map_or(Value::Null, |found| found["committed_offset"].clone())
    };
    [of(0), of(1)]
}

#[test]
fn a_group_is_listed_and_described() {
    let server = server_with_group();
    assert_eq!(
        server.json("group list"),
        json!([{"group": "g", "state": "Empty", "type": "classic", "protocol_type": ""}])
    );
    let table = server.run("group list");
    assert_eq!(table, "GROUP  STATE  TYPE     PROTOCOL\ng      Empty  classic  -\n");
    assert_eq!(server.json("group list --state stable"), json!([]));
    assert_eq!(server.json("group list --state EMPTY,dead --type classic")[0]["group"], "g");
    assert_eq!(server.run("group list --type consumer"), "No group is like that.\n");
    let refused = fail(&mut server.tool("group list --state sleeping"), 2);
    assert!(refused.contains("PreparingRebalance"), "{refused}");

    let before = now_ms();
    let described = &server.json("group describe g")[0];
    assert_eq!((&described["state"], &described["members"]), (&json!("Empty"), &json!([])));
    let partition = &described["partitions"][0];
    assert_eq!((&partition["committed_offset"], &partition["log_end_offset"]), (&json!(4), &json!(10)));
    assert_eq!((&partition["lag_records"], &described["lag_records"]), (&json!(6), &json!(6)));
    let lag_ms = partition["lag_ms"].as_i64().unwrap();
    let record = &server.json_lines("consume t --partition 0 --offset 4 --exit-at-end")[0];
    let age = before - record["timestamp"].as_i64().unwrap();
    assert!(lag_ms >= age && lag_ms <= age + 60_000, "{lag_ms} is not the age of the record, {age}");

    let text = server.run("group describe g");
    assert!(text.starts_with("Group     g\nState     Empty\n") && text.contains("Behind    6 records, "), "{text}");
    let refused = fail(&mut server.tool("group describe nobody"), 1);
    assert!(refused.contains("'nobody' does not exist") && refused.contains("ottla group list"), "{refused}");
}

#[test]
fn time_lag_is_the_age_of_the_next_record_wherever_it_is() {
    let server = Server::start(&[AT_ONCE]);
    server.run("topic create t --partitions 4 --config message.timestamp.type=CreateTime");
    // One batch of many compressed records, in the middle of which the group stands; and a partition with nothing new.
    let lines = (0..200_000).fold(String::new(), |lines, number| lines + &number.to_string() + "\n");
    server.produce("t --partition 0 --compression lz4", &lines);
    server.produce("t --partition 1", "a\n");
    server.run("group reset-offsets g --topic t:0 --to-offset 199999 --execute");
    server.run("group reset-offsets g --topic t:1,2 --to-latest --execute");
    let described = &server.json("group describe g")[0];
    let lags: Vec<_> = described["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| (found["lag_records"].clone(), found["lag_ms"].as_i64().unwrap() > 0))
        .collect();
    assert_eq!(lags, [(json!(1), true), (json!(0), false), (json!(0), false)]);
    let last = &server.json_lines("consume t --partition 0 --offset 199999 --exit-at-end")[0];
    let time = described["partitions"][0]["next_record_time"].as_str().unwrap();
    let from = server.json_lines(&format!("consume t --partition 0 --from-timestamp {time} --exit-at-end"));
    assert!(from.contains(last), "{time} is not before {last}");
    assert!(from.iter().all(|record| record["timestamp"].as_i64() >= last["timestamp"].as_i64()));
}

#[test]
fn every_way_to_move_a_group() {
    let server = server_with_group();
    let hour_ago = now_ms() - 3_600_000;
    for (words, expected) in [
        ("--topic t --to-earliest".to_owned(), [json!(0), json!(0)]),
        ("--topic t:1 --to-latest".to_owned(), [json!(0), json!(10)]),
        ("--all-topics --shift-by -3".to_owned(), [json!(0), json!(7)]),
        ("--all-topics --shift-by 4".to_owned(), [json!(4), json!(10)]),
        ("--topic t:0-1 --to-offset 6".to_owned(), [json!(6), json!(6)]),
        ("--topic t --to-offset 99".to_owned(), [json!(10), json!(10)]),
        ("--topic t --by-duration 1h".to_owned(), [json!(0), json!(0)]),
        ("--topic t --to-datetime 2100-01-01".to_owned(), [json!(10), json!(10)]),
        (format!("--topic t --to-datetime {hour_ago}"), [json!(0), json!(0)]),
        ("--topic t --to-current".to_owned(), [json!(0), json!(0)]),
    ] {
        let before = committed(&server, "g");
        let plan = server.json(&format!("group reset-offsets g {words}"));
        assert_eq!(plan["executed"], false, "{words}");
        assert_eq!(committed(&server, "g"), before, "{words}: a dry run changes nothing");
        let done = server.json(&format!("group reset-offsets g {words} --execute"));
        assert_eq!(done["executed"], true, "{words}");
        assert_eq!(done["partitions"], plan["partitions"], "{words}: what was planned is done");
        assert_eq!(committed(&server, "g"), expected, "{words}");
    }
    assert_eq!(server.run("consume t --partition 0 --offset 9 --max-records 1"), "9\n");
    let refused = fail(&mut server.tool("group reset-offsets g --topic u --shift-by 1"), 1);
    assert!(refused.contains("u-0 cannot be shifted"), "{refused}");
    let refused = fail(&mut server.tool("group reset-offsets g --topic t:7 --to-earliest"), 1);
    assert!(refused.contains("no partition 7") && refused.contains("ottla topic describe t"), "{refused}");
    for words in
        ["--to-earliest", "--topic t", "--topic t --to-earliest --to-latest", "--topic t --all-topics --to-latest"]
    {
        fail(&mut server.tool(&format!("group reset-offsets g {words}")), 2);
    }
}

#[test]
fn plans_go_out_and_come_back() {
    let server = server_with_group();
    let csv = server.run("group reset-offsets g --topic t --to-latest --csv");
    assert_eq!(csv, "t,0,10\nt,1,10\n");
    let path = server.scratch().join("plan.csv");
    std::fs::write(&path, csv).unwrap();
    server.run(&format!("group reset-offsets g --from-file {} --execute", path.display()));
    assert_eq!(committed(&server, "g"), [json!(10), json!(10)]);
    let plan = server.json("group reset-offsets g --topic t --to-offset 3");
    std::fs::write(&path, plan.to_string()).unwrap();
    server.run(&format!("group reset-offsets other --from-file {} --execute", path.display()));
    assert_eq!(committed(&server, "other"), [json!(3), json!(3)]);
    std::fs::write(&path, "t,0,x\n").unwrap();
    let refused = fail(&mut server.tool(&format!("group reset-offsets g --from-file {}", path.display())), 1);
    assert!(refused.contains("plan.csv: line 1"), "{refused}");
}

#[test]
fn a_group_in_use_stays_where_it_is() {
    let server = server_with_group();
    let mut consumer = Running::start(&mut server.tool("consume t --group g --from-beginning"));
    // A record read means that the group is stable.
    consumer.line();
    let members = &server.json("group describe g --members-only")[0]["members"];
    assert_eq!(members.as_array().unwrap().len(), 1);
    assert_eq!(members[0]["assignment"][1], json!({"topic": "t", "partition": 1}));
    let refused = fail(&mut server.tool("group reset-offsets g --topic t --to-earliest --execute"), 1);
    assert!(refused.contains("in use by 1 member (ottla-cli at 127.0.0.1)"), "{refused}");
    assert!(refused.contains("ottla group describe g"), "{refused}");
    let planned = run(&mut server.tool("group reset-offsets g --topic t --to-earliest"), b"");
    assert_eq!(planned.status.code(), Some(0));
    assert!(String::from_utf8(planned.stderr).unwrap().contains("Before that: group 'g' is in use"));
    let text = server.run("group describe g");
    assert!(text.contains("State     Stable") && text.contains("t: 0-1"), "{text}");
    consumer.interrupt();
    succeed(&mut server.tool("group reset-offsets g --topic t --to-earliest --execute"));
    assert_eq!(committed(&server, "g"), [json!(0), json!(0)]);
}

#[test]
fn a_group_without_its_topic_can_be_described() {
    let server = server_with_group();
    server.run("topic delete t");
    let described = server.json("group describe g");
    for partition in described[0]["partitions"].as_array().unwrap() {
        assert_eq!(partition["lag_records"], Value::Null);
        assert!(partition["problem"].as_str().unwrap().contains("'t' does not exist"), "{partition}");
    }
}

#[test]
fn offsets_and_groups_are_deleted() {
    let server = server_with_group();
    server.run("group reset-offsets g --topic t --topic u --to-earliest --execute");
    assert!(server.run("group delete-offsets g --topic t:1 --dry-run").contains("1 offset would be forgotten"));
    assert_eq!(committed(&server, "g"), [json!(0), json!(0)]);
    assert_eq!(server.run("group delete-offsets g --topic t:1"), "t-1 0\n1 offset forgotten\n");
    assert_eq!(committed(&server, "g"), [json!(0), Value::Null]);
    let refused = fail(&mut server.tool("group delete-offsets g --topic t:1"), 1);
    assert!(refused.contains("committed no offset there"), "{refused}");
    fail(&mut server.tool("group delete-offsets g"), 2);

    let mut consumer = Running::start(&mut server.tool("consume t --group g"));
    server.produce("t --partition 0", "x\n");
    consumer.line();
    let refused = fail(&mut server.tool("group delete g"), 1);
    assert!(refused.contains("NON_EMPTY_GROUP") && refused.contains("ottla group describe g"), "{refused}");
    let refused = fail(&mut server.tool("group delete-offsets g --topic t:0"), 1);
    assert!(refused.contains("members of the group read the topic"), "{refused}");
    consumer.interrupt();
    assert_eq!(server.run("group delete g"), "g deleted\n");
    assert_eq!(server.json("group list"), json!([]));
    let refused = fail(&mut server.tool("group delete g"), 1);
    assert!(refused.contains("'g' does not exist"), "{refused}");
    assert_eq!(server.json("group delete g --if-exists"), json!([{"group": "g", "deleted": false}]));
}
