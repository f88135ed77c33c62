//! What to do when a transport has ended: the close-code policy, and the count of tries in a row.
//!
//! A close code never ends a connection; only a `bye` that says so does. A code decides whether, and how soon, to try again.

use core::fmt;
use core::time::Duration;

use crate::backoff;
use crate::backoff::Backoff;
use crate::breaker;
use crate::breaker::Breaker;
use crate::deadline::Deadline;
use crate::error::ProtocolError;
use crate::time::Instant;
use crate::wire::CloseCode;

/// When to try again, and when to stop trying.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Config {
    /// How the delays grow.
    pub backoff: backoff::Config,
    /// When messages that would rather fail than wait fail.
    pub breaker: breaker::Config,
    /// How many retries in a row may fail after a first try, or `None` for no limit. Default 5.
    pub attempts: Option<u32>,
    /// How long a transport must stay attached before the delays start over. Default 5 s.
    pub stable: Duration,
    /// The shortest delay after close code 1012 (service restart). Default 5 s.
    pub restart_min: Duration,
    /// The longest delay after close code 1012 (service restart). Default 30 s.
    pub restart_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            backoff: backoff::Config::default(),
            breaker: breaker::Config::default(),
            attempts: Some(5),
            stable: Duration::from_secs(5),
            restart_min: Duration::from_secs(5),
            restart_max: Duration::from_secs(30),
        }
    }
}

/// Why a transport could not be opened, as the adapter saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No connection: the name did not resolve, nobody listens, the network is down.
    #[error("no connection could be made")]
    Unreachable,
    /// The secure channel could not be made.
    #[error("no secure channel: {0}")]
    Insecure(Insecure),
    /// A proxy on the way did not lead on to the server.
    #[error("the proxy does not lead on to the server{}", Status(*status))]
    Proxy {
        /// The HTTP status with which it said so, where it speaks HTTP and did.
        status: Option<u16>,
    },
    /// The server answered the upgrade with another HTTP status than 101.
    #[error("the server answered with HTTP status {status}")]
    Refused {
        /// The status.
        status: u16,
        /// When to come back at the soonest, where the server said so.
        retry_after: Option<Duration>,
    },
    /// The server does not speak [`SUBPROTOCOL`](crate::wire::SUBPROTOCOL).
    #[error("the server does not speak {}", crate::wire::SUBPROTOCOL)]
    WrongProtocol,
    /// The application had no credentials to offer.
    #[error("no credentials could be had")]
    NoCredentials,
}

/// An HTTP status, where there is one.
struct Status(Option<u16>);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |status| write!(f, " (HTTP status {status})"))
    }
}

/// Why a secure channel could not be made (RFC 8446, 6.2; RFC 9525 on names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Insecure {
    /// The server's certificate is past its time.
    #[error("the server's certificate has expired")]
    Expired,
    /// Its time has not come yet. This side's clock may be wrong.
    #[error("the server's certificate is not valid yet")]
    NotYetValid,
    /// It is for another name than the one that was dialled.
    #[error("the server's certificate is for another name")]
    WrongName,
    /// Nobody whom this side trusts has signed it.
    #[error("the server's certificate was signed by nobody who is trusted")]
    UnknownIssuer,
    /// Whoever signed it has taken it back.
    #[error("the server's certificate was revoked")]
    Revoked,
    /// It is wrong in another way.
    #[error("the server's certificate is not acceptable")]
    BadCertificate,
    /// The server refused: it wants a certificate, or a version or a cipher that this side does not have.
    #[error("the server refused the handshake")]
    Refused,
    /// What came is not TLS, or broken TLS.
    #[error("the server does not speak TLS as it should")]
    Protocol,
}

/// How a transport ended, or failed to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// It could not be opened.
    #[error("{0}")]
    NotOpened(OpenError),
    /// It did not open in time.
    #[error("it did not open in time")]
    ConnectTimeout,
    /// No welcome came in time.
    #[error("no welcome came in time")]
    HelloTimeout,
    /// It was closed, or broke, with this code.
    #[error("{0}")]
    Closed(CloseCode),
    /// It made no progress.
    #[error("it stalled")]
    Stalled,
    /// The peer broke the protocol.
    #[error("{0}")]
    Protocol(ProtocolError),
    /// The credentials with which it was attached ran out.
    #[error("the credentials ran out")]
    CredentialsExpired,
    /// This side closed it to try another one.
    #[error("this side closed it")]
    Local,
}

