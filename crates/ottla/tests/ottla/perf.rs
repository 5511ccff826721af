//! `ottla perf`, with small numbers: what it counts, not how fast it is.

use serde_json::Value;

use crate::binary::{Server, fail, succeed};

fn measured(server: &Server, words: &str) -> Value {
    server.json(&format!("perf {words}"))
}

#[test]
fn what_is_produced_is_consumed() {
    let server = Server::start(&[]);
    let produced = measured(
        &server,
        "produce t --partitions 3 --records 5000 --record-size 50-150 --payload json --key-space 100 --compression lz4 \
         --producers 2",
    );
    assert_eq!(produced["kind"], "produce");
    assert_eq!(produced["produced"]["records"], 5000);
    assert_eq!(produced["open_loop"], false);
    assert_eq!(produced["latency_us"]["acknowledged"]["count"], 5000);
    assert_eq!(produced["errors"], serde_json::json!({}));
    assert_eq!(produced["settings"]["compression"], "lz4");
    let consumed = measured(&server, "consume t --from-beginning --exit-at-end");
    assert_eq!(consumed["consumed"]["records"], 5000);
    assert_eq!(consumed["consumed"]["bytes"], produced["produced"]["bytes"]);
    assert_eq!(consumed.get("latency_us"), None);
    let shared = measured(&server, "consume t --from-beginning --exit-at-end --consumers 2");
    assert_eq!(shared["consumed"]["records"], 5000);
    let grouped = measured(&server, "consume t --from-beginning --records 5000 --group g");
    assert_eq!(grouped["consumed"]["records"], 5000);
    // Values are what they are said to be.
    let records = server.json_lines("consume t --from-beginning --max-records 10");
    for record in records {
        let value: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
        assert!(value.is_object() || value.is_string(), "{value}");
        assert!(record["key"].as_str().unwrap().starts_with("key-00000000"), "{record}");
    }
}

#[test]
fn every_record_of_a_rate_is_due_and_arrives() {
    let server = Server::start(&[]);
    let html = server.scratch().join("report.html");
    let words = format!("e2e t --partitions 2 --rate 2000 --records 1000 --linger 0 --html {}", html.display());
    let result = measured(&server, &words);
    assert_eq!(result["open_loop"], true);
    assert_eq!(result["produced"]["records"], 1000);
    assert_eq!(result["consumed"]["records"], 1000);
    assert_eq!((&result["lost"], &result["duplicates"]), (&Value::from(0), &Value::from(0)));
    for latency in ["acknowledged", "end_to_end"] {
        let latency = &result["latency_us"][latency];
        assert_eq!(latency["count"], 1000);
        let ordered =
            ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| latency[name].as_u64().unwrap());
        assert!(ordered.is_sorted(), "{latency}");
    }
    let seconds = result["seconds"].as_array().unwrap();
    let sum: u64 = seconds.iter().map(|second| second["produced_records"].as_u64().unwrap()).sum();
    assert_eq!(sum, 1000, "the seconds are the whole");
    let html = std::fs::read_to_string(html).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
    // Records of others are nobody's business, and do not disturb.
    let again = measured(&server, "e2e t --rate 1000 --records 100 --acks 1");
    assert_eq!((&again["consumed"]["records"], &again["lost"]), (&Value::from(100), &Value::from(0)));
}

#[test]
fn a_warm_up_is_shown_and_does_not_count() {
    let server = Server::start(&[]);
    let result = measured(&server, "produce t --partitions 1 --rate 500 --duration 1s --warm-up 1s --acks 1");
    let seconds = result["seconds"].as_array().unwrap();
    assert_eq!(seconds[0]["warm_up"], true);
    let counted = seconds.iter().filter(|second| second["warm_up"] == false);
    let sum: u64 = counted.map(|second| second["produced_records"].as_u64().unwrap()).sum();
    assert_eq!(result["produced"]["records"], sum);
    let all: u64 = seconds.iter().map(|second| second["produced_records"].as_u64().unwrap()).sum();
    assert_eq!(all, 1000, "two seconds' worth");
    assert_eq!(all - sum, seconds[0]["produced_records"].as_u64().unwrap());
}

#[test]
fn a_table_for_people() {
    let server = Server::start(&[]);
    let text = server.run("perf produce t --records 1000 --acks 0");
    for part in ["RECORDS/S", "1,000", "acknowledged", "P99.99", "closed loop", "client CPU", "per million records"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn mistakes_end_at_once() {
    let server = Server::start(&[]);
    server.run("topic create one --partitions 1");
    for (words, part) in [
        ("perf produce one --partitions 2 --records 1", "exists with 1 partitions, not 2"),
        ("perf e2e one --records 1 --record-size 10", "at least 24"),
        ("perf consume missing --from-beginning --exit-at-end", "does not exist"),
        ("perf produce one --records 1 --record-size 2000 --buffer-memory 1000", "larger than buffer.memory"),
        ("perf produce one --records 1 --html /nonexistent/report.html", "cannot be written"),
    ] {
        let refused = fail(&mut server.tool(words), 1);
        assert!(refused.contains(part), "{words}: {refused}");
    }
    // Too large for the topic: an error that is counted, and said.
    server.run("topic create small --partitions 1 --config max.message.bytes=200");
    let refused = fail(&mut server.tool("perf produce small --records 3 --record-size 500"), 1);
    assert!(refused.contains("3 MESSAGE_TOO_LARGE"), "{refused}");
    // Also while it warms up, which is then all there was.
    let words = "perf produce small --records 3 --record-size 500 --warm-up 5s";
    let refused = fail(&mut server.tool(words), 1);
    assert!(refused.contains("3 MESSAGE_TOO_LARGE"), "{refused}");
    let refused = fail(&mut server.tool("perf produce one --records 3 --warm-up 5s"), 1);
    assert!(refused.contains("nothing was measured"), "{refused}");
    // Fewer records than were asked for.
    let mut short = crate::binary::ottla();
    short.args(["perf", "consume", "one", "--from-beginning", "--records", "1000000"]);
    let refused = fail(short.args(["--timeout", "300ms", "--bootstrap-server", &server.address]), 1);
    assert!(refused.contains("nothing more to read"), "{refused}");
}

#[test]
fn a_broker_that_goes_away_does_not_keep_it() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    let mut tool = crate::binary::ottla();
    tool.args(["perf", "produce", "t", "--rate", "200", "--duration", "60s", "--delivery-timeout", "500ms"]);
    tool.args(["--timeout", "1s", "--bootstrap-server", &server.address]).stderr(std::process::Stdio::piped());
    let mut child = tool.stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut progress = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    // It has begun.
    let line = progress.next().unwrap().unwrap();
    assert!(line.contains("rec/s"), "{line}");
    drop(server);
    let failed =
        progress.by_ref().map(Result::unwrap).find(|line| !line.ends_with("errors 0") && !line.contains("(warm-up)"));
    assert!(failed.is_some(), "errors are shown while it runs");
    crate::binary::signal(&child, rustix::process::Signal::INT);
    let rest: Vec<String> = progress.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let last = rest.last().unwrap();
    assert!(last.contains("there were errors"), "{rest:?}");
}

#[test]
fn help_says_where_the_json_is_explained() {
    let help = succeed(crate::binary::ottla().args(["perf", "--help"]));
    assert!(help.contains("docs/tools.md") && help.contains("e2e"), "{help}");
}
