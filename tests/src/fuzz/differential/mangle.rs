//! A frame written in another way: one that means the same, or one that perhaps does not.

use crate::fuzz::bytes::Bytes;

use super::json;
use super::json::Node;
use super::json::Pair;
use super::json::Value;

/// A value as it is to be written.
#[derive(Clone, Debug)]
enum Tree {
    /// Any text.
    Scalar(String),
    Array(Vec<Self>),
    /// Keys with their quotes.
    Object(Vec<(String, Self)>),
}

/// Writes a frame so that it means the same: its keys in another order, but for `d` where `keeps_last`, with white space and
/// escapes, unknown keys and keys of `null`.
pub(super) fn rewritten(bytes: &mut Bytes<'_>, line: &str, keeps_last: bool) -> Option<String> {
    let mut pairs = pairs_of(line)?;
    let payload = if keeps_last { pairs.pop_if(|(key, _)| key == "\"d\"") } else { None };
    for _ in 0..bytes.below(8) {
        let (kind, one, other) = (bytes.byte(), bytes.below(pairs.len()), bytes.below(pairs.len()));
        match kind % 8 {
            0..=2 => pairs.swap(one, other),
            3 => escape(bytes, &mut pairs[one].0),
            4 => {
                if let (key, Tree::Scalar(text)) = &mut pairs[one] {
                    // A payload may be no JSON, and is compared as a text.
                    if !is_named(key, "d") && text.starts_with('"') {
                        escape(bytes, text);
                    }
                }
            }
            5 if pairs.len() < 60 => {
                let value = any_value(bytes).filter(|value| json::parse(value).is_some_and(|node| node.depth() <= 64));
                pairs.insert(one, ("\"kind\"".to_owned(), Tree::Scalar(value.unwrap_or_else(|| "0".to_owned()))));
            }
            6 if pairs.len() < 60 => {
                let absent = bytes.pick(&["seen", "token", "final", "lane", "reason"]);
                if !pairs.iter().any(|(key, _)| is_named(key, absent)) {
                    pairs.push((format!("\"{absent}\""), Tree::Scalar("null".to_owned())));
                }
            }
            _ => pairs.rotate_left(one),
        }
    }
    pairs.extend(payload);
    Some(written(bytes, &Tree::Object(pairs)))
}

/// Writes a frame so that it may mean anything.
pub(super) fn mangled(bytes: &mut Bytes<'_>, line: &str) -> String {
    let mut text = line.to_owned();
    if let Some(mut pairs) = pairs_of(line) {
        for _ in 0..bytes.below(4) {
            change(bytes, &mut pairs);
        }
        text = written(bytes, &Tree::Object(pairs));
    }
    if bytes.rarely(6) {
        let at = usize::from(bytes.byte()) * 16 + usize::from(bytes.byte());
        let (at, piece) = (at % (text.len() + 1), bytes.pick(&PIECES));
        match (bytes.below(3), text.is_char_boundary(at)) {
            (0, true) => text.truncate(at),
            (1, true) => text.insert_str(at, piece),
            (_, true) => text.replace_range(..at, piece),
            (_, false) => {}
        }
    }
    text.replace('\n', " ")
}

fn pairs_of(line: &str) -> Option<Vec<(String, Tree)>> {
    let Value::Object(pairs) = json::parse(line)?.value else { return None };
    Some(pairs.iter().map(pair_of).collect())
}

fn pair_of(pair: &Pair<'_>) -> (String, Tree) {
    // A payload stays as it is: it is the application's.
    let value = if pair.written == "\"d\"" { Tree::Scalar(pair.value.text.to_owned()) } else { tree_of(&pair.value) };
    (pair.written.to_owned(), value)
}

fn tree_of(node: &Node<'_>) -> Tree {
    match &node.value {
        Value::Array(nodes) => Tree::Array(nodes.iter().map(tree_of).collect()),
        Value::Object(pairs) => Tree::Object(pairs.iter().map(pair_of).collect()),
        Value::Null | Value::Bool(_) | Value::Number | Value::String(_) => Tree::Scalar(node.text.to_owned()),
    }
}

