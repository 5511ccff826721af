//! Makes random record batches, good and bad, with our verdict on each, for `compat/record/run` to hold against Kafka's.
//!
//! `record_cases SEED COUNT`: one case a line, fields separated by tabs; `RecordOracle.java` has their names.

use std::fmt::Write as _;
use std::io::{self, Write};

use bytes::Bytes;
use ottla_record::{
    BatchBuilder, Codec, Compression, DecompressionLimits, Header, TargetCompression, ValidationRules, compress,
    stamp_crc, validate,
};
use ottla_types::TimestampType;

const NOW: i64 = 1_700_000_000_000;
const EDGES: [i64; 14] = [
    0,
    1,
    -1,
    -2,
    5,
    49,
    61,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
    NOW,
    NOW + 3_600_001,
    NOW - 86_400_001,
];
/// Fields of a header: position and width.
const FIELDS: [(usize, usize); 13] =
    [(0, 8), (8, 4), (12, 4), (16, 1), (17, 4), (21, 2), (22, 1), (23, 4), (27, 8), (35, 8), (43, 8), (53, 4), (57, 4)];

fn main() -> io::Result<()> {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [seed, count] = numbers[..] else {
        writeln!(io::stderr(), "usage: record_cases SEED COUNT")?;
        std::process::exit(2);
    };
    let mut output = io::BufWriter::new(io::stdout().lock());
    for number in 0..count {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        writeln!(output, "{}", case(number, &mut random))?;
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

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn field(&mut self) -> Option<Vec<u8>> {
        let length = match self.below(10) {
            0 => return None,
            1 => 0,
            2 => 60 + self.below(10),
            3 => self.below(3_000),
            4 if self.one_in(10) => 60_000 + self.below(20_000),
            _ => self.below(30),
        };
        let pattern = self.next();
        Some((0..length).map(|index| (pattern >> (index % 8 * 8)).to_le_bytes()[0]).collect())
    }
}

fn case(number: u64, random: &mut Random) -> String {
    let codec = random.pick(&Codec::ALL);
    let rules = ValidationRules {
        now_ms: NOW,
        zstd_allowed: !random.one_in(8),
        timestamp_type: if random.one_in(4) { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
        timestamp_before_max_ms: random.pick(&[i64::MAX, i64::MAX, 86_400_000]),
        timestamp_after_max_ms: random.pick(&[3_600_000, 3_600_000, i64::MAX]),
        compacted: random.one_in(4),
        max_message_bytes: random.pick(&[1_048_588, 1_048_588, 1_048_588, 1_000]),
        max_decompressed_message_bytes: random.pick(&[i32::MAX as usize, i32::MAX as usize, 1_000]),
        target_compression: if random.one_in(4) {
            TargetCompression::Always(Compression::new(random.pick(&Codec::ALL)))
        } else {
            TargetCompression::Producer
        },
        limits: DecompressionLimits::default(),
        ..ValidationRules::default()
    };
    let (name, input) = batch(codec, random);
    let target = match rules.target_compression {
        TargetCompression::Producer => "producer",
        TargetCompression::Always(compression) => compression.codec().name(),
    };
    let mut line = format!(
        "{number}-{}-{name}\t{}\t{}\t{}\t{}\t{}\t{target}\t{}\t{}\t{NOW}\t{}\t",
        codec.name(),
        if rules.zstd_allowed { 13 } else { 6 },
        rules.timestamp_type.name(),
        rules.timestamp_before_max_ms,
        rules.timestamp_after_max_ms,
        rules.compacted,
        rules.max_decompressed_message_bytes,
        rules.max_message_bytes,
        Hex(&input),
    );
    let written = match validate(&input, &rules) {
        Ok(valid) => {
            write!(line, "0\tOK\t{}\t{}\t{}\t", Hex(&valid.bytes), valid.max_timestamp, valid.rebuilt)
        }
        Err(refused) => {
            let named: Vec<String> =
                refused.rejected_records().iter().map(|record| record.batch_index.to_string()).collect();
            let mut detail = format!("{refused:?}");
            detail.truncate(120);
            write!(line, "{}\t{detail}\t\t0\tfalse\t{}", refused.error_code().code(), named.join(","))
        }
    };
    written.expect("a String takes everything");
    line
}

/// A batch, as a good producer, a bad one, or a broken wire would send it.
fn batch(codec: Codec, random: &mut Random) -> (&'static str, Bytes) {
    let good = good_batch(codec, random);
    let kind = random.below(12);
    if kind < 3 {
        return ("good", good.into());
    }
    let mut bytes = good;
    let name = match kind {
        3 => {
            bytes.truncate(random.below(bytes.len() + 1));
            "truncated"
        }
        4 => {
            let extra = random.below(80);
            let second = good_batch(random.pick(&Codec::ALL), random);
            bytes.extend((0..extra).map(|at| second.get(at).copied().unwrap_or(0)));
            "trailing"
        }
        5 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            "flipped"
        }
        6 | 7 => {
            let (at, width) = random.pick(&FIELDS);
            let value = if random.one_in(3) { random.next().cast_signed() } else { random.pick(&EDGES) };
            bytes[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
            stamp_crc(&mut bytes);
            "header"
        }
        8 => {
            let at = 61 + random.below((bytes.len() - 61).max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
            stamp_crc(&mut bytes);
            "stored byte"
        }
        9 => {
            // Two fields that must agree, agreeing on something else than the records.
            let count = i32::try_from(1 + random.below(6)).unwrap_or(1);
            bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            stamp_crc(&mut bytes);
            "count"
        }
        _ => return ("record byte", broken_records(codec, random).into()),
    };
    (name, bytes.into())
}

fn good_batch(codec: Codec, random: &mut Random) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::new(codec));
    if random.one_in(3) {
        builder.set_producer(7, 1, random.pick(&[0, 5, i32::MAX - 1]));
        builder.set_transactional(random.one_in(2));
    }
    if random.one_in(12) {
        builder.set_log_append_time(NOW - 5);
    }
    if random.one_in(12) {
        builder.set_position(0, 3);
    }
    let keyless = random.one_in(4);
    for _ in 0..=random.below(8) {
        append(&mut builder, keyless, random);
    }
    builder.finish().expect("the batch is small").to_vec()
}

fn append(builder: &mut BatchBuilder, keyless: bool, random: &mut Random) {
    let timestamp = match random.below(30) {
        0 => -1,
        1 => NOW + 3_600_001,
        2 => NOW - 86_400_001,
        3 => random.pick(&EDGES),
        _ => NOW - i64::try_from(random.below(100_000)).unwrap_or(0),
    };
    let key = if keyless && random.one_in(2) { None } else { Some(random.field().unwrap_or_default()) };
    let value = random.field();
    let headers: Vec<(Vec<u8>, Option<Vec<u8>>)> =
        (0..random.below(6).saturating_sub(3)).map(|_| (b"header".to_vec(), random.field())).collect();
    let headers: Vec<Header<'_>> = headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
    builder.append(timestamp, key.as_deref(), value.as_deref(), &headers).expect("the record is small");
}

/// A batch whose records are damaged before they are compressed.
fn broken_records(codec: Codec, random: &mut Random) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::NONE);
    for _ in 0..=random.below(5) {
        builder
            .append(NOW, random.field().as_deref().map(|key| &key[..key.len().min(20)]), Some(b"v"), &[])
            .expect("the record is small");
    }
    let mut bytes = builder.finish().expect("the batch is small").to_vec();
    let mut body = bytes.split_off(61);
    for _ in 0..=random.below(2) {
        // The numbers are at the front of a record: mostly aim there.
        let at = if random.one_in(3) { random.below(body.len()) } else { random.below(body.len().min(9)) };
        match random.below(4) {
            0 => body[at] = random.pick(&[0, 1, 2, 3, 9, 0x7f, 0x80, 0xff]),
            1 => body[at] ^= 1 << random.below(8),
            2 => drop(body.remove(at)),
            _ => body.insert(at, random.pick(&[0, 1, 2, 0x80, 0xff])),
        }
        if body.is_empty() {
            break;
        }
    }
    bytes.extend_from_slice(&compress(Compression::new(codec), &body).expect("the body is small"));
    let length = i32::try_from(bytes.len() - 12).expect("the batch is small");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = codec as u8;
    stamp_crc(&mut bytes);
    bytes
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}