/// What to do about the end of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Try again after the growing delay.
    Backoff,
    /// Try again when the server is back: after the restart delay.
    Restart,
    /// Try again late: the server is overloaded.
    Late,
    /// Ask for credentials once more; refused again, stop.
    Credentials,
    /// A message was too large for something in between. Try again, but only so often without progress.
    TooLarge,
    /// Another instance holds the connection.
    Superseded,
    /// Trying again cannot help.
    Stop,
}

impl Policy {
    /// The policy of a close code.
    #[must_use]
    pub const fn of_code(code: CloseCode) -> Self {
        match code {
            CloseCode::WEBSOCKET_ERROR
            | CloseCode::UNSUPPORTED
            | CloseCode::NOT_UTF8
            | CloseCode::EXTENSION
            | CloseCode::MALFORMED_ID => Self::Stop,
            CloseCode::POLICY | CloseCode::UNAUTHENTICATED | CloseCode::FORBIDDEN => Self::Credentials,
            CloseCode::TOO_BIG | CloseCode::TOO_LARGE => Self::TooLarge,
            CloseCode::RESTART => Self::Restart,
            CloseCode::TRY_LATER | CloseCode::TOO_MANY => Self::Late,
            CloseCode::SUPERSEDED => Self::Superseded,
            _ => Self::Backoff,
        }
    }

    /// The policy of any end.
    #[must_use]
    pub const fn of(ended: &Ended) -> Self {
        match ended {
            Ended::Closed(code) => Self::of_code(*code),
            Ended::NotOpened(OpenError::Refused { status: 401 | 403, .. } | OpenError::NoCredentials) => {
                Self::Credentials
            }
            Ended::NotOpened(OpenError::Refused { status: 429 | 503, .. }) => Self::Late,
            Ended::NotOpened(OpenError::Refused { status: 404 | 408 | 425, .. }) => Self::Backoff,
            Ended::NotOpened(
                OpenError::Refused { status: 400..=499, .. } | OpenError::Insecure(_) | OpenError::WrongProtocol,
            ) => Self::Stop,
            // Also whatever a captive portal or a proxy in between makes of an upgrade.
            Ended::NotOpened(OpenError::Refused { .. } | OpenError::Proxy { .. } | OpenError::Unreachable) => {
                Self::Backoff
            }
            Ended::CredentialsExpired => Self::Credentials,
            Ended::ConnectTimeout | Ended::HelloTimeout | Ended::Stalled | Ended::Protocol(_) | Ended::Local => {
                Self::Backoff
            }
        }
    }
}

/// What follows the end of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Try again at this time.
    RetryAt(Instant),
    /// Another instance holds the connection.
    Superseded,
    /// Stop trying.
    GiveUp(GiveUp),
}

/// Why trying stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum GiveUp {
    /// As many retries in a row as allowed have failed.
    #[error("{attempts} retries in a row have failed; the last one: {last}")]
    Exhausted {
        /// How many.
        attempts: u32,
        /// How the last one ended.
        last: Ended,
    },
    /// The credentials were refused, and fresh ones again.
    #[error("the credentials were refused twice: {last}")]
    Unauthorized {
        /// How the last try ended.
        last: Ended,
    },
    /// Trying again cannot help.
    #[error("{last}")]
    Hopeless {
        /// How the last try ended.
        last: Ended,
    },
}

/// Decides about tries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reconnect {
    config: Config,
    backoff: Backoff,
    breaker: Breaker,
    /// Retries since a welcome was followed by progress.
    retries: u32,
    /// Refusals of credentials since the last welcome.
    refusals: u32,
    /// Ends for size since both sides took something, or a transport stayed.
    too_large: u32,
    /// Which sides have taken something since an end for size: the peer, and this side.
    taken: (bool, bool),
    /// Whether the client has moved to another identity, and no welcome was followed by progress since.
    has_moved: bool,
    /// When the delays start over. Armed while attached.
    stable: Deadline,
}

