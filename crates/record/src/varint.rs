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
    if let [first, rest @ ..] = *bytes
        && *first < 0x80
    {
        *bytes = rest;
        return Ok(unzigzag32(u32::from(*first)));
    }
    take_long_varint(bytes)
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
    if let [first, rest @ ..] = *bytes
        && *first < 0x80
    {
        *bytes = rest;
        return Ok(unzigzag64(u64::from(*first)));
    }
    take_long_varlong(bytes)
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
