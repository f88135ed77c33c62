//! The frames, as values. PROTOCOL.md says who sends each when; the fields here are its keys.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use core::time::Duration;

use crate::id::Attempt;
use crate::id::Code;
use crate::id::ConnectionId;
use crate::id::ConnectionKey;
use crate::id::Epoch;
use crate::id::Fence;
use crate::id::InstanceId;
use crate::id::Lane;
use crate::id::MessageId;
use crate::id::PingNo;
use crate::id::ReportNo;
use crate::id::Seq;
use crate::wire::close::CloseCode;
use crate::wire::names;

/// One frame: the unit that both sides exchange. A WebSocket message carries one or several, separated by line breaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Frame<'a> {
    /// Client to server, first on every transport: who it is and where it stands.
    Hello(Box<Hello>),
    /// Server to client: prove that you are alive by saying hello again with this fence.
    Challenge(Challenge),
    /// Server to client: attached, resumed or fresh.
    Welcome(Box<Welcome>),
    /// Either way: a reliable message.
    Message(Message<'a>),
    /// Either way: an ephemeral message.
    Ephemeral(Ephemeral<'a>),
    /// Either way: a message is withdrawn, if it still can be.
    Void(Void),
    /// Either way: where the sender of this frame stands as a receiver.
    Ack(Ack),
    /// Either way: are you there?
    Ping(Ping),
    /// Either way: the answer to a ping.
    Pong(Pong),
    /// Either way: the transport, or the connection, ends here.
    Bye(Box<Bye>),
    /// A frame of a type that this version does not know. It is ignored.
    Unknown,
}

/// The largest window, in messages. It bounds every list in a frame.
pub const MAX_WINDOW: u32 = 16_384;

impl Frame<'_> {
    /// The type as it stands on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => names::HELLO,
            Self::Challenge(_) => names::CHALLENGE,
            Self::Welcome(_) => names::WELCOME,
            Self::Message(_) | Self::Ephemeral(_) => names::MESSAGE,
            Self::Void(_) => names::VOID,
            Self::Ack(_) => names::ACK,
            Self::Ping(_) => names::PING,
            Self::Pong(_) => names::PONG,
            Self::Bye(_) => names::BYE,
            Self::Unknown => "unknown",
        }
    }
}

/// How much a receiver takes at once, and how large a single payload may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// The most messages that may be written and not final, 1 to [`MAX_WINDOW`]. Wire key `window`.
    pub window: u32,
    /// The most bytes of their payloads, 1 or more. Wire key `windowBytes`.
    pub window_bytes: u64,
    /// The largest payload of one message in bytes, 1 or more. Wire key `maxPayload`.
    pub max_payload: u64,
}

/// Where a receiver stands in one epoch: what it has, what it has disposed of, and what is not plainly accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Report {
    /// Every number up to it has come.
    pub received: Seq,
    /// The highest number with a final disposition. All up to it are accepted but for those in `except`.
    pub settled: Seq,
    /// The number of the newest change to `except`; 0 when there never was one.
    pub no: ReportNo,
    /// What is not plainly accepted, by rising number.
    pub except: Vec<Exception>,
}

/// One message that is not plainly accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exception {
    /// Which message.
    pub seq: Seq,
    /// What became of it.
    pub disposition: Disposition,
}

/// What a receiver did with a message that it did not plainly accept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Not settled yet, though a later one is. Not final.
    Pending,
    /// The application asked for it to be handed over again later. Not final.
    Deferred {
        /// How often it has been deferred, from 1.
        times: u32,
        /// How long the receiver waits before it hands it over again.
        retry_after: Duration,
        /// The application's code for why.
        code: Code,
    },
    /// The application refused it; it had no effect. Final.
    Rejected {
        /// The application's code for why.
        code: Code,
        /// The application's words for people; may be empty.
        reason: String,
    },
    /// It was withdrawn before it was handed over. Final.
    Voided,
    /// It was handed over and no decision ever came. Final.
    Abandoned,
}