/// Whether a key, however it is written, is this one.
fn is_named(written: &str, key: &str) -> bool {
    json::parse(written).is_some_and(|node| matches!(node.value, Value::String(Some(name)) if name == key))
}

/// One change of an object, or of something within it.
fn change(bytes: &mut Bytes<'_>, pairs: &mut Vec<(String, Tree)>) {
    if pairs.is_empty() {
        return pairs.push((bytes.pick(&KEYS).to_owned(), Tree::Scalar("1".to_owned())));
    }
    let (kind, one, other) = (bytes.byte(), bytes.below(pairs.len()), bytes.below(pairs.len()));
    match kind % 16 {
        0..=1 => pairs.swap(one, other),
        2 => {
            let pair = pairs[one].clone();
            pairs.insert(other, pair);
        }
        3 => {
            let key = pairs[one].0.clone();
            pairs.insert(other, (key, Tree::Scalar(bytes.pick(&VALUES).to_owned())));
        }
        4 => escape(bytes, &mut pairs[one].0),
        5..=6 => pairs[one].1 = Tree::Scalar(any_value(bytes).unwrap_or_default()),
        7 => pairs.insert(one, (bytes.pick(&KEYS).to_owned(), Tree::Scalar(any_value(bytes).unwrap_or_default()))),
        8 => pairs[one].0 = bytes.pick(&KEYS).to_owned(),
        9 => _ = pairs.remove(one),
        10 => {
            let count = bytes.pick(&[60, 64, 65, 63]);
            while pairs.len() < count {
                pairs.insert(other, ("\"x\"".to_owned(), Tree::Scalar("0".to_owned())));
            }
        }
        11 => pairs[one] = ("\"t\"".to_owned(), Tree::Scalar(format!("\"{}\"", bytes.pick(&TYPES)))),
        _ => match &mut pairs[one].1 {
            Tree::Scalar(text) => change_scalar(bytes, text),
            Tree::Array(values) => match (bytes.below(4), values.get_mut(other % 8)) {
                (0..=1, Some(Tree::Object(within))) => change(bytes, within),
                (2, Some(value)) => *value = Tree::Scalar(any_value(bytes).unwrap_or_default()),
                (3, Some(value)) => {
                    let again = value.clone();
                    values.push(again);
                }
                (_, _) => values.push(Tree::Scalar(any_value(bytes).unwrap_or_default())),
            },
            Tree::Object(within) => change(bytes, within),
        },
    }
}

fn change_scalar(bytes: &mut Bytes<'_>, text: &mut String) {
    if text.starts_with('"') {
        match bytes.below(4) {
            0..=1 => escape(bytes, text),
            2 => text
                .insert_str(1, bytes.pick(&["\\ud800", "\\ude00", "\\ud83d\\ude00", "\\u0000", "\\x", "\u{1}", "x"])),
            _ => *text = text.to_ascii_uppercase(),
        }
        return;
    }
    match bytes.below(6) {
        0 => text.push_str(".0"),
        1 => text.push_str("e0"),
        2 => text.insert(0, '-'),
        3 => text.insert(0, '0'),
        4 => *text = bytes.pick(&NUMBERS).to_owned(),
        _ => *text = format!("\"{text}\""),
    }
}

