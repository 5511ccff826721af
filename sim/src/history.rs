//! What clients were promised, and whether it was kept.
//!
//! A record acknowledged at an offset, or seen there by a consumer, is there for ever. Each producer's records are there
//! once, in order, without a gap.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

/// A record says who sent it, and as which of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    pub producer: u32,
    pub number: u64,
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "record {} of producer {}", self.number, self.producer)
    }
}

impl Value {
    /// The value as a record carries it, with this much ballast that depends on it.
    pub fn encode(self, ballast: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12 + ballast);
        bytes.extend(self.producer.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.extend((0..ballast).map(|at| self.ballast(at)));
        bytes
    }

    fn ballast(self, at: usize) -> u8 {
        (self.number as usize).wrapping_mul(31).wrapping_add(at / 3).wrapping_add(self.producer as usize) as u8
    }

    pub fn decode(bytes: &[u8]) -> Option<Value> {
        let (producer, rest) = bytes.split_first_chunk()?;
        let (number, ballast) = rest.split_first_chunk()?;
        let value = Value { producer: u32::from_be_bytes(*producer), number: u64::from_be_bytes(*number) };
        ballast.iter().enumerate().all(|(at, byte)| *byte == value.ballast(at)).then_some(value)
    }
}

#[derive(Default)]
pub struct History {
    /// By partition and offset.
    promised: BTreeMap<(i32, i64), Value>,
    /// How many records each producer has sent, and where to.
    sent: BTreeMap<u32, (i32, u64)>,
    pub acknowledged: u64,
    pub observed: u64,
}

impl History {
    /// The next record of a producer, which always sends to the same partition.
    pub fn send(&mut self, producer: u32, partition: i32) -> Value {
        let (_, count) = self.sent.entry(producer).or_insert((partition, 0));
        *count += 1;
        Value { producer, number: *count - 1 }
    }

    pub fn acknowledge(&mut self, partition: i32, offset: i64, value: Value) -> Result<(), String> {
        self.acknowledged += 1;
        self.promise(partition, offset, value)
    }

    pub fn observe(&mut self, partition: i32, offset: i64, value: Value) -> Result<(), String> {
        self.observed += 1;
        match self.sent.get(&value.producer) {
            Some((to, count)) if *to == partition && value.number < *count => self.promise(partition, offset, value),
            _ => Err(format!("{value} at {partition}@{offset} was never sent there")),
        }
    }

    fn promise(&mut self, partition: i32, offset: i64, value: Value) -> Result<(), String> {
        match self.promised.insert((partition, offset), value) {
            Some(before) if before != value => Err(format!("{partition}@{offset} was {before}, and is {value} now")),
            _ => Ok(()),
        }
    }

    /// One more than the last offset promised.
    pub fn promised_end(&self, partition: i32) -> i64 {
        let last = self.promised.range((partition, 0)..(partition + 1, 0)).next_back();
        last.map_or(0, |((_, offset), _)| offset + 1)
    }

    /// The partition's whole log, read after everything sent was acknowledged, keeps every promise.
    pub fn verify(&self, partition: i32, log: &[(i64, Value)]) -> Result<(), String> {
        let found: BTreeMap<i64, Value> = log.iter().copied().collect();
        for ((_, offset), promised) in self.promised.range((partition, 0)..(partition + 1, 0)) {
            match found.get(offset) {
                Some(value) if value == promised => {}
                Some(value) => return Err(format!("{partition}@{offset} was {promised}, and is {value} now")),
                None => return Err(format!("{promised} was at {partition}@{offset}, and is lost")),
            }
        }
        if let Some((at, (offset, _))) = log.iter().enumerate().find(|(at, (offset, _))| *at as i64 != *offset) {
            return Err(format!("offset {offset} of partition {partition} comes as number {at}"));
        }
        for (producer, (_, sent)) in self.sent.iter().filter(|(_, (to, _))| *to == partition) {
            let mut expected = 0;
            for (offset, value) in log.iter().filter(|(_, value)| value.producer == *producer) {
                if value.number != expected {
                    return Err(format!("{value} is at {partition}@{offset} where {expected} was due"));
                }
                expected += 1;
            }
            if expected != *sent {
                return Err(format!("producer {producer} sent {sent} records to {partition}, {expected} are there"));
            }
        }
        Ok(())
    }
}

