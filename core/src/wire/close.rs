//! Close codes: one table, ours from 4400 to 4499, after the HTTP status that says the same.
//!
//! The same number stands in a [`bye`](super::Bye) and in the WebSocket close frame that follows it. What a client does
//! about each is decided in [`reconnect`](crate::reconnect).

use core::fmt;

/// Why a transport was closed: a WebSocket close code (RFC 6455, 7.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)+) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: Self = Self($code);)+

            /// Every code that this protocol gives a meaning, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// What the code says, in a few words; empty for a code of somebody else's.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $($code => $text,)+
                    _ => "",
                }
            }
        }
    };
}

close_codes! {
    /// The WebSocket was closed in good order. It does not end the connection: a suspended phone sends it too.
    NORMAL = 1000, "closed";
    /// The endpoint goes away: a server shuts down, a page is left.
    GOING_AWAY = 1001, "going away";
    /// A violation of the WebSocket protocol itself.
    WEBSOCKET_ERROR = 1002, "WebSocket protocol error";
    /// A binary message; only text is spoken here.
    UNSUPPORTED = 1003, "only text frames are spoken here";
    /// No close code came. Never sent; what an adapter reports when the close frame was empty.
    NO_STATUS = 1005, "no status";
    /// The transport broke. Never sent; what an adapter reports when no close frame came.
    ABNORMAL = 1006, "the transport broke";
    /// Text that is not UTF-8.
    NOT_UTF8 = 1007, "not UTF-8";
    /// A policy of the server, or of something between.
    POLICY = 1008, "policy";
    /// A WebSocket message above the limit.
    TOO_BIG = 1009, "message too big";
    /// The server lacks an extension that the client asked for.
    EXTENSION = 1010, "extension missing";
    /// The server failed.
    INTERNAL = 1011, "internal error";
    /// The server restarts.
    RESTART = 1012, "service restart";
    /// The server is overloaded.
    TRY_LATER = 1013, "try again later";
    /// The peer broke this protocol, or sent more malformed frames than the budget allows.
    PROTOCOL = 4400, "protocol error";
    /// The key does not own the connection id, or the application refused the credentials.
    UNAUTHENTICATED = 4401, "unauthenticated";
    /// The connection belongs to another principal.
    FORBIDDEN = 4403, "forbidden";
    /// No complete hello came in time.
    HELLO_TIMEOUT = 4408, "no hello in time";
    /// Another transport, or another instance, holds the connection now.
    SUPERSEDED = 4409, "superseded";
    /// The connection has ended; a `bye` said so.
    ENDED = 4410, "the connection has ended";
    /// A frame above the announced size.
    TOO_LARGE = 4413, "frame too large";
    /// An identifier in the hello is malformed.
    MALFORMED_ID = 4422, "malformed identifier";
    /// The hello was older than the one that is attached.
    STALE = 4425, "stale hello";
    /// Too many connections: in all, of this principal or from this address.
    TOO_MANY = 4429, "too many connections";
    /// The peer went silent: no life within the heartbeat's deadline.
    STALLED = 4460, "stalled";
}

impl CloseCode {
    /// Takes any code that may come in a close frame.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// Whether the code may stand in a frame: RFC 6455, 7.4, keeps some for what an endpoint tells its own application, and
    /// has given no meaning to others.
    #[must_use]
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            "" => write!(f, "{}", self.0),
            text => write!(f, "{} {text}", self.0),
        }
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({self})")
    }
}
