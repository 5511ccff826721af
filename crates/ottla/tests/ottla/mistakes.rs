//! What the binary says when it is used wrongly, and its manners.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use crate::binary::{Server, fail, ottla, succeed};

#[test]
fn help_reads_well() {
    let help = succeed(ottla().arg("--help"));
    for word in [
        "server",
        "topic",
        "config",
        "group",
        "produce",
        "consume",
        "api-versions",
        "log",
        "ottla topic create greetings",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
}

#[test]
fn arguments_that_make_no_sense_are_2() {
    for words in ["", "frobnicate", "consume", "consume t --offset x", "topic create t --partitions none"] {
        let said = fail(ottla().args(words.split_whitespace()), 2);
        assert!(said.contains("--help"), "{words}: {said}");
    }
}

#[test]
fn nobody_there() {
    // The near end of a connection holds its port, and nobody listens on it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let address = connected.local_addr().unwrap().to_string();
    for words in ["topic list", "produce t", "consume t", "consume t --group g"] {
        let said = fail(ottla().args(words.split_whitespace()).args(["--bootstrap-server", &address]), 1);
        assert!(said.contains(&format!("cannot connect to {address}")), "{words}: {said}");
        assert!(said.contains("ottla server") && said.contains("--bootstrap-server"), "{words}: {said}");
    }
}

#[test]
fn somebody_who_never_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let said = fail(ottla().args(["topic", "list", "--timeout", "200ms", "--bootstrap-server", &address]), 1);
    assert!(said.contains(&format!("no answer from {address} within 200ms")), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let server = Server::start(&[]);
    let lines = (0..20_000).map(|number| format!("a line of some length, {number}")).collect::<Vec<_>>().join("\n");
    server.produce("t", &lines);
    let mut consumer =
        server.tool("consume t --from-beginning").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 16];
    consumer.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = consumer.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
