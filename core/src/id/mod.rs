//! Names for things: which connection, which life of a client, which life of a connection, which transport, which message.
//!
//! Every identifier on the wire is a type of its own here, parsed strictly in one place, so that a malformed one is
//! refused with an error that says what is wrong and is never silently replaced by another (S004-019, S004-020).
//!
//! Secrets and nonces are 128 bits from the system's CSPRNG, minted by the adapter and handed in. The core derives from
//! them and never makes one up.

mod error;
mod name;
mod session;
mod text;

use core::fmt;
use core::str::FromStr;

use sha2::Digest;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Builder;
use uuid::Uuid;

pub use self::error::IdError;
pub use self::name::Code;
pub use self::name::Lane;
pub use self::name::Name;
pub use self::session::SessionId;
pub(crate) use self::text::as_text;

/// What keys and nonces share: 128 bits from the system's CSPRNG, 32 hexadecimal digits on the wire.
macro_rules! nonce {
    (@common $(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Takes 16 bytes, which must come from the system's CSPRNG.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl Eq for $name {}

        impl PartialEq for $name {
            /// Takes the same time wherever the two differ.
            fn eq(&self, other: &Self) -> bool {
                self.0[..].ct_eq(&other.0[..]).into()
            }
        }

        impl core::hash::Hash for $name {
            fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl core::str::FromStr for $name {
            type Err = IdError;

            /// Parses 32 hexadecimal digits.
            ///
            /// # Errors
            ///
            /// [`IdError::Hex`].
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self)
            }
        }
    };
    ($(#[$doc:meta])* secret $name:ident) => {
        nonce!(@common $(#[$doc])* $name);

        impl $name {
            /// The 32 hexadecimal digits that go into a hello and into the client's own store. Never log them.
            #[must_use]
            pub fn reveal(&self) -> alloc::string::String {
                struct Digits<'a>(&'a [u8; 16]);
                impl core::fmt::Display for Digits<'_> {
                    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        write_hex(self.0, f)
                    }
                }
                alloc::format!("{}", Digits(&self.0))
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    };
    ($(#[$doc:meta])* $name:ident) => {
        nonce!(@common $(#[$doc])* $name);

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

nonce! {
    /// The secret that proves who owns a connection. Minted once by the client, kept as long as the identity lives.
    ///
    /// It travels in every hello and nowhere else: not in a URL, not in a log (`Debug` does not show it). Two keys are
    /// compared in constant time.
    secret ConnectionKey
}

nonce! {
    /// One life of a client machine: minted at its construction, never stored. A machine that was recreated or restored is
    /// another instance, and two copies that run at once tell each other apart by it.
    InstanceId
}

nonce! {
    /// The identity of one life of a connection's state on the server. Compared for equality only: another epoch means that
    /// nothing of this one continues.
    Epoch
}

nonce! {
    /// What a server asks another instance to repeat before it may take a connection over. It proves that the hello is not
    /// a delayed one of an instance that has died.
    Fence
}

impl ConnectionKey {
    /// The public name of the connection that this key owns.
    #[must_use]
    pub fn connection_id(&self) -> ConnectionId {
        let digest = Sha256::digest(self.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        ConnectionId(Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// The name of a connection: `cid-` and a UUID in lower case.
///
/// Derived from the key (the UUIDv8 of RFC 9562 made from the first 128 bits of its SHA-256), so that it can stand in
/// logs and proves nothing: a server checks it against the key in the same hello, and no table could be bound first by
/// somebody else. Upper case is accepted and normalised (S004-017); it never contains a colon (S004-022).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(Uuid);

impl ConnectionId {
    const PREFIX: &'static str = "cid-";

    /// Whether `key` owns this connection, decided in constant time.
    #[must_use]
    pub fn is_owned_by(&self, key: &ConnectionKey) -> bool {
        let derived = key.connection_id();
        derived.0.as_bytes()[..].ct_eq(&self.0.as_bytes()[..]).into()
    }
}

impl FromStr for ConnectionId {
    type Err = IdError;

    /// Parses `cid-` and 8-4-4-4-12 hexadecimal digits, in either case.
    ///
    /// # Errors
    ///
    /// [`IdError::Prefix`] or [`IdError::Uuid`].
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.get(..Self::PREFIX.len()) {
            Some(prefix) if prefix.eq_ignore_ascii_case(Self::PREFIX) => {}
            Some(_) | None => return Err(IdError::Prefix),
        }
        parse_uuid(&text[Self::PREFIX.len()..]).map(Self)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0.as_hyphenated())
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads 32 hexadecimal digits of either case.
fn parse_hex(text: &str) -> Result<[u8; 16], IdError> {
    fn digit(byte: u8) -> Result<u8, IdError> {
        match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            b'A'..=b'F' => Ok(byte - b'A' + 10),
            0..=u8::MAX => Err(IdError::Hex),
        }
    }
    let digits: &[u8; 32] = text.as_bytes().try_into().map_err(|_| IdError::Hex)?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

/// Writes 32 lower-case hexadecimal digits.
fn write_hex(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Parses the hyphenated form only: `Uuid::parse_str` would take braces, a URN and bare digits as well.
fn parse_uuid(text: &str) -> Result<Uuid, IdError> {
    if text.len() != 36 {
        return Err(IdError::Uuid);
    }
    Uuid::try_parse(text).map_err(|_| IdError::Uuid)
}

/// Names one message for ever, and is its idempotency key. A UUID of any version; an application may bring its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Uuid);

impl MessageId {
    /// Takes any UUID.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    /// Parses 8-4-4-4-12 hexadecimal digits, in either case.
    ///
    /// # Errors
    ///
    /// [`IdError::Uuid`].
    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_uuid(text).map(Self)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

as_text!(Epoch, MessageId, SessionId);

/// Mints the ids of one machine's messages: 74 bits that are its own, then a counter of 48.
///
/// The machine's own bits are hashed from the 128-bit nonce of its life, so two machines never share ids, while a message
/// costs no system call and the same inputs give the same ids. UUIDv8 (RFC 9562, 5.8) is the version for such layouts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageIds {
    own: [u8; 10],
    minted: u64,
}

impl MessageIds {
    /// Ids for the life that `nonce` names. The nonce must be unique; it cannot be read off the ids.
    #[must_use]
    pub fn new(nonce: &[u8; 16]) -> Self {
        Self::labelled(b"reattach message ids", nonce)
    }

    /// The same for ids of something else: those of one nonce and different labels are distinct.
    pub(crate) fn labelled(label: &[u8], nonce: &[u8; 16]) -> Self {
        let mut hash = Sha256::new();
        hash.update(label);
        hash.update(nonce);
        let digest = hash.finalize();
        let mut own = [0; 10];
        own.copy_from_slice(&digest[..10]);
        Self { own, minted: 0 }
    }

    /// The next id. Distinct for the first 2^48 messages of one life, which at a million a second is nine years.
    pub fn mint(&mut self) -> MessageId {
        self.minted += 1;
        let mut bytes = [0; 16];
        bytes[..10].copy_from_slice(&self.own);
        bytes[10..].copy_from_slice(&self.minted.to_be_bytes()[2..]);
        MessageId(Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// Numbers one live transport within one machine. An input that names a dead one changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportId(pub u64);

/// Number of a reliable message within one epoch and direction: 1 to [`Seq::MAX`], given at its first write.
///
/// As a watermark ("every number up to this one") 0 is a valid value and means "none yet".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

/// Number of a change to a settlement report within one epoch and direction; 0 means "no change yet".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReportNo(u64);

/// Numbers the hellos of one instance, from 1. A server takes only one above the highest that it has seen attach, so that a
/// delayed hello can never evict its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Attempt(u64);

/// Numbers pings within one transport, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PingNo(u64);

macro_rules! wire_number {
    ($($name:ident),+) => {$(
        impl $name {
            /// Nothing yet.
            pub const ZERO: Self = Self(0);
            /// The largest number that may stand on the wire: 2^53 - 1, the largest that every JSON parser keeps exact.
            pub const MAX: Self = Self((1 << 53) - 1);

            /// The number as given, or `None` above [`Self::MAX`].
            #[must_use]
            pub const fn new(number: u64) -> Option<Self> {
                if number <= Self::MAX.0 { Some(Self(number)) } else { None }
            }

            /// The plain number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The next number, staying at [`Self::MAX`] once there.
            #[must_use]
            pub const fn next(self) -> Self {
                if self.0 < Self::MAX.0 { Self(self.0 + 1) } else { self }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )+};
}

wire_number!(Seq, ReportNo, Attempt, PingNo);

/// Whom the application took the other side for when it authenticated the hello.
///
/// A connection belongs to one principal for life. Where nothing is authenticated each connection is its own principal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// The name that the application's authentication returned.
    Named(Name),
    /// No authentication: the connection stands for itself.
    Connection(ConnectionId),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => fmt::Display::fmt(name, f),
            Self::Connection(id) => fmt::Display::fmt(id, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::format;
    use alloc::string::ToString;

    use super::*;

    const KEY: ConnectionKey = ConnectionKey::from_bytes([7; 16]);

    #[test]
    fn a_connection_id_is_derived_from_the_key_alone() {
        assert_eq!(KEY.connection_id(), KEY.connection_id());
        assert_ne!(KEY.connection_id(), ConnectionKey::from_bytes([8; 16]).connection_id());
        assert!(KEY.connection_id().is_owned_by(&KEY));
        assert!(!KEY.connection_id().is_owned_by(&ConnectionKey::from_bytes([8; 16])));
    }

    // S004-016, S004-017, S004-022
    #[test]
    fn a_connection_id_is_strict_in_shape_and_indifferent_to_case() {
        let id = KEY.connection_id();
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        assert_eq!(text, text.to_lowercase());
        assert!(!text.contains(':'));
        for any_version in ["1", "4", "7"] {
            let other = format!("cid-01234567-89ab-{any_version}def-8123-456789abcdef");
            assert_eq!(other.parse::<ConnectionId>().expect("any version").to_string(), other);
        }
        let dashes = format!("cid-{}", "-".repeat(36));
        let digits = format!("cid-{}", "0".repeat(36));
        for (bad, why) in [
            (dashes.as_str(), IdError::Uuid),
            (digits.as_str(), IdError::Uuid),
            (&text[4..], IdError::Prefix),
            (&format!("{text}0"), IdError::Uuid),
            (&format!("{text}\n"), IdError::Uuid),
            ("cid-{1234567-89ab-4def-8123-456789abcde}", IdError::Uuid),
            ("cid-\u{661}1234567-89ab-4def-8123-456789abcde", IdError::Uuid),
            ("cid", IdError::Prefix),
            ("ci\u{e9}-", IdError::Prefix),
            ("", IdError::Prefix),
        ] {
            assert_eq!(bad.parse::<ConnectionId>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_not_shown_by_debug() {
        let shown = format!("{KEY:?}");
        assert!(!shown.contains("07"), "{shown}");
    }

    #[test]
    fn a_nonce_is_32_hexadecimal_digits() {
        let epoch = Epoch::from_bytes([0xab; 16]);
        assert_eq!(epoch.to_string(), "ab".repeat(16));
        assert_eq!("AB".repeat(16).parse(), Ok(epoch));
        for bad in ["", "ab", &"ab".repeat(17), &"zz".repeat(16), &"\u{e9}".repeat(16), &"+1".repeat(16)] {
            assert_eq!(bad.parse::<Epoch>(), Err(IdError::Hex), "{bad:?}");
        }
    }

    #[test]
    fn a_number_stays_within_what_json_keeps_exact() {
        assert_eq!(Seq::new(Seq::MAX.get()), Some(Seq::MAX));
        assert_eq!(Seq::new(Seq::MAX.get() + 1), None);
        assert_eq!(Seq::MAX.next(), Seq::MAX);
        assert_eq!(Seq::ZERO.next().get(), 1);
    }

    #[test]
    fn a_name_has_one_to_128_bytes() {
        assert_eq!(Name::new(""), Err(IdError::Empty));
        assert_eq!(Name::new(&"x".repeat(129)), Err(IdError::TooLong { limit: 128 }));
        assert_eq!(Name::new(&"x".repeat(128)).expect("128 bytes").as_str().len(), 128);
    }

    // S001-09, S004-079
    #[test]
    fn minted_ids_are_distinct_uuids_within_and_across_lives() {
        let mut a = MessageIds::new(&[1; 16]);
        let mut b = MessageIds::new(&[2; 16]);
        let ids: BTreeSet<_> = (0..10_000).flat_map(|_| [a.mint(), b.mint()]).collect();
        assert_eq!(ids.len(), 20_000);
        for id in ids.iter().take(100) {
            assert_eq!(id.to_string().parse(), Ok(*id));
            assert_eq!(id.as_uuid().get_version_num(), 8);
        }
    }

    #[test]
    fn the_same_life_mints_the_same_ids() {
        assert_eq!(MessageIds::new(&[1; 16]).mint(), MessageIds::new(&[1; 16]).mint());
    }
}
