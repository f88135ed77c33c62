//! What runs have reached: a simulator that never gets anywhere finds nothing.

use std::collections::BTreeMap;

use crate::campaign;

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    reached: BTreeMap<&'static str, u64>,
}

/// What has to happen in any two hundred runs or so. What takes more of them is counted too.
pub const WANTED: &[&str] = &[
    "act Abort",
    "act Answer",
    "act Batch",
    "act Call",
    "act Come Binary",
    "act Come Garbage",
    "act Come Huge",
    "act Come Nobody",
    "act Come Noise",
    "act Come Silent",
    "act Come TooSoon",
    "act Create",
    "act Cut",
    "act CutAfter",
    "act Delay",
    "act Leap",
    "act Leap of the server",
    "act Look",
    "act Nonsense",
    "act Own",
    "act Piece",
    "act Publish",
    "act Question",
    "act RawAnswer",
    "act Reconnect",
    "act Refuse",
    "act Release",
    "act Remove",
    "act Replace",
    "act Replace same key",
    "act Restart",
    "act Resume",
    "act Sleep",
    "act Snapshot",
    "act Stall",
    "act Stall one way",
    "act Suspend",
    "act TakeBack",
    "act Twin",
    "act Unwatch",
    "act Watch",
    "act Withdraw",
    "answer refused",
    "answer sent again",
    "dialog Cancelled",
    "dialog Confirmed",
    "dialog Decided",
    "dialog Forgotten",
    "dialog TimedOut",
    "nonsense refused",
    "raw answer AlreadyResolved",
    "raw answer Expired",
    "raw answer Forbidden",
    "raw answer UnknownRequest",
    "raw answer taken",
    "request Cancelled",
    "request EpochEnded",
    "request Ended",
    "request Idle",
    "request NotDelivered",
    "request Refused",
    "request TimedOut",
    "request Unknown",
    "request has a result",
    "request is not begun",
    "request is abandoned",
    "session OwnerGone",
    "session Released",
    "session SuspendedTooLong",
    "session owned",
    "session taken over",
    "told Allow",
    "told Cancelled",
    "told Denied",
    "told Snapshot",
    "told TimedOut",
    "watch Missed",
    "watch Over",
    "watch Refused",
    "watch UnknownSession",
    "watch UpToDate again",
];

impl Coverage {
    /// Something happened.
    pub fn reach(&mut self, what: &'static str) {
        *self.reached.entry(what).or_default() += 1;
    }
}

impl campaign::Coverage for Coverage {
    fn merge(&mut self, other: &Self) {
        for (what, count) in &other.reached {
            *self.reached.entry(what).or_default() += count;
        }
    }

    fn reached(&self) -> Vec<(String, u64)> {
        self.reached.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect()
    }

    fn missing(&self) -> Vec<String> {
        WANTED.iter().filter(|what| !self.reached.contains_key(*what)).map(|what| (*what).to_owned()).collect()
    }

    fn summary(&self) -> String {
        self.reached.iter().map(|(what, count)| format!("{count:>10}       {what}\n")).collect()
    }
}
