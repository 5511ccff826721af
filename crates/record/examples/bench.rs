//! What the hot paths cost on this machine: `cargo run --release -p ottla-record --example bench`.
//!
//! Each figure is the best of several rounds, which is what the code costs when nobody disturbs it.

use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_record::{
    BatchBuilder, BatchHeader, Codec, Compression, DecompressionLimits, Records, TargetCompression, ValidationMode,
    ValidationRules, compress, decompress, validate, verify_crc,
};

const RECORDS: usize = 1_000;
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(40);

fn main() -> io::Result<()> {
    let mut output = io::stdout().lock();
    let limits = DecompressionLimits::default();
    let rules = ValidationRules { now_ms: 2_000_000_000_000, ..ValidationRules::default() };
    writeln!(output, "{RECORDS} records with values of 100 bytes (JSON), no key")?;
    let uncompressed = batch(Compression::NONE);
    let header = BatchHeader::parse(&uncompressed).map_err(io::Error::other)?;
    let body = uncompressed.slice(61..);
    report(&mut output, "verify_crc", body.len(), || verify_crc(&uncompressed).is_ok())?;
    report(&mut output, "iterate", body.len(), || {
        Records::new(&header, &body)
            .filter_map(Result::ok)
            .map(|record| record.value.map_or(0, <[u8]>::len))
            .sum::<usize>()
    })?;
    let values = values();
    report(&mut output, "build", body.len(), || build(Compression::NONE, &values))?;
    let fast = ValidationRules { mode: ValidationMode::Fast, ..rules.clone() };
    let compacted = ValidationRules { compacted: true, ..rules.clone() };
    report(&mut output, "validate strict none", body.len(), || validate(&uncompressed, &rules).is_ok())?;
    report(&mut output, "validate fast none", body.len(), || validate(&uncompressed, &fast).is_ok())?;
    report(&mut output, "validate strict, every record rejected", body.len(), || {
        validate(&uncompressed, &compacted).is_err()
    })?;
    for codec in Codec::ALL.into_iter().filter(|&codec| codec != Codec::None) {
        let name = codec.name();
        let compressed = batch(Compression::new(codec));
        let compressed_body = compressed.slice(61..);
        writeln!(output, "{name}: {} bytes become {}", body.len(), compressed_body.len())?;
        report(&mut output, &format!("compress {name}"), body.len(), || compress(Compression::new(codec), &body))?;
        report(&mut output, &format!("decompress {name}"), body.len(), || {
            decompress(codec, &compressed_body, &limits)
        })?;
        report(&mut output, &format!("validate strict {name}"), body.len(), || validate(&compressed, &rules).is_ok())?;
        report(&mut output, &format!("validate fast {name}"), body.len(), || validate(&compressed, &fast).is_ok())?;
        let recompress =
            ValidationRules { target_compression: TargetCompression::Always(Compression::new(codec)), ..rules.clone() };
        report(&mut output, &format!("validate none, store {name}"), body.len(), || {
            validate(&uncompressed, &recompress).is_ok()
        })?;
    }
    for (codec, level) in [(Codec::Gzip, 1), (Codec::Gzip, 9), (Codec::Lz4, 1), (Codec::Lz4, 12), (Codec::Zstd, 9)] {
        let target = Compression::with_level(codec, level).map_err(io::Error::other)?;
        let recompress = ValidationRules { target_compression: TargetCompression::Always(target), ..rules.clone() };
        let size = validate(&uncompressed, &recompress).map_or(0, |validated| validated.bytes.len());
        report(
            &mut output,
            &format!("validate none, store {} {level}: {size} bytes", codec.name()),
            body.len(),
            || validate(&uncompressed, &recompress).is_ok(),
        )?;
    }
    for (from, to) in [(Codec::Zstd, Codec::Lz4), (Codec::Lz4, Codec::Zstd), (Codec::Lz4, Codec::None)] {
        let compressed = batch(Compression::new(from));
        let recompress =
            ValidationRules { target_compression: TargetCompression::Always(Compression::new(to)), ..rules.clone() };
        report(&mut output, &format!("validate {}, store {}", from.name(), to.name()), body.len(), || {
            validate(&compressed, &recompress).is_ok()
        })?;
    }
    Ok(())
}

fn values() -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let value = |index| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (user, page, duration) = (state >> 32 & 0xfff, state >> 44, state >> 50);
        let text = format!(
            "{{\"id\":{index:08},\"user\":\"user-{user:04}\",\"action\":\"view\",\"page\":\"/item/{page:06}\",\"duration_ms\":{duration:05}"
        );
        format!("{text:99}}}").into_bytes()
    };
    (0..RECORDS).map(value).collect()
}

fn batch(compression: Compression) -> Bytes {
    build(compression, &values())
}

fn build(compression: Compression, values: &[Vec<u8>]) -> Bytes {
    let mut builder = BatchBuilder::with_capacity(compression, RECORDS * 112);
    for (timestamp, value) in (1_700_000_000_000..).zip(values) {
        builder.append(timestamp, None, Some(value), &[]).expect("the batch is small");
    }
    builder.finish().expect("the batch is small")
}

fn report<T>(output: &mut impl Write, name: &str, bytes: usize, mut work: impl FnMut() -> T) -> io::Result<()> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut times = 0;
        while start.elapsed() < ROUND {
            black_box(work());
            times += 1;
        }
        best = best.min(start.elapsed() / times);
    }
    let rate = bytes as f64 / best.as_secs_f64() / 1e6;
    writeln!(output, "  {name:40} {:>10.2} us {rate:>9.0} MB/s", best.as_secs_f64() * 1e6)
}