impl Reconnect {
    /// Nothing has been tried.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        let backoff = Backoff::new(config.backoff.clone(), seed);
        let breaker = Breaker::new(config.breaker);
        Self {
            config,
            backoff,
            breaker,
            retries: 0,
            refusals: 0,
            too_large: 0,
            taken: (false, false),
            has_moved: false,
            stable: Deadline::UNARMED,
        }
    }

    /// A try begins.
    pub fn on_try(&mut self, now: Instant) {
        self.breaker.on_try(now);
    }

    /// A try failed before its welcome. To be told before [`Reconnect::on_ended`].
    pub fn on_failed(&mut self, now: Instant) {
        self.breaker.on_failure(now);
    }

    /// Whether it is not worth waiting for the server, as far as anybody knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.breaker.state() == breaker::State::Open
    }

    /// What the breaker says.
    #[must_use]
    pub const fn breaker(&self) -> breaker::State {
        self.breaker.state()
    }

    /// A welcome came.
    pub fn on_attached(&mut self, now: Instant) {
        self.refusals = 0;
        self.breaker.on_success();
        self.stable.arm(now + self.config.stable);
    }

    /// A frame came after the welcome.
    pub const fn on_progress(&mut self) {
        self.retries = 0;
        self.has_moved = false;
    }

    /// The peer, or this side, has taken something that it had not. A message that is too large for something in between
    /// stops its own direction only, so both have to move.
    pub const fn on_taken(&mut self, by_peer: bool, by_us: bool) {
        self.taken = (self.taken.0 || by_peer, self.taken.1 || by_us);
        if self.taken.0 && self.taken.1 {
            self.too_large = 0;
        }
    }

    /// The client goes on under another identity. It does so at once, the first time; where that changes nothing it waits
    /// like after any other end.
    pub fn on_moved(&mut self, now: Instant) -> Option<Next> {
        if core::mem::replace(&mut self.has_moved, true) {
            let delay = self.backoff.next_delay();
            return Some(self.retry(delay, Ended::Closed(CloseCode::SUPERSEDED), now));
        }
        self.restart();
        self.has_moved = true;
        None
    }

    /// The transport ended. Decides what follows. Where the server says when to come back, that wins.
    pub fn on_ended(&mut self, ended: Ended, retry_after: Option<Duration>, now: Instant) -> Next {
        self.stable.disarm();
        let delay = match Policy::of(&ended) {
            Policy::Superseded => return Next::Superseded,
            Policy::Stop => return Next::GiveUp(GiveUp::Hopeless { last: ended }),
            Policy::Credentials => {
                self.refusals += 1;
                if self.refusals > 1 {
                    return Next::GiveUp(GiveUp::Unauthorized { last: ended });
                }
                self.backoff.next_delay()
            }
            Policy::TooLarge => {
                self.too_large += 1;
                self.taken = (false, false);
                if self.too_large > MAX_TOO_LARGE {
                    return Next::GiveUp(GiveUp::Hopeless { last: ended });
                }
                self.backoff.next_delay()
            }
            Policy::Backoff => self.backoff.next_delay(),
            Policy::Restart => self.backoff.spread(self.config.restart_min, self.config.restart_max),
            Policy::Late => self.backoff.spread(self.backoff.cap() / 2, self.backoff.cap()),
        };
        self.retry(retry_after.map_or(delay, |retry_after| retry_after.clamp(SOONEST, LATEST)), ended, now)
    }

    fn retry(&mut self, delay: Duration, last: Ended, now: Instant) -> Next {
        if let Some(attempts) = self.config.attempts.filter(|attempts| self.retries >= *attempts) {
            return Next::GiveUp(GiveUp::Exhausted { attempts, last });
        }
        self.retries += 1;
        Next::RetryAt(now + delay)
    }

    /// Somebody asked for a try now, or trying starts over.
    pub fn restart(&mut self) {
        self.retries = 0;
        self.refusals = 0;
        self.too_large = 0;
        self.has_moved = false;
        self.backoff.reset();
        self.stable.disarm();
    }

    /// Lets time pass: a transport that stayed attached long enough starts the delays over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.stable.take_due(now) {
            self.backoff.reset();
            self.too_large = 0;
        }
    }

    /// When time matters next.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.stable.poll_timeout()
    }

    /// Which retry in a row it is, from 1; 0 before the first.
    #[must_use]
    pub const fn retries(&self) -> u32 {
        self.retries
    }

    /// How many retries in a row are allowed.
    #[must_use]
    pub const fn limit(&self) -> Option<u32> {
        self.config.attempts
    }
}

/// The soonest that a server may have its clients come back: what it says is not to make them hammer it.
const SOONEST: Duration = Duration::from_millis(100);

