//! Who calls a server: four keys, of three principals, each with a few lives.

use std::collections::BTreeMap;

use reattach_core::connection::Connection;
use reattach_core::id::Attempt;
use reattach_core::id::ConnectionId;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::InstanceId;
use reattach_core::id::Seq;
use reattach_core::wire;
use reattach_core::wire::Hello;
use reattach_core::wire::Token;

use crate::fuzz::bytes::Bytes;
use crate::fuzz::shapes;

/// What one instance of a client knows.
#[derive(Debug, Default)]
struct Life {
    attempt: u64,
    epoch: Option<Epoch>,
}

/// All callers.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// By key and instance.
    lives: BTreeMap<(u8, u8), Life>,
}

impl Callers {
    /// A hello: mostly the one that an honest client would say next.
    pub(super) fn hello(&mut self, bytes: &mut Bytes<'_>, known: &dyn Fn(&ConnectionId) -> Option<Known>) -> Hello {
        let (owner, life) = (bytes.pick(&[0, 1, 0, 2, 3]), bytes.pick(&[0, 0, 0, 1, 2]));
        let key = key(owner);
        let mut cid = key.connection_id();
        if bytes.rarely(12) {
            cid = self::key(bytes.pick(&[0, 1])).connection_id();
        }
        let caller = self.lives.entry((owner, life)).or_default();
        let attempt = if bytes.rarely(12) { bytes.near(caller.attempt) } else { caller.attempt + 1 };
        caller.attempt = attempt.clamp(caller.attempt, Attempt::MAX.get() - 1);
        let epoch = match bytes.byte() {
            0..=0xdf => caller.epoch,
            0xe0..=0xe7 => None,
            0xe8..=0xef => known(&cid).and_then(|known| known.epoch),
            0xf0..=u8::MAX => Some(Epoch::from_bytes([bytes.byte(); 16])),
        };
        let names = [account(owner), account(owner), account(bytes.pick(&[0, 2, 3])), NOBODY];
        let name = names[usize::from(bytes.byte()) / 64];
        let mut hello = Hello {
            key,
            cid,
            instance: InstanceId::from_bytes([life; 16]),
            attempt: Attempt::new(attempt).filter(|attempt| *attempt > Attempt::ZERO).unwrap_or(Attempt::MAX),
            epoch,
            sent: Seq::ZERO,
            base: Seq::ZERO.next(),
            seen: shapes::report_no(bytes),
            report: wire::Report::default(),
            limits: shapes::limits(bytes),
            token: Token::new(name.to_owned()),
            fence: None,
        };
        number(bytes, known(&cid), &mut hello);
        hello
    }

    /// A caller learns of an epoch.
    pub(super) fn on_welcome(&mut self, hello: &Hello, epoch: Epoch) {
        let [owner, life] = [hello.key.as_bytes()[0] - 1, hello.instance.as_bytes()[0]];
        self.lives.entry((owner, life)).or_default().epoch = Some(epoch);
    }
}

/// Puts the numbers of a client that has heard all that the server said into a hello, or nearly.
pub(super) fn number(bytes: &mut Bytes<'_>, known: Option<Known>, hello: &mut Hello) {
    let Some(Known { sent, received, .. }) = known else { return };
    if hello.epoch.is_some() {
        hello.sent = shapes::seq(bytes, received);
        hello.base = shapes::seq(bytes, hello.sent.next()).max(Seq::ZERO.next());
        hello.report = shapes::report(bytes, sent);
    }
}

/// Where the server stands with a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    epoch: Option<Epoch>,
    sent: Seq,
    received: Seq,
}

impl Known {
    /// What a connection shows.
    pub(super) fn of(connection: &Connection) -> Self {
        let link = connection.link();
        let (sent, received) = (link.outbox().flight().sent(), link.inbox().settlement().received());
        Self { epoch: connection.epoch(), sent, received }
    }
}

/// One of four keys.
pub(super) fn key(owner: u8) -> ConnectionKey {
    ConnectionKey::from_bytes([owner + 1; 16])
}

/// Whose a key is: the first two are of one principal.
pub(super) const fn account(owner: u8) -> &'static str {
    match owner {
        0 | 1 => "alice",
        2 => "bob",
        _ => "carol",
    }
}

/// A name that the application does not know.
pub(super) const NOBODY: &str = "nobody";
