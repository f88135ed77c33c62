//! What a person types: something to say, or a command.

use reattach_tokio::core::wire::Payload;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing.
    Nothing,
    /// Something to say.
    Say(String),
    /// Allow what is asked; without a name, the only question that is open.
    Allow(Option<String>),
    /// Deny it.
    Deny(Option<String>),
    /// Allow it with another input.
    Edit(Option<String>, Payload),
    /// Show the questions that are open.
    Dialogs,
    /// Send something again that was not taken, or may not have been.
    Retry(String),
    /// Leave, to come back.
    Detach,
    /// Leave.
    Quit,
    /// Show what can be typed.
    Help,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mistyped {
    /// There is no such command.
    Command(String),
    /// More than one word follows a command that takes one at most.
    TooMuch(&'static str),
    /// A command needs something to follow it.
    TooLittle(&'static str),
    /// The new input is no JSON.
    Json(String),
}

/// What can be typed.
pub(super) const HELP: &str = "/allow [ID], /deny [ID], /edit [ID] JSON: answer a question; without its ID, the only one that is open\n\
    /dialogs: the questions that are open\n\
    /retry ID: send a message again that was not delivered, or of which nobody can tell\n\
    /detach: leave, and come back with the same --state\n\
    /quit: leave\n\
    Anything else is said to the agent (behind // where it begins with a slash); say `help` to hear what it does.";

impl Input {
    /// Reads a line.
    pub(super) fn parse(line: &str) -> Result<Self, Mistyped> {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return Ok(if line.is_empty() { Self::Nothing } else { Self::Say(line.to_owned()) });
        };
        if command.starts_with('/') {
            return Ok(Self::Say(command.to_owned()));
        }
        let (command, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        match command {
            "allow" => Ok(Self::Allow(at_most_one("/allow", rest)?)),
            "deny" => Ok(Self::Deny(at_most_one("/deny", rest)?)),
            "edit" => edit(rest),
            "dialogs" => nothing_more("/dialogs", rest, Self::Dialogs),
            "retry" => Ok(Self::Retry(at_most_one("/retry", rest)?.ok_or(Mistyped::TooLittle("/retry"))?)),
            "detach" => nothing_more("/detach", rest, Self::Detach),
            "quit" => nothing_more("/quit", rest, Self::Quit),
            "help" => Ok(Self::Help),
            other => Err(Mistyped::Command(other.to_owned())),
        }
    }
}

fn at_most_one(command: &'static str, rest: &str) -> Result<Option<String>, Mistyped> {
    if rest.contains(char::is_whitespace) {
        return Err(Mistyped::TooMuch(command));
    }
    Ok((!rest.is_empty()).then(|| rest.to_owned()))
}

fn nothing_more(command: &'static str, rest: &str, input: Input) -> Result<Input, Mistyped> {
    if rest.is_empty() { Ok(input) } else { Err(Mistyped::TooMuch(command)) }
}

fn edit(rest: &str) -> Result<Input, Mistyped> {
    // No name begins as an object or an array does.
    let (id, json) = if rest.starts_with(['{', '[']) {
        (None, rest)
    } else {
        let (id, json) = rest.split_once(char::is_whitespace).ok_or(Mistyped::TooLittle("/edit"))?;
        (Some(id.to_owned()), json.trim())
    };
    let input = Payload::from_json(json).map_err(|error| Mistyped::Json(error.to_string()))?;
    Ok(Input::Edit(id, input))
}

impl std::fmt::Display for Mistyped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(command) => write!(f, "there is no command /{command}; /help lists them"),
            Self::TooMuch(command) => write!(f, "{command} was followed by too much; /help says how it is used"),
            Self::TooLittle(command) => write!(f, "{command} needs more; /help says how it is used"),
            Self::Json(problem) => write!(f, "the new input is no JSON: {problem}"),
        }
    }
}

impl std::error::Error for Mistyped {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_unless_they_are_commands() {
        let json = || Payload::from_json("{\"a\": 1}").unwrap();
        let named = || Some("q2".to_owned());
        for (line, means) in [
            ("", Input::Nothing),
            ("  read a.txt ", Input::Say("read a.txt".to_owned())),
            ("//etc", Input::Say("/etc".to_owned())),
            ("/allow", Input::Allow(None)),
            ("/allow q2", Input::Allow(named())),
            ("/deny q2 ", Input::Deny(named())),
            ("/edit {\"a\": 1}", Input::Edit(None, json())),
            ("/edit q2 {\"a\": 1}", Input::Edit(named(), json())),
            ("/retry q2", Input::Retry("q2".to_owned())),
            ("/dialogs", Input::Dialogs),
            ("/detach", Input::Detach),
            ("/quit", Input::Quit),
            ("/help quit", Input::Help),
        ] {
            assert_eq!(Input::parse(line), Ok(means), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        assert_eq!(Input::parse("/dance"), Err(Mistyped::Command("dance".to_owned())));
        assert_eq!(Input::parse("/allow q1 q2"), Err(Mistyped::TooMuch("/allow")));
        assert_eq!(Input::parse("/quit now"), Err(Mistyped::TooMuch("/quit")));
        assert_eq!(Input::parse("/edit"), Err(Mistyped::TooLittle("/edit")));
        assert_eq!(Input::parse("/retry"), Err(Mistyped::TooLittle("/retry")));
        assert!(matches!(Input::parse("/edit q1 {"), Err(Mistyped::Json(_))));
    }
}