/// The latest: nothing that waits now is still worth sending then, and what a server says is not to keep them away for ever.
const LATEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How often in a row a transport may end for the size of a message before trying stops, whatever the limit of attempts: a
/// message that is too large for something in between would loop for ever.
const MAX_TOO_LARGE: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(attempts: Option<u32>) -> Reconnect {
        let backoff = backoff::Config { jitter: false, ..backoff::Config::default() };
        Reconnect::new(Config { backoff, attempts, ..Config::default() }, 0)
    }

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    fn delay(next: Next, now: Instant) -> u64 {
        match next {
            Next::RetryAt(at) => (at - now).as_secs(),
            other @ (Next::Superseded | Next::GiveUp(_)) => panic!("no retry but {other:?}"),
        }
    }

    const BROKEN: Ended = Ended::Closed(CloseCode::ABNORMAL);

    // S003-15, S003-16, N19 step 1
    #[test]
    fn five_retries_follow_the_first_try_and_then_it_gives_up() {
        let mut reconnect = plain(Some(5));
        for (retry, secs) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16)] {
            assert_eq!(delay(reconnect.on_ended(Ended::ConnectTimeout, None, at(0)), at(0)), secs);
            assert_eq!(reconnect.retries(), retry);
        }
        let last = Ended::ConnectTimeout;
        assert_eq!(reconnect.on_ended(last, None, at(0)), Next::GiveUp(GiveUp::Exhausted { attempts: 5, last }));
    }

    // S003-17, N19 step 5
    #[test]
    fn a_welcome_resets_the_count_but_only_a_stable_while_resets_the_delays() {
        let mut reconnect = plain(Some(5));
        let mut now = at(0);
        let mut delays = alloc::vec::Vec::new();
        for _ in 0..8 {
            reconnect.on_attached(now);
            reconnect.on_progress();
            now = now + Duration::from_millis(10);
            reconnect.handle_timeout(now);
            delays.push(delay(reconnect.on_ended(BROKEN, None, now), now));
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30, 30]);
        reconnect.on_attached(now);
        reconnect.handle_timeout(now + Duration::from_secs(5));
        assert_eq!(delay(reconnect.on_ended(BROKEN, None, now), now), 1);
    }

    #[test]
    fn a_welcome_without_progress_does_not_reset_the_count() {
        let mut reconnect = plain(Some(2));
        for _ in 0..2 {
            assert!(matches!(reconnect.on_ended(BROKEN, None, at(0)), Next::RetryAt(_)));
            reconnect.on_attached(at(0));
        }
        assert!(matches!(reconnect.on_ended(BROKEN, None, at(0)), Next::GiveUp(GiveUp::Exhausted { .. })));
    }

    #[test]
    fn credentials_are_refreshed_once() {
        for refused in [
            Ended::Closed(CloseCode::UNAUTHENTICATED),
            Ended::NotOpened(OpenError::Refused { status: 401, retry_after: None }),
        ] {
            let mut reconnect = plain(None);
            assert!(matches!(reconnect.on_ended(refused, None, at(0)), Next::RetryAt(_)));
            assert_eq!(reconnect.on_ended(refused, None, at(0)), Next::GiveUp(GiveUp::Unauthorized { last: refused }));
        }
    }

    #[test]
    fn a_message_that_is_too_large_never_loops() {
        let mut reconnect = plain(None);
        let too_large = Ended::Closed(CloseCode::TOO_BIG);
        for _ in 0..4 {
            assert!(matches!(reconnect.on_ended(too_large, None, at(0)), Next::RetryAt(_)));
            reconnect.on_attached(at(0));
            reconnect.on_progress();
        }
        assert_eq!(reconnect.on_ended(too_large, None, at(0)), Next::GiveUp(GiveUp::Hopeless { last: too_large }));
    }

    #[test]
    fn without_a_limit_it_never_gives_up() {
        let mut reconnect = plain(None);
        assert!((0..1_000).all(|_| matches!(reconnect.on_ended(BROKEN, None, at(0)), Next::RetryAt(_))));
    }

    #[test]
    fn a_restart_of_the_server_is_waited_for() {
        let mut reconnect = plain(Some(5));
        assert_eq!(delay(reconnect.on_ended(Ended::Closed(CloseCode::RESTART), None, at(0)), at(0)), 30);
        assert_eq!(delay(reconnect.on_ended(Ended::Closed(CloseCode::GOING_AWAY), None, at(0)), at(0)), 1);
        assert_eq!(delay(reconnect.on_ended(Ended::Closed(CloseCode::TRY_LATER), None, at(0)), at(0)), 30);
    }
}