impl Disposition {
    /// Whether it can still change.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Pending | Self::Deferred { .. } => false,
            Self::Rejected { .. } | Self::Voided | Self::Abandoned => true,
        }
    }
}

/// `hello`: who the client is, and where its two directions stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The secret that owns the connection.
    pub key: ConnectionKey,
    /// The connection's name, derived from the key.
    pub cid: ConnectionId,
    /// This life of the client.
    pub instance: InstanceId,
    /// The number of this hello within the instance. A hello that answers a challenge repeats its own.
    pub attempt: Attempt,
    /// The epoch that the client holds; absent when it holds none.
    pub epoch: Option<Epoch>,
    /// The highest number that it has written in that epoch.
    pub sent: Seq,
    /// The lowest number in its outbox; `sent + 1` when nothing written is unsettled.
    pub base: Seq,
    /// The newest change to the server's report that it has taken in.
    pub seen: ReportNo,
    /// Where it stands as the receiver of that epoch.
    pub report: Report,
    /// What it takes.
    pub limits: Limits,
    /// The application's credentials.
    pub token: Option<Token>,
    /// The fence of the challenge that this hello answers.
    pub fence: Option<Fence>,
}

/// Credentials that an application put into a hello. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// The longest token, in bytes: room for a signed token with many claims, little enough to read before authentication.
    pub const MAX_LEN: usize = 8 * 1024;

    /// Takes a token of 1 to [`Token::MAX_LEN`] bytes.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        (1..=Self::MAX_LEN).contains(&text.len()).then_some(Self(text))
    }

    /// The token itself. Never log it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token(secret)")
    }
}

/// `challenge`: another instance is known; repeat the hello with this fence to take the connection over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Challenge {
    /// What to repeat.
    pub fence: Fence,
}

/// `welcome`: attached. Says whether the epoch goes on, and where the server stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Welcome {
    /// The connection's name, as in the hello.
    pub cid: ConnectionId,
    /// The epoch from here on.
    pub epoch: Epoch,
    /// True: the epoch is the one that the hello named, and nothing was lost. False: it is another one; everything in it starts at 0.
    pub resumed: bool,
    /// Where the server stands as a receiver in this epoch.
    pub report: Report,
    /// The newest change to the client's report that the server has taken in.
    pub seen: ReportNo,
    /// What the server takes.
    pub limits: Limits,
    /// How long the server keeps the state once no transport is attached.
    pub detach_ttl: Duration,
    /// What is known of the epoch that the hello named, where that one has ended.
    pub receipt: Option<Box<Receipt>>,
}

/// What a server keeps of an epoch that has ended: enough to tell a client what became of what it wrote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The epoch that has ended.
    pub epoch: Epoch,
    /// The highest number that had come.
    pub received: Seq,
    /// As in [`Report::settled`].
    pub settled: Seq,
    /// As in [`Report::except`].
    pub except: Vec<Exception>,
    /// The newest change that the client was known to have taken in. A client that is behind it cannot tell an accepted
    /// message from one whose exception was dropped.
    pub seen: ReportNo,
    /// Messages in the application's hands, undecided, by rising number.
    pub handed: Vec<Seq>,
    /// Whether it was the last act of the state: after it nothing more was handed over.
    pub is_final: bool,
}

impl Receipt {
    /// What is kept of an epoch whose state was lost: nothing that could be relied on.
    #[must_use]
    pub const fn not_final(epoch: Epoch) -> Self {
        Self {
            epoch,
            received: Seq::ZERO,
            settled: Seq::ZERO,
            except: Vec::new(),
            seen: ReportNo::ZERO,
            handed: Vec::new(),
            is_final: false,
        }
    }
}

/// `msg` with a number: a reliable message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message<'a> {
    /// Its number in this epoch and direction.
    pub seq: Seq,
    /// Its name, where the other side needs to know it.
    pub id: Option<MessageId>,
    /// What it is in order with.
    pub lane: Lane,
    /// Whether it may be handed over again after a loss of state, under the same name.
    pub idempotent: bool,
    /// How often it may be handed over, 1 to [`MAX_HANDS`].
    pub hands: u32,
    /// The payload as it came, unchecked.
    pub payload: &'a str,
}

