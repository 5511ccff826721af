//! Settings made at run time over those of the start.

use std::collections::BTreeMap;

use crate::config;

fn layer(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
    settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_nodes_own_setting_is_stronger_than_the_clusters_and_that_than_the_file() {
    let start = config("message.max.bytes=1000\nmax.connections=5\nlog.retention.hours=1\nlog.segment.bytes=2000000");
    let cluster = layer(&[("message.max.bytes", "2000"), ("max.connections", "6"), ("log.retention.ms", "9")]);
    let (now, errors) = start.with_dynamic(&cluster, &layer(&[("message.max.bytes", "3000")]));
    assert_eq!(errors, []);
    assert_eq!((now.log.max_message_bytes, now.network.max_connections), (3000, 6));
    assert_eq!((now.log.retention_ms, now.log.segment_bytes), (9, 2_000_000));
    // What is taken back has the file's value again, whichever configuration it is taken back from.
    let (then, errors) = now.with_dynamic(&BTreeMap::new(), &BTreeMap::new());
    assert_eq!(errors, []);
    assert_eq!((then.log.clone(), then.network.clone()), (start.log, start.network));
}

#[test]
fn what_is_not_understood_is_left_out_and_told() {
    let start = config("message.max.bytes=1000");
    let (now, errors) = start.with_dynamic(
        &layer(&[("message.max.bytes", "many"), ("max.connections", "6")]),
        &layer(&[("log.cleanup.policy", "burn")]),
    );
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "Invalid value many for configuration message.max.bytes: Not a number of type INT",
            "Invalid value burn for configuration log.cleanup.policy: String must be one of: compact, delete"
        ]
    );
    assert_eq!((now.log.max_message_bytes, now.network.max_connections), (1000, 6));
}

#[test]
fn what_does_not_go_together_with_a_changed_file_leaves_the_rest_in_force() {
    let cluster = layer(&[("log.cleaner.min.compaction.lag.ms", "1000"), ("log.retention.ms", "-1")]);
    let node = layer(&[("max.connections", "6")]);
    let (now, errors) = config("log.cleaner.max.compaction.lag.ms=500").with_dynamic(&cluster, &node);
    assert_eq!((now.log.retention_ms, now.network.max_connections), (-1, 6));
    assert_eq!(now.log.min_compaction_lag_ms, 0);
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["conflict topic config setting min.compaction.lag.ms (1000) > max.compaction.lag.ms (500)"]);
}

#[test]
fn the_threads_of_the_cleaner_change_by_a_factor_of_two() {
    let start = config("log.cleaner.threads=4");
    let check = |threads: &str| {
        start
            .check_dynamic(ottla_config::Scope::Cluster, &layer(&[("log.cleaner.threads", threads)]))
            .map_err(|error| error.to_string())
    };
    for threads in ["2", "4", "8"] {
        assert_eq!(check(threads), Ok(vec![]), "{threads}");
    }
    let at_least = "Log cleaner threads should be at least 1";
    let too_few = "Log cleaner threads cannot be reduced to less than half the current value 4";
    let too_many = "Log cleaner threads cannot be increased to more than double the current value 4";
    for (threads, error) in [("0", at_least), ("1", too_few), ("9", too_many)] {
        assert_eq!(check(threads), Err(error.to_owned()), "{threads}");
    }
}

#[test]
fn the_cleaner_is_told_at_run_time() {
    let cluster = layer(&[
        ("log.cleaner.backoff.ms", "7"),
        ("log.cleaner.dedupe.buffer.size", "9000000"),
        ("log.cleaner.io.buffer.load.factor", "0.5"),
        ("log.cleaner.io.buffer.size", "70000"),
        ("log.cleaner.io.max.bytes.per.second", "1e6"),
    ]);
    let (now, errors) = config("").with_dynamic(&cluster, &BTreeMap::new());
    assert_eq!(errors, []);
    let expected = ottla_config::LogCleaner {
        enable: true,
        threads: 1,
        dedupe_buffer_bytes: 9_000_000,
        dedupe_buffer_load_factor: 0.5,
        io_buffer_bytes: 70_000,
        io_max_bytes_per_second: 1e6,
        backoff_ms: 7,
    };
    assert_eq!(now.log_cleaner, expected);
}
