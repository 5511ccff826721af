//! Makes random keys with our hash of each and the partition it goes to, for `compat/partitioner/run` to hold against
//! those of Kafka's Java client.
//!
//! `partition_cases SEED COUNT`: one key a line, fields separated by tabs: the key in hexadecimal, its hash, how many
//! partitions there are, the partition.

use std::fmt::Write as _;
use std::io::{self, Write};

use ottla_client::{murmur2, partition_for_key};

/// Most keys are as short as people's are.
const SHORT: u64 = 40;
const LONG: u64 = 3000;
const PARTITIONS: u64 = 5000;

fn main() -> io::Result<()> {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [seed, count] = numbers[..] else {
        writeln!(io::stderr(), "usage: partition_cases SEED COUNT")?;
        std::process::exit(2);
    };
    let mut random = Random(seed);
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut key = Vec::new();
    let mut line = String::new();
    for number in 0..count {
        let longest = if number % 1000 == 0 { LONG } else { SHORT };
        let length = random.next() % (longest + 1);
        key.clear();
        key.extend((0..length).map(|_| random.next() as u8));
        let partitions = 1 + random.next() % PARTITIONS;
        line.clear();
        for byte in &key {
            let _ = write!(line, "{byte:02x}");
        }
        let partition = partition_for_key(&key, partitions as usize);
        writeln!(output, "{line}\t{}\t{partitions}\t{partition}", murmur2(&key))?;
    }
    output.flush()
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}
