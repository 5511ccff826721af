//! Payloads like those of real topics: JSON objects, each another, of exactly the wanted size; the same in every run.

use std::fmt::Write;

use crate::arguments::Arguments;

const WORDS: &str = "accepted account address amount balance basket billing cancelled checkout city country \
    currency customer delivered discount email failed gateway invoice mobile order payment pending product refund region session \
    shipping status stock user warehouse";

/// How many different payloads a load goes through: more than any batch has records.
const DIFFERENT: usize = 32_768;

pub fn payloads(size: usize) -> Vec<Vec<u8>> {
    let mut random = SplitMix(0x6f74_746c_6100);
    (0..DIFFERENT).map(|id| payload(id, size, &mut random)).collect()
}

fn payload(id: usize, size: usize, random: &mut SplitMix) -> Vec<u8> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut text = format!("{{\"id\":{id},\"at\":{}", 1_700_000_000_000 + random.below(1_000_000_000));
    while text.len() < size {
        let word = words[random.below(words.len() as u64) as usize];
        if random.below(2) == 0 {
            write!(text, ",\"{word}\":{}", random.below(100_000)).expect("invariant: a String takes all");
        } else {
            let other = words[random.below(words.len() as u64) as usize];
            write!(text, ",\"{word}\":\"{other}-{:x}\"", random.below(1 << 24)).expect("invariant: a String takes all");
        }
    }
    text.truncate(size.saturating_sub(1));
    text.push('}');
    text.into_bytes()
}

/// One payload a line, for generators that read them from a file.
pub fn print(arguments: &Arguments) -> Result<String, String> {
    let size = arguments.number("size")? as usize;
    let count = arguments.number("count")? as usize;
    let lines: Result<Vec<String>, _> = payloads(size).into_iter().cycle().take(count).map(String::from_utf8).collect();
    Ok(lines.map_err(|error| error.to_string())?.join("\n"))
}

/// The generator of Steele, Lea and Flood: a few lines, and the same numbers everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::payloads;

    #[test]
    fn exact_sizes_all_different_and_repeatable() {
        for size in [100, 1024] {
            let first = payloads(size);
            assert!(first.iter().all(|payload| payload.len() == size && payload.ends_with(b"}")));
            let distinct: std::collections::BTreeSet<_> = first.iter().collect();
            assert_eq!(distinct.len(), first.len());
            assert_eq!(first, payloads(size));
        }
    }
}
