//! `ottla produce` and `ottla consume`.

use serde_json::{Value, json};

use crate::binary::{Running, Server, fail, run, succeed_with_input};

fn values(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["value"].as_str().unwrap()).collect()
}

#[test]
fn a_first_record() {
    let server = Server::start(&[]);
    assert_eq!(server.produce("greetings", "hello\n"), "");
    assert_eq!(server.run("consume greetings --from-beginning --exit-at-end"), "hello\n");
}

#[test]
fn keys_headers_nulls_and_every_codec() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    for (position, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let words = format!(
            "t --compression {codec} --key-separator : --null-marker NULL --headers --header codec={codec} --json"
        );
        let acknowledged = server.produce(&words, "a:1,a:2\tkey:value\n\tkey:NULL\n\t\u{fc}:x:y\n");
        let offsets: Vec<i64> =
            crate::binary::json_lines(&acknowledged).iter().map(|record| record["offset"].as_i64().unwrap()).collect();
        let first = 3 * position as i64;
        assert_eq!(offsets, [first, first + 1, first + 2], "{codec}");
        let records = server.json_lines(&format!("consume t --offset {first} --exit-at-end"));
        let expected =
            json!([{"key": "codec", "value": codec}, {"key": "a", "value": "1"}, {"key": "a", "value": "2"}]);
        assert_eq!(records[0]["headers"], expected, "{codec}");
        assert_eq!((&records[0]["key"], &records[0]["value"]), (&json!("key"), &json!("value")));
        assert_eq!((&records[1]["key"], &records[1]["value"]), (&json!("key"), &Value::Null));
        assert_eq!((&records[2]["key"], &records[2]["value"]), (&json!("\u{fc}"), &json!("x:y")));
        assert_eq!(records[0]["timestamp_type"], "CreateTime");
    }
}

#[test]
fn where_reading_begins_and_ends() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    server.produce("t", "0\n1\n2\n3\n4\n");
    let all = server.json_lines("consume t --from-beginning --exit-at-end");
    assert_eq!(values(&all), ["0", "1", "2", "3", "4"]);
    for (words, expected) in [
        ("--offset 3 --exit-at-end", vec!["3", "4"]),
        ("--offset 5 --exit-at-end", vec![]),
        ("--offset -2 --exit-at-end", vec!["3", "4"]),
        ("--offset -100 --exit-at-end", vec!["0", "1", "2", "3", "4"]),
        ("--from-beginning --max-records 2", vec!["0", "1"]),
        ("--from-beginning --max-records 0", vec![]),
        ("--from-end --exit-at-end", vec![]),
        ("--from-timestamp 0 --exit-at-end", vec!["0", "1", "2", "3", "4"]),
        ("--from-timestamp 2100-01-01 --exit-at-end", vec![]),
    ] {
        let read = server.json_lines(&format!("consume t {words}"));
        assert_eq!(values(&read), expected, "{words}");
    }
    let refused = fail(&mut server.tool("consume t --offset 6"), 1);
    assert!(refused.contains("no offset 6") && refused.contains("--from-beginning"), "{refused}");
    let refused = fail(&mut server.tool("consume t --partition 1"), 1);
    assert!(refused.contains("no partition 1") && refused.contains("ottla topic describe t"), "{refused}");
}

#[test]
fn partitions_and_keys() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 12");
    server.produce("t --key-separator :", "a:1\nabc:2\n21:3\nfoobar:4\na:5\n");
    // As Java's partitioner puts them.
    for (partition, expected) in [(4, vec!["1", "5"]), (3, vec!["2"]), (0, vec!["3"]), (6, vec!["4"]), (1, vec![])] {
        let read = server.json_lines(&format!("consume t --partition {partition} --from-beginning --exit-at-end"));
        assert_eq!(values(&read), expected, "{partition}");
    }
    let text = server.run("consume t --partition 4 --from-beginning --exit-at-end --key-separator =");
    assert_eq!(text, "a=1\na=5\n");
}

#[test]
fn many_records_survive_a_restart() {
    let server = Server::start(&[]);
    let lines = (0..50_000).fold(String::new(), |lines, number| lines + "record number " + &number.to_string() + "\n");
    let path = server.scratch().join("lines.txt");
    std::fs::write(&path, &lines).unwrap();
    let words = format!("produce many {} --compression lz4", path.display());
    assert_eq!(server.run(&words), "");
    assert_eq!(server.run("consume many --from-beginning --exit-at-end"), lines);
    let server = server.stop().start();
    assert_eq!(server.run("consume many --from-beginning --exit-at-end"), lines);
}

#[test]
fn acknowledged_by_one_or_nobody() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    server.produce("t --acks 1", "one\n");
    let told = server.produce("t --acks 0 --json", "two\n");
    assert_eq!(crate::binary::json_lines(&told)[0]["offset"], Value::Null);
    assert_eq!(server.run("consume t --from-beginning --max-records 2"), "one\ntwo\n");
}

#[test]
fn bytes_that_are_no_text() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    succeed_with_input(&mut server.tool("produce t"), b"\xff\x00\n");
    let output = run(&mut server.tool("consume t --from-beginning --exit-at-end"), b"");
    assert_eq!(output.stdout, b"\xff\x00\n");
    assert_eq!(server.json_lines("consume t --from-beginning --exit-at-end")[0]["value_base64"], "/wA=");
}

#[test]
fn a_waiting_consumer_sees_new_records_and_ends_by_ctrl_c() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    server.produce("t", "old\n");
    let mut consumer = Running::start(&mut server.tool("consume t --offset 0"));
    assert_eq!(consumer.line(), "old");
    server.produce("t", "new\n");
    assert_eq!(consumer.line(), "new");
    let (rest, stderr) = consumer.interrupt();
    assert_eq!((rest.len(), stderr.as_str()), (0, "2 records consumed\n"));
}

#[test]
fn lines_that_make_no_record() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    let mut command = server.tool("produce t --key-separator :");
    let output = run(&mut command, b"a:1\nb\nc:3\n");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("standard input, line 2: there is no key separator ':'"), "{stderr}");
    assert!(stderr.contains("stopped after 1 record"), "{stderr}");
    assert_eq!(server.run("consume t --from-beginning --exit-at-end"), "1\n");
    let refused = fail(&mut server.tool("produce t /nowhere/at/all"), 1);
    assert!(refused.contains("/nowhere/at/all cannot be read"), "{refused}");
}

#[test]
fn a_record_that_is_too_large() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1 --config max.message.bytes=1000");
    let lines = format!("{}\n{}\n", "small\n".repeat(500).trim_end(), "x".repeat(2000));
    let output = run(&mut server.tool("produce t"), lines.as_bytes());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("line 501") && stderr.contains("MESSAGE_TOO_LARGE"), "{stderr}");
    assert!(stderr.contains("max.message.bytes"), "{stderr}");
    assert_eq!(server.run("consume t --from-beginning --exit-at-end").lines().count(), 500);
}
