//! What the records of a measurement contain: the same for the same seed, and as compressible as what people send.

use std::ops::RangeInclusive;

use clap::ValueEnum;

/// The kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PayloadKind {
    /// Bytes that no codec makes smaller.
    Random,
    /// English-like words.
    Text,
    /// JSON objects such as an application logs: the same fields, varying values.
    Json,
}

impl PayloadKind {
    pub fn name(self) -> &'static str {
        match self {
            PayloadKind::Random => "random",
            PayloadKind::Text => "text",
            PayloadKind::Json => "json",
        }
    }
}

/// Bytes of values made in advance; the values are pieces of it.
const POOL_BYTES: usize = 2 << 20;

/// Documents may be empty, and would never fill it.
const MOST_DOCUMENTS: usize = 64 << 10;

const WORDS: [&str; 96] = [
    "the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not", "he",
    "his", "but", "at", "are", "this", "have", "from", "or", "had", "an", "they", "which", "one", "you", "were", "all",
    "her", "she", "there", "would", "their", "we", "him", "been", "has", "when", "who", "will", "no", "more", "if",
    "out", "so", "up", "said", "what", "its", "about", "than", "into", "them", "can", "only", "other", "time", "new",
    "some", "could", "these", "two", "may", "first", "then", "do", "any", "like", "my", "now", "over", "such", "our",
    "man", "me", "even", "most", "made", "after", "also", "well", "did", "many", "before", "must", "years", "back",
    "through", "order", "payment",
];

/// Small and fast, and the same everywhere: xorshift64*.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // A state of zero would stay zero.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03 | 1)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(limit)) >> 64) as u64
    }
}

/// Values, one after the other.
#[derive(Debug)]
pub struct Payloads {
    pool: Vec<u8>,
    /// Where the documents of the pool begin, for JSON.
    documents: Vec<(usize, usize)>,
    next: usize,
    sizes: RangeInclusive<usize>,
    random: Random,
}

impl Payloads {
    pub fn new(kind: PayloadKind, sizes: RangeInclusive<usize>, seed: u64) -> Payloads {
        Payloads::of(kind, sizes, seed, POOL_BYTES)
    }

    fn of(kind: PayloadKind, sizes: RangeInclusive<usize>, seed: u64, least_pool_bytes: usize) -> Payloads {
        let mut random = Random::new(seed);
        let pool_bytes = least_pool_bytes.max(sizes.end().saturating_mul(2));
        let mut pool = Vec::with_capacity(pool_bytes + sizes.end());
        let mut documents = Vec::new();
        while pool.len() < pool_bytes && documents.len() < MOST_DOCUMENTS {
            match kind {
                PayloadKind::Random => pool.extend(random.draw().to_le_bytes()),
                PayloadKind::Text => {
                    // Frequent words come first.
                    let word = random.below(WORDS.len() as u64).min(random.below(WORDS.len() as u64));
                    pool.extend(WORDS[word as usize].as_bytes());
                    pool.push(b' ');
                }
                PayloadKind::Json => {
                    let begin = pool.len();
                    put_document(&mut pool, size_in(&sizes, &mut random), &mut random);
                    documents.push((begin, pool.len()));
                }
            }
        }
        Payloads { pool, documents, next: 0, sizes, random }
    }

    pub fn value(&mut self) -> &[u8] {
        if !self.documents.is_empty() {
            let (begin, end) = self.documents[self.next];
            self.next = (self.next + 1) % self.documents.len();
            return &self.pool[begin..end];
        }
        let size = size_in(&self.sizes, &mut self.random);
        if self.next + size > self.pool.len() {
            // The second time around the pieces are cut elsewhere.
            self.next = self.random.below(1 + size as u64) as usize;
        }
        let value = &self.pool[self.next..self.next + size];
        self.next += size;
        value
    }
}

fn size_in(sizes: &RangeInclusive<usize>, random: &mut Random) -> usize {
    let (smallest, largest) = (*sizes.start(), *sizes.end());
    if smallest == largest { smallest } else { smallest + random.below((largest - smallest + 1) as u64) as usize }
}