impl<'a> Message<'a> {
    /// A message of which nothing is said but its number and what it carries.
    #[must_use]
    pub const fn plain(seq: Seq, payload: &'a str) -> Self {
        Self { seq, id: None, lane: Lane::DEFAULT, idempotent: false, hands: DEFAULT_HANDS, payload }
    }
}

/// How often a message may be handed over where it does not say: once, and three times more after deferrals.
pub const DEFAULT_HANDS: u32 = 4;

/// The most hand-overs that a message may ask for.
pub const MAX_HANDS: u32 = 1_000;

/// `void`: a written message is withdrawn, if its receiver has not handed it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Void {
    /// Which message.
    pub seq: Seq,
}

/// `msg` with a key and no number: an ephemeral message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ephemeral<'a> {
    /// What it is about. A newer one of the same key replaces it.
    pub key: Cow<'a, str>,
    /// The payload as it came, unchecked.
    pub payload: &'a str,
}

/// `ack`: a report, and how far the other side's report has been taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ack {
    /// Where the sender of the frame stands as a receiver.
    pub report: Report,
    /// The newest change to the other side's report that it has taken in.
    pub seen: ReportNo,
}

/// `ping`: asks for a [`Pong`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ping {
    /// Its number on this transport.
    pub n: PingNo,
    /// The newest change to the other side's report that the sender has taken in.
    pub seen: ReportNo,
}

/// `pong`: answers a [`Ping`], with a report.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pong {
    /// The number of the ping.
    pub n: PingNo,
    /// Where the sender of the frame stands as a receiver.
    pub report: Report,
}

/// `bye`: the sender closes the transport, and perhaps ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bye {
    /// Why, and what the close frame that follows will say.
    pub code: CloseCode,
    /// Whether the connection ends with it. Only this ends one; a close code never does.
    pub end: bool,
    /// Where the sender of the frame stands as a receiver; absent when it holds no epoch.
    pub report: Option<Report>,
    /// Messages in its application's hands, undecided, by rising number.
    pub handed: Vec<Seq>,
    /// Whether nothing more is handed over after this report.
    pub is_final: bool,
    /// Words for people; may be empty.
    pub reason: String,
    /// When a client should come back at the soonest; absent where the code's policy decides.
    pub retry_after: Option<Duration>,
    /// Whether a client asks for its state to be kept longer than usual, because it goes to sleep.
    pub suspend: bool,
}

impl Bye {
    /// The word that closes a transport and leaves the connection as it is. `report` is where its sender stands, if the
    /// transport was attached: so no settlement is lost with it.
    #[must_use]
    pub const fn of_transport(code: CloseCode, report: Option<Report>, reason: String) -> Self {
        let handed = Vec::new();
        Self { code, end: false, report, handed, is_final: false, reason, retry_after: None, suspend: false }
    }

    /// The last word of an epoch: where its sender stands, after which it hands nothing more over. `handed` is what its
    /// application has taken and not decided about. `end` says whether the connection ends too.
    #[must_use]
    pub const fn last(code: CloseCode, end: bool, report: Report, handed: Vec<Seq>) -> Self {
        let reason = String::new();
        Self { code, end, report: Some(report), handed, is_final: true, reason, retry_after: None, suspend: false }
    }

    /// What the last word proves of what was written to its sender in `epoch`, as a receipt would.
    #[must_use]
    pub fn receipt(&self, epoch: Epoch) -> Option<Receipt> {
        let Report { received, settled, no: _, except } = self.report.clone()?;
        let (handed, is_final) = (self.handed.clone(), self.is_final);
        // A bye carries its sender's whole list, so there is no change that its reader could have missed.
        Some(Receipt { epoch, received, settled, except, seen: ReportNo::ZERO, handed, is_final })
    }
}
