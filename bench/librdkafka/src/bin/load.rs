//! Load on librdkafka with a rate that does not wait for answers (open loop) and exact percentiles; one line of JSON.
//!
//! A latency counts from the moment a record was due, not from when the generator got round to it, so a stall of the
//! broker is seen by every record that was due during it.

use ottla_bench_librdkafka::arguments::Arguments;
use ottla_bench_librdkafka::{end_to_end, payload, produce};

const USAGE: &str =
    "usage: load produce|end-to-end --brokers B --topic T --size N --records N [--rate N] [--partitions N]
            [--set key=value ...]
       load payloads --size N --count N";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let result = Arguments::parse(arguments).and_then(|arguments| match mode.as_str() {
        "produce" => produce::run(&arguments),
        "end-to-end" => end_to_end::run(&arguments),
        "payloads" => payload::print(&arguments),
        _ => Err(USAGE.to_owned()),
    });
    match result {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("load: {error}");
            std::process::exit(1);
        }
    }
}