/// A JSON object of exactly `size` bytes; what is too small for one is a string or a number.
fn put_document(output: &mut Vec<u8>, size: usize, random: &mut Random) {
    const LEVELS: [&str; 4] = ["INFO", "INFO", "WARN", "DEBUG"];
    let begin = output.len();
    let head = format!(
        r#"{{"id":{},"level":"{}","user":"user-{}","amount":{}.{:02},"message":""#,
        random.below(1 << 40),
        LEVELS[random.below(4) as usize],
        random.below(100_000),
        random.below(10_000),
        random.below(100),
    );
    if head.len() + 2 > size {
        match size {
            0 => {}
            1 => output.push(b'0' + random.below(10) as u8),
            _ => {
                output.push(b'"');
                output.extend((2..size).map(|_| b'a' + random.below(26) as u8));
                output.push(b'"');
            }
        }
        return;
    }
    output.extend(head.as_bytes());
    while output.len() - begin < size - 2 {
        output.extend(WORDS[random.below(WORDS.len() as u64) as usize].as_bytes());
        output.push(b' ');
    }
    output.truncate(begin + size - 2);
    output.extend(b"\"}");
}

/// Reads `100` or `100-2000`.
pub fn parse_sizes(text: &str) -> Result<RangeInclusive<usize>, String> {
    const LARGEST: usize = 64 << 20;
    let (smallest, largest) = text.split_once('-').unwrap_or((text, text));
    smallest
        .parse::<usize>()
        .ok()
        .zip(largest.parse::<usize>().ok())
        .filter(|(smallest, largest)| smallest <= largest && *largest <= LARGEST)
        .map(|(smallest, largest)| smallest..=largest)
        .ok_or_else(|| format!("'{text}' is neither a number of bytes up to {LARGEST}, nor two such as 100-2000"))
}

#[cfg(test)]
mod tests {
    use ottla_record::{Codec, Compression, compress};

    use super::*;

    #[test]
    fn sizes_are_kept_and_seeds_repeat() {
        for kind in [PayloadKind::Random, PayloadKind::Text, PayloadKind::Json] {
            for sizes in [0..=0, 1..=1, 2..=2, 100..=100, 50..=3000] {
                let pool_bytes = if sizes.start() == sizes.end() { 8 << 10 } else { 512 << 10 };
                let mut payloads = Payloads::of(kind, sizes.clone(), 7, pool_bytes);
                let mut again = Payloads::of(kind, sizes.clone(), 7, pool_bytes);
                let mut seen = std::collections::BTreeSet::new();
                for _ in 0..2000 {
                    let value = payloads.value().to_vec();
                    assert_eq!(value, again.value());
                    assert!(sizes.contains(&value.len()), "{kind:?} {}", value.len());
                    if kind == PayloadKind::Json && !value.is_empty() {
                        serde_json::from_slice::<serde_json::Value>(&value).unwrap();
                    }
                    seen.insert(value.len());
                }
                assert!(sizes.start() == sizes.end() || seen.len() > 100, "{kind:?}");
            }
        }
        let first = |seed| Payloads::of(PayloadKind::Random, 100..=100, seed, 1000).value().to_vec();
        assert_ne!(first(1), first(2));
    }

    #[test]
    fn they_compress_as_their_kind_does() {
        for (kind, ratios) in
            [(PayloadKind::Random, 0.9..1.1), (PayloadKind::Text, 1.5..5.0), (PayloadKind::Json, 1.5..8.0)]
        {
            let mut payloads = Payloads::of(kind, 1024..=1024, 1, 256 << 10);
            let values: Vec<u8> = (0..64).flat_map(|_| payloads.value().to_vec()).collect();
            let compressed = compress(Compression::new(Codec::Lz4), &values).unwrap();
            let ratio = values.len() as f64 / compressed.len() as f64;
            assert!(ratios.contains(&ratio), "{kind:?} {ratio}");
        }
    }

    #[test]
    fn sizes_as_text() {
        for (text, sizes) in [
            ("100", Some(100..=100)),
            ("1-5", Some(1..=5)),
            ("0", Some(0..=0)),
            ("5-1", None),
            ("-1", None),
            ("99999999999", None),
            ("", None),
        ] {
            assert_eq!(parse_sizes(text).ok(), sizes, "{text}");
        }
    }
}
