//! The properties format. Every expectation was produced by java.util.Properties.

use ottla_config::properties::{decode, parse};

fn check(text: &str, expected: &[(&str, &str)]) {
    let properties = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let pairs: Vec<_> = properties.iter().map(|property| (property.key.as_str(), property.value.as_str())).collect();
    assert_eq!(pairs, expected, "{text:?}");
}

#[test]
fn keys_end_at_the_first_unescaped_separator() {
    check("a=b\nc:d\ne f\ng\n", &[("a", "b"), ("c", "d"), ("e", "f"), ("g", "")]);
    check("a = b = c", &[("a", "b = c")]);
    check("a : = b", &[("a", "= b")]);
    check("a\t\u{c}b", &[("a", "b")]);
    check("=value\n:other", &[("", "value"), ("", "other")]);
    check("a\\=b\\:c\\ d=e", &[("a=b:c d", "e")]);
    check("a=b  ", &[("a", "b  ")]);
}

#[test]
fn blank_lines_and_comments_are_skipped() {
    check("", &[]);
    check("# a=b\n  ! c=d\n\t\n\r\n a=b # c", &[("a", "b # c")]);
    check("a=b\rc=d\r\ne=f", &[("a", "b"), ("c", "d"), ("e", "f")]);
    // A comment ends with its line, whatever its last character.
    check("# a\\\nb=c", &[("b", "c")]);
}

#[test]
fn a_backslash_joins_lines() {
    check("a=b\\\n   c\\\r\n\td\ne=f", &[("a", "bcd"), ("e", "f")]);
    check("a=b\\\\\nc=d", &[("a", "b\\"), ("c", "d")]);
    check("a=b\\\n# c", &[("a", "b# c")]);
    check("a=b\\\n\nc=d", &[("a", "b"), ("c", "d")]);
    check("a\\\n=b", &[("a", "b")]);
    check("a=b\\", &[("a", "b")]);
}

#[test]
fn escapes() {
    check("a=\\t\\n\\r\\f\\q\\\\", &[("a", "\t\n\r\u{c}q\\")]);
    check("a=\\u0041\\u00e9\\uD83D\\uDE00", &[("a", "Aé😀")]);
    check("a=\\ b", &[("a", " b")]);
    let error = parse("a=b\nc=\\u12g4").unwrap_err();
    assert_eq!(error.to_string(), "line 2: a \\u escape needs four hexadecimal digits");
    assert!(parse("a=\\u12").is_err());
}

#[test]
fn lines_are_numbered_by_their_first() {
    let lines: Vec<_> = parse("\n# x\na=\\\n b\nc=d").unwrap().iter().map(|property| property.line).collect();
    assert_eq!(lines, [3, 5]);
}

#[test]
fn bytes_are_utf_8_else_latin_1() {
    assert_eq!(decode("\u{feff}é".as_bytes()), "é");
    assert_eq!(decode(&[b'a', 0xe9]), "aé");
}
