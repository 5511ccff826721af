//! Writes random messages straight from their schema: a second, generic writer beside the generated ones, for tests of
//! those and for seeds of fuzzing.
//!
//! What it writes is in canonical form: tagged fields ascend and none holds its default, so that a message that is read
//! and written again has the same bytes.

use super::schema::{Field, Message, Type};
use super::versions::Versions;

/// How much of a message is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Null where that is allowed, empty elsewhere, no tagged field.
    Least,
    /// Nothing null, no array empty, every tagged field.
    Most,
    Mixed,
}

/// A small generator of its own (SplitMix64), so that a seed gives the same messages everywhere and for ever.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }
}

/// A random message of this version, encoded.
pub fn message(message: &Message, version: i16, filling: Filling, random: &mut Random) -> Vec<u8> {
    let mut writer = Writer { message, version, filling, random, output: Vec::new() };
    writer.fields(&message.fields);
    writer.output
}

struct Writer<'a> {
    message: &'a Message,
    version: i16,
    filling: Filling,
    random: &'a mut Random,
    output: Vec<u8>,
}

impl Writer<'_> {
    fn fields(&mut self, fields: &[Field]) {
        let (version, message) = (self.version, self.message);
        for field in fields {
            if field.versions.contains(version) && !field.tagged.contains(version) {
                self.field(field);
            }
        }
        if !message.is_flexible(version) {
            return;
        }
        let mut tagged: Vec<(u32, Vec<u8>)> = Vec::new();
        for field in fields.iter().filter(|field| field.tagged.contains(version)) {
            let wanted = match self.filling {
                Filling::Least => false,
                Filling::Most => true,
                Filling::Mixed => self.random.below(2) == 0,
            };
            if let (true, Some(tag)) = (wanted, field.tag) {
                let outer = std::mem::take(&mut self.output);
                let default = self.default(field);
                self.field(field);
                let value = std::mem::replace(&mut self.output, outer);
                if value != default {
                    tagged.push((tag, value));
                }
            }
        }
        tagged.sort();
        self.varint(tagged.len());
        for (tag, value) in tagged {
            self.varint(tag as usize);
            self.varint(value.len());
            self.output.extend(value);
        }
    }

    fn field(&mut self, field: &Field) {
        let flexible = self.message.is_flexible(self.version) && field.flexible != Some(Versions::NONE);
        let nullable = field.nullable.contains(self.version);
        let null = nullable
            && match self.filling {
                Filling::Least => true,
                Filling::Most => false,
                Filling::Mixed => self.random.below(4) == 0,
            };
        self.value(field, &field.field_type, flexible, nullable, null);
    }

    /// The bytes of the field's default, in a version in which it is tagged.
    fn default(&mut self, field: &Field) -> Vec<u8> {
        let outer = std::mem::take(&mut self.output);
        let nullable = field.nullable.contains(self.version);
        let number = match field.default.as_str() {
            text if text.starts_with("0x") => i64::from_str_radix(&text[2..], 16).unwrap_or(0),
            "true" => 1,
            text => text.parse().unwrap_or(0),
        };
        match &field.field_type {
            Type::Struct(name) if field.default != "null" => {
                if nullable {
                    self.output.push(1);
                }
                let message = self.message;
                for field in message.struct_fields(field, name) {
                    if field.versions.contains(self.version) && !field.tagged.contains(self.version) {
                        let value = self.default(field);
                        self.output.extend(value);
                    }
                }
                self.varint(0);
            }
            Type::Struct(_) => self.output.push(0),
            Type::Uuid => self.output.extend([0; 16]),
            Type::Float64 => self.output.extend(field.default.parse().unwrap_or(0.0f64).to_be_bytes()),
            Type::String | Type::Bytes | Type::Records | Type::FetchedRecords | Type::Array(_) => {
                let null = field.default == "null"
                    || (matches!(field.field_type, Type::Records | Type::FetchedRecords) && nullable);
                self.varint(usize::from(!null));
            }
            fixed => {
                let bytes = number.to_be_bytes();
                self.output.extend(&bytes[8 - size(fixed)..]);
            }
        }
        std::mem::replace(&mut self.output, outer)
    }

    fn value(&mut self, field: &Field, kind: &Type, flexible: bool, nullable: bool, null: bool) {
        match kind {
            Type::Struct(name) => {
                if nullable {
                    // The marker of null is another one in a tagged field.
                    let null_marker = if field.tagged.contains(self.version) { 0 } else { 0xff };
                    self.output.push(if null { null_marker } else { 1 });
                }
                if !null {
                    let message = self.message;
                    self.fields(message.struct_fields(field, name));
                }
            }
            Type::Array(element) => {
                let length = match self.filling {
                    Filling::Least => 0,
                    Filling::Most => 2,
                    Filling::Mixed => self.random.below(4),
                };
                self.length(4, flexible, (!null).then_some(length));
                for _ in 0..if null { 0 } else { length } {
                    self.value(field, element, flexible, false, false);
                }
            }
            Type::String => {
                let text = self.text();
                self.length(2, flexible, (!null).then_some(text.len()));
                if !null {
                    self.output.extend(text.as_bytes());
                }
            }
            Type::Bytes | Type::Records | Type::FetchedRecords => {
                let length = match (self.filling, self.random.below(16)) {
                    (Filling::Least, _) => 0,
                    // More than an encoder copies.
                    (_, 0) => 5000,
                    (_, length) => length * 11,
                };
                self.length(4, flexible, (!null).then_some(length));
                for _ in 0..if null { 0 } else { length } {
                    let byte = self.random.number().to_le_bytes()[0];
                    self.output.push(byte);
                }
            }
            Type::Bool => {
                let value = u8::from(self.filling == Filling::Most || self.random.below(2) == 0);
                self.output.push(value);
            }
            Type::Float64 => {
                let value = self.random.below(1_000_000) as f64 / 7.0 - 1000.0;
                self.output.extend(value.to_be_bytes());
            }
            Type::Uuid => {
                let (high, low) = (self.random.number(), self.random.number());
                self.output.extend(high.to_be_bytes());
                self.output.extend(low.to_be_bytes());
            }
            fixed => {
                let number = match self.random.below(4) {
                    0 => u64::MAX,
                    1 => self.random.below(100) as u64,
                    _ => self.random.number(),
                };
                let bytes = number.to_be_bytes();
                self.output.extend(&bytes[8 - size(fixed)..]);
            }
        }
    }

    fn text(&mut self) -> String {
        let length = match (self.filling, self.random.below(8)) {
            (Filling::Least, _) | (Filling::Mixed, 0) => 0,
            // A compact length of two bytes.
            (_, 1) => 200,
            (_, length) => length * 3,
        };
        let letters = ['a', 'Z', '0', '-', '.', ' ', 'é', '漢', '😀'];
        (0..length).map(|_| letters[self.random.below(letters.len())]).collect()
    }

    /// A length as its version writes it; `None` is null.
    fn length(&mut self, old_width: usize, flexible: bool, length: Option<usize>) {
        if flexible {
            return self.varint(length.map_or(0, |length| length + 1));
        }
        let bytes = length.map_or(-1i64, |length| length as i64).to_be_bytes();
        self.output.extend(&bytes[8 - old_width..]);
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.output.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.output.push(value as u8);
    }
}

fn size(kind: &Type) -> usize {
    match kind {
        Type::Bool | Type::Int8 => 1,
        Type::Int16 | Type::Uint16 => 2,
        Type::Int32 | Type::Uint32 => 4,
        _ => 8,
    }
}
