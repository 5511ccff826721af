//! Appending and reading, from memory and from files.

use crate::support::*;

#[tokio::test]
async fn what_is_appended_is_read() {
    let node = Node::new();
    let (manager, log) = node.start().await;
    for number in 0..10 {
        let appended = append(&log, &Batch::of(&[&format!("a{number}"), &format!("b{number}")])).unwrap();
        assert_eq!((appended.base_offset, appended.last_offset), (number * 2, number * 2 + 1));
        assert_eq!(appended.acknowledge_when_flushed, Some(number * 2 + 2));
    }
    assert_eq!(log.flushed_offset(), 0);
    flush(&manager, &log).await;
    assert_eq!(log.flushed_offset(), 20);
    let expected: Vec<_> =
        (0..20).map(|offset| (offset, format!("{}{}", ["a", "b"][offset as usize % 2], offset / 2))).collect();
    for max_bytes in [1, 100, 200, 100_000] {
        for start in [0, 1, 7, 19, 20] {
            let read = text(&values_from(&log, start, max_bytes));
            assert_eq!(read, expected[start as usize..], "from {start}, {max_bytes} bytes a read");
        }
    }
}

#[tokio::test]
async fn memory_and_files_give_the_same() {
    let mut node = Node::with_config(|config| config.segment_bytes = 20_000);
    node.hot_tail_bytes = 0;
    let (manager, cold) = node.start().await;
    node.hot_tail_bytes = 10_000_000;
    let other = Node { root: tempfile::tempdir().unwrap(), ..node };
    let (other_manager, hot) = other.start().await;
    for number in 0..300_usize {
        let batch = Batch::sized(number * 37 % 6_000);
        append(&cold, &batch).unwrap();
        append(&hot, &batch).unwrap();
    }
    assert!(!cold.is_hot(0) && hot.is_hot(0));
    assert_eq!(manager.hot_tail_bytes(), 0);
    assert!(other_manager.hot_tail_bytes() > 800_000);
    assert!(cold.segment_base_offsets().len() > 10);
    for max_bytes in [1, 1_000, 50_000, 10_000_000] {
        assert_eq!(values_from(&cold, 0, max_bytes), values_from(&hot, 0, max_bytes));
    }
    for upper_bound in [0, 1, 150, 299, 300] {
        for start in [0, 100, 250] {
            let ends = [&cold, &hot].map(|log| {
                let mut next = start;
                loop {
                    let read = log.read(next, 30_000, true, upper_bound).unwrap().to_bytes().unwrap();
                    let before = next;
                    for batch in ottla_record::batches(&read) {
                        let Ok((header, _)) = batch else { break };
                        next = header.next_offset();
                    }
                    if next == before {
                        return next;
                    }
                }
            });
            assert_eq!(ends, [upper_bound.max(start); 2], "from {start} to {upper_bound}");
        }
    }
}

#[tokio::test]
async fn offsets_outside_the_log_are_refused() {
    let node = Node::new();
    let (_manager, log) = node.start().await;
    append(&log, &Batch::of(&["a"])).unwrap();
    for offset in [-1, 2, i64::MAX] {
        let refused = log.read(offset, 1000, true, i64::MAX).err().map(|error| error.to_string());
        assert_eq!(refused, Some(format!("offset {offset} of orders-0 is outside 0..=1")));
    }
    assert_eq!(log.read(1, 1000, true, i64::MAX).unwrap().bytes, 0);
}

#[tokio::test]
async fn a_clean_stop_keeps_everything() {
    let node = Node::with_config(|config| config.segment_bytes = 1_000);
    let expected = {
        let (manager, log) = node.start().await;
        for number in 0..50 {
            append(&log, &Batch::of(&[&format!("value {number}")])).unwrap();
        }
        manager.shutdown(-1).await;
        values_from(&log, 0, 10_000)
    };
    assert_eq!(expected.len(), 50);
    assert!(files(&node.directory()).contains(&".kafka_cleanshutdown".to_owned()));
    let (_manager, log) = node.start().await;
    assert!(!files(&node.directory()).contains(&".kafka_cleanshutdown".to_owned()));
    assert_eq!(values_from(&log, 0, 10_000), expected);
    assert_eq!(append(&log, &Batch::of(&["next"])).unwrap().base_offset, 50);
}

#[tokio::test]
async fn a_killed_process_loses_nothing_written() {
    let node = Node::with_config(|config| config.segment_bytes = 1_000);
    let expected = {
        let (_manager, log) = node.start().await;
        for number in 0..50 {
            append(&log, &Batch::of(&[&format!("value {number}")]).by_producer(5, 0, number)).unwrap();
        }
        values_from(&log, 0, 10_000)
    };
    for _ in 0..2 {
        let (_manager, log) = node.start().await;
        assert_eq!(values_from(&log, 0, 10_000), expected);
        assert_eq!(log.flushed_offset(), 50, "recovery syncs what it keeps");
        let again = append(&log, &Batch::of(&["value 47"]).by_producer(5, 0, 47)).unwrap();
        assert!(again.duplicate);
        assert_eq!(again.base_offset, 47);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_a_writer_side_by_side() {
    const BATCHES: i64 = 3_000;
    let mut node = Node::with_config(|config| {
        config.segment_bytes = 50_000;
        config.index_interval_bytes = 500;
    });
    // Most reads miss the tail.
    node.hot_tail_bytes = 5_000;
    let (manager, log) = node.start().await;
    let mut running = Vec::new();
    for max_bytes in [1, 3_000] {
        let log = log.clone();
        running.push(node.world.spawn.blocking(Box::new(move || {
            let mut next = 0;
            while next < BATCHES {
                let values = values_from(&log, next, max_bytes);
                for (offset, value) in &values {
                    assert_eq!((*offset, value.as_slice()), (next, format!("value {next}").as_bytes()));
                    next += 1;
                }
                std::thread::yield_now();
            }
        })));
    }
    for number in 0..BATCHES {
        append(&log, &Batch::of(&[&format!("value {number}")])).unwrap();
        if number % 64 == 0 {
            manager.request_flush(&log);
            tokio::task::yield_now().await;
        }
    }
    for reader in running {
        reader.await;
    }
    flush(&manager, &log).await;
}