/// Reads the values out of what a fetch returned, each batch checked.
pub fn values(records: &Bytes) -> Result<Vec<(i64, Value)>, String> {
    let mut found = Vec::new();
    for batch in ottla_record::batches(records) {
        let (header, bytes) = match batch {
            Ok(batch) => batch,
            // A fetch may cut its last batch short.
            Err(ottla_record::BatchError::Truncated { .. }) => break,
            Err(error) => return Err(format!("not a batch: {error}")),
        };
        ottla_record::verify_crc(bytes).map_err(|error| format!("batch at {}: {error}", header.base_offset))?;
        let codec = header.attributes.codec().ok_or("a batch of an unknown codec")?;
        let body = records.slice_ref(&bytes[ottla_record::BATCH_OVERHEAD..]);
        let body = ottla_record::decompress(codec, &body, &ottla_record::DecompressionLimits::default())
            .map_err(|error| format!("batch at {}: {error}", header.base_offset))?;
        for record in ottla_record::Records::new(&header, &body) {
            let record = record.map_err(|error| format!("batch at {}: {error}", header.base_offset))?;
            let value = record.value.and_then(Value::decode);
            found.push((record.offset, value.ok_or(format!("offset {} holds foreign bytes", record.offset))?));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two producers' records in one partition, all acknowledged.
    fn history() -> (History, Vec<(i64, Value)>) {
        let mut history = History::default();
        let mut log = Vec::new();
        for (offset, producer) in [1, 2, 2, 1].into_iter().enumerate() {
            let value = history.send(producer, 0);
            history.acknowledge(0, offset as i64, value).unwrap();
            log.push((offset as i64, value));
        }
        (history, log)
    }

    #[test]
    fn each_anomaly_is_named() {
        let check = |change: fn(&mut Vec<(i64, Value)>), expected: &str| {
            let (history, mut log) = history();
            change(&mut log);
            let verdict = history.verify(0, &log).err().unwrap_or_default();
            assert!(verdict.contains(expected), "{verdict:?} does not say {expected:?}");
        };
        check(|_| {}, "");
        check(|log| log.truncate(3), "is lost");
        check(|log| log.swap(0, 1), "comes as number");
        check(|log| log[1].1.number = 7, "and is record 7");
        check(|log| log.push((4, Value { producer: 1, number: 1 })), "where 2 was due");
        check(|log| log.push((4, Value { producer: 1, number: 2 })), "sent 2 records");
        assert_eq!(history().0.verify(0, &history().1), Ok(()));
    }

    #[test]
    fn promises_do_not_change() {
        let (mut history, log) = history();
        assert_eq!(history.promised_end(0), 4);
        assert_eq!(history.promised_end(1), 0);
        assert!(history.observe(0, 2, log[2].1).is_ok());
        assert!(history.observe(0, 2, log[3].1).is_err());
        assert!(history.observe(0, 4, Value { producer: 1, number: 2 }).is_err(), "never sent");
        assert!(history.observe(1, 0, log[0].1).is_err(), "sent elsewhere");
    }

    #[test]
    fn values_carry_their_ballast() {
        let value = Value { producer: 3, number: 1 << 40 };
        let mut bytes = value.encode(100);
        assert_eq!(Value::decode(&bytes), Some(value));
        bytes[50] ^= 1;
        assert_eq!(Value::decode(&bytes), None);
        assert_eq!(Value::decode(&bytes[..11]), None);
    }
}
