//! What the agent understands.

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Say a file's text.
    Read { path: String },
    /// Count a file's words, lines and bytes.
    Count { path: String },
    /// Write a file, if that is allowed.
    Write { path: String, text: String },
    /// Add a line to a file, if that is allowed.
    Append { path: String, text: String },
    /// Say which files there are.
    List,
    /// Say what can be said.
    Help,
}

/// What is wrong with an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misunderstood {
    /// It begins with another word.
    Word(String),
    /// It names no file.
    NoFile(&'static str),
    /// It says more than is understood.
    TooMuch(&'static str),
}

/// What can be said.
pub(super) const HELP: &str = "read FILE: its text\n\
    count FILE: its words, lines and bytes\n\
    write FILE TEXT: write it, if you allow it\n\
    append FILE TEXT: add a line to it, if you allow it\n\
    list: the files\n\
    help: this\n";

impl Instruction {
    /// Reads an instruction. The text of a file is all that stands behind its name.
    pub(super) fn parse(message: &str) -> Result<Self, Misunderstood> {
        let (word, rest) = split(message.trim());
        match word {
            "read" => Ok(Self::Read { path: only_file("read", rest)? }),
            "count" => Ok(Self::Count { path: only_file("count", rest)? }),
            "write" => file_and_text("write", rest).map(|(path, text)| Self::Write { path, text }),
            "append" => file_and_text("append", rest).map(|(path, text)| Self::Append { path, text }),
            "list" if rest.is_empty() => Ok(Self::List),
            "list" => Err(Misunderstood::TooMuch("list")),
            "help" => Ok(Self::Help),
            word => Err(Misunderstood::Word(word.to_owned())),
        }
    }
}

fn split(text: &str) -> (&str, &str) {
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

fn only_file(word: &'static str, rest: &str) -> Result<String, Misunderstood> {
    match split(rest) {
        ("", _) => Err(Misunderstood::NoFile(word)),
        (path, "") => Ok(path.to_owned()),
        (_, _) => Err(Misunderstood::TooMuch(word)),
    }
}

fn file_and_text(word: &'static str, rest: &str) -> Result<(String, String), Misunderstood> {
    match split(rest) {
        ("", _) => Err(Misunderstood::NoFile(word)),
        (path, text) => Ok((path.to_owned(), text.to_owned())),
    }
}

impl std::fmt::Display for Misunderstood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // It is short: what was said stands above.
            Self::Word(word) => {
                let word: String = word.chars().take(32).collect();
                write!(f, "{word:?} means nothing here; say `help`")
            }
            Self::NoFile(word) => write!(f, "`{word}` needs the name of a file; say `help`"),
            Self::TooMuch(word) => write!(f, "`{word}` was followed by too much; say `help`"),
        }
    }
}

impl std::error::Error for Misunderstood {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_a_word_a_file_and_the_rest() {
        let path = || "a.txt".to_owned();
        for (said, means) in [
            ("read a.txt", Instruction::Read { path: path() }),
            ("  count\ta.txt ", Instruction::Count { path: path() }),
            ("write a.txt two  words", Instruction::Write { path: path(), text: "two  words".to_owned() }),
            ("write a.txt", Instruction::Write { path: path(), text: String::new() }),
            ("append a.txt x", Instruction::Append { path: path(), text: "x".to_owned() }),
            ("list", Instruction::List),
            ("help me", Instruction::Help),
        ] {
            assert_eq!(Instruction::parse(said), Ok(means), "{said}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (said, wrong) in [
            ("dance", Misunderstood::Word("dance".to_owned())),
            ("", Misunderstood::Word(String::new())),
            ("read", Misunderstood::NoFile("read")),
            ("read a b", Misunderstood::TooMuch("read")),
            ("append", Misunderstood::NoFile("append")),
            ("list all", Misunderstood::TooMuch("list")),
        ] {
            assert_eq!(Instruction::parse(said), Err(wrong), "{said}");
        }
    }
}
