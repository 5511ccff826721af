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
fn two_members_share_the_partitions() {
    let server = Server::start(&[AT_ONCE]);
    server.run("topic create t --partitions 2");
    let mut first = Running::start(&mut server.tool("consume t --group g --from-beginning"));
    server.produce("t --partition 0", "a\n");
    server.produce("t --partition 1", "b\n");
    let mut alone = [first.line(), first.line()];
    alone.sort();
    assert_eq!(alone, ["a", "b"]);
    // It gets its assignment only when the first has joined again.
    let mut second = Running::start(&mut server.tool("consume t --group g --from-beginning --json"));
    let mut halves = Vec::new();
    for number in 0.. {
        // Whoever has the partition reads it; once the second one reads, the group is shared.
        server.produce("t --partition 0", &format!("p{number}\n"));
        server.produce("t --partition 1", &format!("p{number}\n"));
        let read = first.line();
        halves.push(read);
        if number == 0 {
            let theirs: serde_json::Value = serde_json::from_str(&second.line()).unwrap();
            assert_eq!(theirs["value"], "p0");
            break;
        }
    }
    assert_eq!(halves, ["p0"]);
    let (_, stderr) = second.interrupt();
    assert!(stderr.contains("1 record consumed"), "{stderr}");
    // The second has left: the first gets its partition back, and reads on after what was committed.
    server.produce("t --partition 0", "last\n");
    server.produce("t --partition 1", "last\n");
    assert_eq!([first.line(), first.line()], ["last", "last"]);
    first.interrupt();
}
