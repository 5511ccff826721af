//! Zigzag variable-length integers, read as leniently as Kafka reads them: padding bytes and surplus high bits in the
//! last possible byte are accepted, a continuation bit there is not.

/// Why bytes are not a variable-length integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarintError {
    /// The bytes end within the number.
    Short,
    /// The number goes on after its last possible byte.
    TooLong,
}

/// Takes a number of at most 5 bytes off the front.
#[inline]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<i32, VarintError> {
    match *bytes {
        [first @ ..0x80, rest @ ..] => {
            *bytes = rest;
            Ok(unzigzag32(u32::from(*first)))
        }
        [first, second @ ..0x80, rest @ ..] => {
            *bytes = rest;
            Ok(unzigzag32(u32::from(*first & 0x7f) | u32::from(*second) << 7))
        }
        _ => take_long_varint(bytes),
    }
}

fn take_long_varint(bytes: &mut &[u8]) -> Result<i32, VarintError> {
    let mut value = 0u32;
    for (position, &byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f) << (7 * position);
        if byte < 0x80 {
            *bytes = bytes.get(position + 1..).unwrap_or_default();
            return Ok(unzigzag32(value));
        }
    }
    Err(if bytes.len() < 5 { VarintError::Short } else { VarintError::TooLong })
}

/// Takes a number of at most 10 bytes off the front.
#[inline]
pub(crate) fn take_varlong(bytes: &mut &[u8]) -> Result<i64, VarintError> {
    match *bytes {
        [first @ ..0x80, rest @ ..] => {
            *bytes = rest;
            Ok(unzigzag64(u64::from(*first)))
        }
        [first, second @ ..0x80, rest @ ..] => {
            *bytes = rest;
            Ok(unzigzag64(u64::from(*first & 0x7f) | u64::from(*second) << 7))
        }
        _ => take_long_varlong(bytes),
    }
}

fn take_long_varlong(bytes: &mut &[u8]) -> Result<i64, VarintError> {
    let mut value = 0u64;
    for (position, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte < 0x80 {
            *bytes = bytes.get(position + 1..).unwrap_or_default();
            return Ok(unzigzag64(value));
        }
    }
    Err(if bytes.len() < 10 { VarintError::Short } else { VarintError::TooLong })
}

fn unzigzag32(value: u32) -> i32 {
    ((value >> 1) ^ (value & 1).wrapping_neg()).cast_signed()
}

fn unzigzag64(value: u64) -> i64 {
    ((value >> 1) ^ (value & 1).wrapping_neg()).cast_signed()
}

/// Appends a number, in as few bytes as it takes.
pub(crate) fn put_varint(value: i32, output: &mut Vec<u8>) {
    put_unsigned(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()), output);
}

/// Appends a number, in as few bytes as it takes.
pub(crate) fn put_varlong(value: i64, output: &mut Vec<u8>) {
    put_unsigned(((value << 1) ^ (value >> 63)).cast_unsigned(), output);
}

fn put_unsigned(mut value: u64, output: &mut Vec<u8>) {
    while value >= 0x80 {
        output.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    output.push(value.to_le_bytes()[0]);
}

/// How many bytes [`put_varint`] takes.
pub(crate) fn varint_size(value: i32) -> usize {
    unsigned_size(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()))
}

/// How many bytes [`put_varlong`] takes.
pub(crate) fn varlong_size(value: i64) -> usize {
    unsigned_size(((value << 1) ^ (value >> 63)).cast_unsigned())
}

fn unsigned_size(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_in_the_size_announced() {
        let longs =
            (0..64).flat_map(|bit| [1_i64 << bit, (1_i64 << bit).wrapping_sub(1), (1_i64 << bit).wrapping_neg()]);
        for value in longs.chain([0, -1, i64::MAX, i64::MIN]) {
            let mut bytes = Vec::new();
            put_varlong(value, &mut bytes);
            assert_eq!(bytes.len(), varlong_size(value), "{value}");
            let mut rest = bytes.as_slice();
            assert_eq!((take_varlong(&mut rest), rest), (Ok(value), [].as_slice()));
            let Ok(value) = i32::try_from(value) else { continue };
            bytes.clear();
            put_varint(value, &mut bytes);
            assert_eq!(bytes.len(), varint_size(value), "{value}");
            let mut rest = bytes.as_slice();
            assert_eq!((take_varint(&mut rest), rest), (Ok(value), [].as_slice()));
        }
    }

    #[test]
    fn lenient_as_kafka_and_no_more() {
        let check = |bytes: &[u8], expected: Result<i32, VarintError>| {
            assert_eq!(take_varint(&mut &*bytes), expected, "{bytes:?}");
        };
        check(&[], Err(VarintError::Short));
        check(&[0x80], Err(VarintError::Short));
        check(&[0x80, 0x80, 0x80, 0x80], Err(VarintError::Short));
        check(&[0x80, 0x00], Ok(0));
        check(&[0x82, 0x80, 0x80, 0x80, 0x00], Ok(1));
        // Bits beyond the 32nd are dropped.
        check(&[0x82, 0x80, 0x80, 0x80, 0x70], Ok(1));
        check(&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(i32::MIN));
        check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Err(VarintError::TooLong));
        assert_eq!(take_varlong(&mut [0xff; 9].as_slice()), Err(VarintError::Short));
        assert_eq!(take_varlong(&mut [0xff; 10].as_slice()), Err(VarintError::TooLong));
    }
}
