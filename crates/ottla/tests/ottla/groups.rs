//! `ottla consume --group`.

use crate::binary::{Running, Server};

/// No waiting for further members, as production has it.
const AT_ONCE: &str = "group.initial.rebalance.delay.ms=0";

#[test]
fn a_group_goes_on_where_it_left_off() {
    let server = Server::start(&[AT_ONCE]);
    server.run("topic create t --partitions 1");
    server.produce("t", "0\n1\n2\n3\n4\n");
    assert_eq!(server.run("consume t --group g --from-beginning --max-records 2"), "0\n1\n");
    assert_eq!(server.run("consume t --group g --from-beginning --max-records 2"), "2\n3\n");
    let server = server.stop().start();
    assert_eq!(server.run("consume t --group g --from-beginning --exit-at-end"), "4\n");
    assert_eq!(server.run("consume t --group g --from-beginning --exit-at-end"), "");
    assert_eq!(server.run("consume t --group other --from-beginning --max-records 1"), "0\n");
}

#[test]
fn two_members_share_the_partitions_and_read_everything_once() {
    let server = Server::start(&[AT_ONCE]);
    server.run("topic create t --partitions 2");
    let consumer = || Running::start(&mut server.tool("consume t --group g --from-beginning --json"));
    let mut first = consumer();
    let (mut produced, mut read) = (Vec::new(), Vec::new());
    let mut produce = |value: &str| {
        for partition in 0..2 {
            server.produce(&format!("t --partition {partition}"), &format!("{value}\n"));
            produced.push((partition, value.to_owned()));
        }
    };
    produce("alone");
    read.extend([first.line(), first.line()]);

    // The first member notices the second at its next heartbeat, and then gives one partition up.
    let mut second = consumer();
    let by_second = (0..500).find_map(|number| {
        produce(&format!("shared {number}"));
        second.line_at_hand()
    });
    read.push(by_second.expect("the second member never reads"));
    produce("shared at last");
    let (rest, stderr) = second.interrupt();
    assert!(stderr.ends_with("consumed\n"), "{stderr}");
    read.extend(rest);

    // The second has left: the first has both partitions again.
    produce("last");
    loop {
        let line = first.line();
        let of_both = read.iter().filter(|line| line.contains("\"last\"")).count() == 1 && line.contains("\"last\"");
        read.push(line);
        if of_both {
            break;
        }
    }
    let (rest, _) = first.interrupt();
    read.extend(rest);
    let mut read: Vec<(i64, String)> = read
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|record| (record["partition"].as_i64().unwrap(), record["value"].as_str().unwrap().to_owned()))
        .collect();
    read.sort();
    produced.sort();
    assert_eq!(read, produced);
}