/// Writes one letter of a string, or of a key, as an escape.
fn escape(bytes: &mut Bytes<'_>, text: &mut String) {
    let at = 1 + bytes.below(text.len());
    let Some(letter) = text.get(at..at + 1).filter(|letter| letter.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    else {
        return;
    };
    // A letter of an escape stays what it is.
    if text[..at].bytes().rev().take(6).any(|byte| byte == b'\\') || at + 1 >= text.len() {
        return;
    }
    let code = u32::from(letter.chars().next().unwrap_or_default());
    let escaped = if bytes.pick(&[false, true]) { format!("\\u{code:04X}") } else { format!("\\u{code:04x}") };
    text.replace_range(at..=at, &escaped);
}

/// A value of any kind, as a text.
fn any_value(bytes: &mut Bytes<'_>) -> Option<String> {
    let nested = |open: &str, close: &str, levels| open.repeat(levels) + "0" + &close.repeat(levels);
    Some(match bytes.byte() {
        0..=0x7f => bytes.pick(&VALUES).to_owned(),
        0x80..=0x9f => bytes.pick(&NUMBERS).to_owned(),
        0xa0..=0xaf => nested("[", "]", bytes.pick(&[64, 65, 63, 66])),
        0xb0..=0xbf => nested("{\"x\":", "}", bytes.pick(&[64, 65, 63, 66])),
        0xc0..=0xcf => format!("\"{}\"", "x".repeat(bytes.pick(&[128, 129, 64, 65, 256, 257, 8_192, 8_193]))),
        0xd0..=u8::MAX => bytes.text().replace('\n', " "),
    })
}

/// Writes a value, compact or with white space between its tokens.
fn written(bytes: &mut Bytes<'_>, tree: &Tree) -> String {
    let style = if bytes.pick(&[false, true]) { bytes.byte() } else { 0 };
    let mut text = white(style, 0).to_owned();
    write(tree, style, &mut text);
    text + white(style, 2)
}

fn write(tree: &Tree, style: u8, text: &mut String) {
    match tree {
        Tree::Scalar(scalar) => text.push_str(scalar),
        Tree::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                text.push_str(white(style, 4));
                write(value, style, text);
            }
            text.push(']');
        }
        Tree::Object(pairs) => {
            text.push('{');
            for (index, (key, value)) in pairs.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                text.push_str(white(style, 4));
                text.push_str(key);
                text.push_str(white(style, 5));
                text.push(':');
                text.push_str(white(style, 6));
                write(value, style, text);
                text.push_str(white(style, 7));
            }
            text.push('}');
        }
    }
}

fn white(style: u8, place: u8) -> &'static str {
    if style.rotate_right(u32::from(place)) & 1 == 0 { "" } else { [" ", "\t", "\r", "  "][usize::from(place) % 4] }
}

const TYPES: [&str; 11] =
    ["msg", "ack", "void", "ping", "pong", "bye", "hello", "challenge", "welcome", "later", "m\\u0073g"];

const KEYS: [&str; 40] = [
    "\"x\"",
    "\"t\"",
    "\"seq\"",
    "\"key\"",
    "\"d\"",
    "\"id\"",
    "\"lane\"",
    "\"idem\"",
    "\"hands\"",
    "\"n\"",
    "\"seen\"",
    "\"received\"",
    "\"settled\"",
    "\"no\"",
    "\"except\"",
    "\"code\"",
    "\"end\"",
    "\"handed\"",
    "\"final\"",
    "\"reason\"",
    "\"retryAfter\"",
    "\"suspend\"",
    "\"cid\"",
    "\"instance\"",
    "\"attempt\"",
    "\"epoch\"",
    "\"sent\"",
    "\"base\"",
    "\"window\"",
    "\"windowBytes\"",
    "\"maxPayload\"",
    "\"token\"",
    "\"fence\"",
    "\"resumed\"",
    "\"detachTtl\"",
    "\"receipt\"",
    "\"is\"",
    "\"times\"",
    "\"\\u0073eq\"",
    "\"\\ud800\"",
];

const VALUES: [&str; 16] = [
    "null",
    "true",
    "false",
    "\"\"",
    "\"a\"",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "0",
    "1",
    "2",
    "[]",
    "{}",
    "[1,2]",
    "[null]",
    "[{}]",
    "{\"a\":1,\"a\":1}",
];

const NUMBERS: [&str; 16] = [
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "-0",
    "1.0",
    "1e0",
    "01",
    "1e999",
    "4294967295",
    "4294967296",
    "16384",
    "16385",
    "1000",
];

const PIECES: [&str; 12] = ["", "}", "{", "\"", "\\", ",", ":", "[", "]", "\r", "\u{0}", "\u{feff}"];
