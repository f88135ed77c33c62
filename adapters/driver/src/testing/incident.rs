//! What happened on the network, in order: two runs of one seed have the same incidents.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From whoever dialled to whoever listened.
    ToServer,
    /// From whoever listened to whoever dialled.
    ToClient,
}

impl Direction {
    /// The other way.
    pub(super) const fn back(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToServer => "to the server",
            Self::ToClient => "to the client",
        })
    }
}

/// Something that happened on the network. It shows neither keys nor payloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incident {
    /// When, in virtual time since the start of the simulation.
    pub at: Duration,
    /// What.
    pub what: Happening,
}

/// What can happen on the network. Streams are numbered from 1, in the order in which they were opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Happening {
    /// A stream was opened.
    Opened {
        /// Its number.
        stream: u64,
        /// The host that was dialled.
        host: String,
        /// The port.
        port: u16,
    },
    /// A stream was not opened: nobody listens, or the network was told to refuse.
    Refused {
        /// The host that was dialled.
        host: String,
        /// The port.
        port: u16,
    },
    /// Bytes have arrived.
    Carried {
        /// The stream's number.
        stream: u64,
        /// Which way they went.
        direction: Direction,
        /// How many.
        bytes: usize,
    },
    /// One end of a stream wrote its last.
    Ended {
        /// The stream's number.
        stream: u64,
        /// Which way its bytes went.
        direction: Direction,
    },
    /// A stream was broken.
    Cut {
        /// Its number.
        stream: u64,
    },
    /// The network, or a place in it, carries nothing any more in a direction.
    Stalled {
        /// Which.
        direction: Direction,
    },
    /// Its faults have ended.
    Healed,
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6} s: ", self.at.as_secs_f64())?;
        match &self.what {
            Happening::Opened { stream, host, port } => write!(f, "stream {stream} opened to {host}:{port}"),
            Happening::Refused { host, port } => write!(f, "no stream to {host}:{port}"),
            Happening::Carried { stream, direction, bytes } => {
                write!(f, "stream {stream} carried {bytes} bytes {direction}")
            }
            Happening::Ended { stream, direction } => write!(f, "stream {stream} ended {direction}"),
            Happening::Cut { stream } => write!(f, "stream {stream} was cut"),
            Happening::Stalled { direction } => write!(f, "stalled {direction}"),
            Happening::Healed => f.write_str("healed"),
        }
    }
}

/// The newest incidents.
#[derive(Default)]
pub(super) struct Incidents(VecDeque<Incident>);

impl Incidents {
    /// The most that are kept.
    pub(super) const MAX: usize = 10_000;

    pub(super) fn push(&mut self, at: Duration, what: Happening) {
        if self.0.len() == Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(Incident { at, what });
    }

    pub(super) fn all(&self) -> Vec<Incident> {
        self.0.iter().cloned().collect()
    }

    /// The last few, one a line, for people.
    pub(super) fn last(&self, count: usize) -> String {
        let skipped = self.0.len().saturating_sub(count);
        self.0.iter().skip(skipped).map(|incident| format!("\n  {incident}")).collect()
    }
}
