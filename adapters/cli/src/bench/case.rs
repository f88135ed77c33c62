//! What is measured: each case is a way to use a connection, at one size of message.

use std::fmt;
use std::str::FromStr;

/// How many messages are in flight at once, where more than one is.
pub(crate) const WINDOW: u64 = 64;
/// How many messages a client has missed that comes back.
pub(crate) const MISSED: u64 = 1_000;

/// The sizes of a payload, in bytes.
const SIZES: [usize; 3] = [64, 1_024, 16_384];

/// A way to use a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One message goes there and comes back before the next one goes.
    RoundTrip,
    /// Every message comes back; [`WINDOW`] of them are under way.
    Pipelined,
    /// Messages go one way, and the sender learns that each was taken; for [`WINDOW`] of them it does not know yet. With the
    /// layer it awaits the receipt of each. A raw WebSocket has none, so its server counts, and answers each batch that it has
    /// read with one small message that carries the count: the least that tells a sender as much on a connection that holds.
    Settled,
    /// The client was away while the server sent [`MISSED`] messages. It dials, and has them all. A raw WebSocket keeps nothing,
    /// so its server sends as many to whoever connects.
    Resume,
    /// A connection on which nothing happens.
    Idle,
}

/// A way to use a connection, at one size of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) size: usize,
}

impl Case {
    /// Every case, in the order in which they are measured.
    pub(crate) fn all() -> Vec<Self> {
        // Where it is about connecting the smallest size shows most of what the layer adds. The memory comes last, for this
        // process is not small any more after it.
        let of = |kind| SIZES.map(|size| Self { kind, size });
        let last = [Kind::Resume, Kind::Idle].map(|kind| Self { kind, size: SIZES[0] });
        [Kind::RoundTrip, Kind::Pipelined, Kind::Settled].into_iter().flat_map(of).chain(last).collect()
    }

    /// Whether somebody who says `name` means this case: by its whole name, or without the size.
    pub(crate) fn is_called(self, name: &str) -> bool {
        name == self.to_string() || name == self.kind.name()
    }

    /// As it stands in a table.
    pub(crate) fn title(self) -> String {
        let size = if self.size < 1_024 { format!("{} B", self.size) } else { format!("{} KiB", self.size / 1_024) };
        match self.kind {
            Kind::RoundTrip => format!("round trip, {size}"),
            Kind::Pipelined => format!("echo, {WINDOW} in flight, {size}"),
            Kind::Settled => format!("one way, settled, {WINDOW} in flight, {size}"),
            Kind::Resume => format!("resume with {MISSED} missed, {size}"),
            Kind::Idle => "idle connection".to_owned(),
        }
    }

    /// The payload, as JSON: a text, as an agent streams it.
    pub(crate) fn payload(self) -> String {
        const FRAME: usize = r#"{"text":""}"#.len();
        let text: String = "what goes over a connection ".chars().cycle().take(self.size - FRAME).collect();
        format!(r#"{{"text":"{text}"}}"#)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::RoundTrip | Kind::Pipelined | Kind::Settled => write!(f, "{}-{}", self.kind.name(), self.size),
            Kind::Resume | Kind::Idle => f.write_str(self.kind.name()),
        }
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::all().into_iter().find(|case| case.to_string() == name);
        found.ok_or_else(|| format!("there is no case {name:?}"))
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "round-trip",
            Self::Pipelined => "pipelined",
            Self::Settled => "settled",
            Self::Resume => "resume",
            Self::Idle => "idle",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_found_by_its_name_and_has_a_payload_of_its_size() {
        for case in Case::all() {
            assert_eq!(case.to_string().parse(), Ok(case));
            assert_eq!(case.payload().len(), case.size);
            assert!(serde_json::from_str::<serde_json::Value>(&case.payload()).is_ok());
        }
        assert_eq!(Case::all().into_iter().filter(|case| case.is_called("pipelined")).count(), SIZES.len());
    }
}
