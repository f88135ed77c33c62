//! A reader of JSON by the grammar of RFC 8259 and nothing else, so that what the core takes for JSON is judged by somebody
//! who shares no code with it. It keeps what others drop: keys that stand twice, how a number is written, and where a value
//! stands in the text.

/// A value, and the text of it.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// Without the white space around it.
    pub(super) text: &'a str,
    pub(super) value: Value<'a>,
}

/// A value.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// Its digits are in the text.
    Number,
    /// `None` where a `\u` escape names half of a character.
    String(Option<String>),
    Array(Vec<Node<'a>>),
    Object(Vec<Pair<'a>>),
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    /// The key as it is written, with its quotes.
    pub(super) written: &'a str,
    /// The key that this means; `None` where an escape names half of a character.
    pub(super) key: Option<String>,
    pub(super) value: Node<'a>,
}

impl Node<'_> {
    /// How deep arrays and objects nest in it.
    pub(super) fn depth(&self) -> usize {
        let within = match &self.value {
            Value::Array(nodes) => nodes.iter().map(Node::depth).max(),
            Value::Object(pairs) => pairs.iter().map(|pair| pair.value.depth()).max(),
            Value::Null | Value::Bool(_) | Value::Number | Value::String(_) => return 0,
        };
        1 + within.unwrap_or(0)
    }
}

/// Reads a text that is one JSON value, with white space around it.
pub(super) fn parse(text: &str) -> Option<Node<'_>> {
    let mut reader = Reader { text, at: 0 };
    let node = reader.node()?;
    reader.skip_white();
    (reader.at == text.len()).then_some(node)
}

/// Reads the pairs of an object up to its key `"d":`, and gives back what stands behind that, to the end of the text.
pub(super) fn parse_up_to_payload(text: &str) -> Option<(Vec<Pair<'_>>, &str)> {
    let mut reader = Reader { text, at: 0 };
    reader.take("{")?;
    let mut pairs = Vec::new();
    loop {
        let rest = &reader.text[reader.at..];
        if let Some(payload) = rest.strip_prefix("\"d\":") {
            return Some((pairs, payload));
        }
        pairs.push(reader.pair()?);
        reader.take(",")?;
    }
}

/// Without the white space around it.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(WHITE)
}

const WHITE: [char; 4] = [' ', '\t', '\n', '\r'];

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn skip_white(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches(WHITE).len();
    }

    fn take(&mut self, token: &str) -> Option<()> {
        self.text[self.at..].starts_with(token).then(|| self.at += token.len())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn node(&mut self) -> Option<Node<'a>> {
        self.skip_white();
        let start = self.at;
        let value = match self.peek()? {
            b'n' => self.take("null").map(|()| Value::Null),
            b't' => self.take("true").map(|()| Value::Bool(true)),
            b'f' => self.take("false").map(|()| Value::Bool(false)),
            b'"' => self.string().map(Value::String),
            b'[' => self.array(),
            b'{' => self.object(),
            0..=u8::MAX => self.number(),
        }?;
        Some(Node { text: &self.text[start..self.at], value })
    }

    fn array(&mut self) -> Option<Value<'a>> {
        self.take("[")?;
        let mut nodes = Vec::new();
        self.skip_white();
        if self.take("]").is_some() {
            return Some(Value::Array(nodes));
        }
        loop {
            nodes.push(self.node()?);
            self.skip_white();
            if self.take("]").is_some() {
                return Some(Value::Array(nodes));
            }
            self.take(",")?;
        }
    }

    fn object(&mut self) -> Option<Value<'a>> {
        self.take("{")?;
        let mut pairs = Vec::new();
        self.skip_white();
        if self.take("}").is_some() {
            return Some(Value::Object(pairs));
        }
        loop {
            pairs.push(self.pair()?);
            self.skip_white();
            if self.take("}").is_some() {
                return Some(Value::Object(pairs));
            }
            self.take(",")?;
        }
    }

    fn pair(&mut self) -> Option<Pair<'a>> {
        self.skip_white();
        let start = self.at;
        let key = self.string()?;
        let written = &self.text[start..self.at];
        self.skip_white();
        self.take(":")?;
        let value = self.node()?;
        Some(Pair { written, key, value })
    }

    /// A string; the inner `None` is one that names half of a character.
    fn string(&mut self) -> Option<Option<String>> {
        self.take("\"")?;
        let (mut text, mut is_whole) = (String::new(), true);
        loop {
            let next = self.text[self.at..].chars().next()?;
            self.at += next.len_utf8();
            match next {
                '"' => return Some(is_whole.then_some(text)),
                '\\' => match self.escaped()? {
                    Some(escaped) => text.push(escaped),
                    None => is_whole = false,
                },
                '\0'..='\u{1f}' => return None,
                _ => text.push(next),
            }
        }
    }

    /// What stands behind a backslash; the inner `None` is half of a character.
    fn escaped(&mut self) -> Option<Option<char>> {
        let kind = self.peek()?;
        self.at += 1;
        Some(Some(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return Some(char::from_u32(first));
                }
                let before = self.at;
                let second = self.take("\\u").and_then(|()| self.hex());
                let Some(second) = second.filter(|second| (0xdc00..0xe000).contains(second)) else {
                    // What follows is looked at by itself.
                    self.at = before;
                    return Some(None);
                };
                return Some(char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)));
            }
            0..=u8::MAX => return None,
        }))
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) { u32::from_str_radix(digits, 16).ok() } else { None }
    }

    fn number(&mut self) -> Option<Value<'a>> {
        _ = self.take("-");
        if self.take("0").is_none() {
            self.digits()?;
        }
        if self.take(".").is_some() {
            self.digits()?;
        }
        if self.take("e").or_else(|| self.take("E")).is_some() {
            _ = self.take("+").or_else(|| self.take("-"));
            self.digits()?;
        }
        Some(Value::Number)
    }

    fn digits(&mut self) -> Option<()> {
        let digits = self.text[self.at..].bytes().take_while(u8::is_ascii_digit).count();
        self.at += digits;
        (digits > 0).then_some(())
    }
}
