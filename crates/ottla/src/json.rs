//! Records as JSON.

use ottla_record::Codec;
use serde_json::{Map, Value};

/// Adds bytes as `name` if they are UTF-8, null if there are none, and otherwise in base64 as `name_base64`.
pub fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), Value::from(text)),
        Some(Err(_)) => object.insert(format!("{name}_base64"), Value::from(base64(bytes.unwrap_or_default()))),
    };
}

/// Headers as a list of objects: keys may repeat.
pub fn headers<'a>(headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Value {
    headers
        .into_iter()
        .map(|(key, value)| {
            let mut header = Map::new();
            put_bytes(&mut header, "key", Some(key));
            put_bytes(&mut header, "value", value);
            Value::Object(header)
        })
        .collect()
}

/// The name of a codec, or its number where there is none.
pub fn codec_name(codec: Option<Codec>, id: u8) -> String {
    codec.map_or_else(|| format!("codec {id}"), |codec| codec.name().to_owned())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, position| bits << 8 | u32::from(*chunk.get(position).unwrap_or(&0)));
        for position in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * position)) as usize & 63];
            text.push(if position <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_every_bit() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"\xff\xfe\xfd", "//79"),
        ] {
            assert_eq!(base64(bytes), text);
        }
        for (bytes, expected) in [
            (None, r#"{"key":null}"#),
            (Some(&b"text \xc3\xa9"[..]), r#"{"key":"text é"}"#),
            (Some(b"\xff"), r#"{"key_base64":"/w=="}"#),
        ] {
            let mut object = Map::new();
            put_bytes(&mut object, "key", bytes);
            assert_eq!(Value::Object(object).to_string(), expected);
        }
    }
}
