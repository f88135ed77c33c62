//! The transports that a registry counts, and those of them that are not attached yet: the part of a server that strangers
//! reach.
//!
//! A transport costs a stranger nothing, so here it costs little: a few hundred bytes, and no more than a frame may have
//! while its hello waits for the application's word; one deadline for everything up to an accepted hello, and a place under
//! the caps.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use core::net::IpAddr;
use core::net::Ipv6Addr;

use crate::expiring::ExpiringMap;
use crate::id::Epoch;
use crate::id::Fence;
use crate::id::InstanceId;
use crate::id::Principal;
use crate::id::TransportId;
use crate::time::Instant;
use crate::wire::Hello;

/// What only the system's CSPRNG may make, for one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mint {
    /// The epoch to begin, should this transport's hello begin one.
    pub epoch: Epoch,
    /// The fence to ask for, should this transport's hello be of another instance.
    pub fence: Fence,
}

/// Whose credentials came with a hello, as the application says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Admission {
    /// Whose.
    pub principal: Principal,
    /// When they run out, if they do. The transport is closed then, and the client comes back with fresh ones or not at all.
    pub expires: Option<Instant>,
}

impl From<Principal> for Admission {
    fn from(principal: Principal) -> Self {
        Self { principal, expires: None }
    }
}

/// How far a transport has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// No hello yet.
    Silent,
    /// The application looks at the credentials.
    Authenticating { hello: Box<Hello> },
    /// Another instance than the one that was known then, the rival, was asked to repeat its hello.
    Challenged { hello: Box<Hello>, admission: Admission, rival: InstanceId },
    /// The hello is good, and waits until the connection's peer has answered to something earlier.
    Queued { hello: Box<Hello>, admission: Admission },
    /// Attached, or about to be: the peer has it.
    Attached,
}

/// One transport.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Visitor {
    pub(super) address: Option<IpAddr>,
    pub(super) mint: Mint,
    pub(super) stage: Stage,
    /// Bytes written on it by the registry.
    pub(super) produced: usize,
}

impl Visitor {
    /// The hello that waits for the connection's peer.
    pub(super) fn queued(&self) -> Option<&Hello> {
        if let Stage::Queued { hello, .. } = &self.stage { Some(hello) } else { None }
    }
}

/// All live transports of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Visitors {
    visitors: BTreeMap<TransportId, Visitor>,
    /// When each that is not attached is refused.
    deadlines: ExpiringMap<TransportId, ()>,
    /// How many there are from each address; none at 0.
    by_address: BTreeMap<IpAddr, usize>,
}

impl Visitors {
    /// Counts a transport in, which has until `deadline` to be attached.
    pub(super) fn admit(&mut self, transport: TransportId, address: Option<IpAddr>, mint: Mint, deadline: Instant) {
        let address = address.map(network_of);
        if let Some(address) = address {
            *self.by_address.entry(address).or_default() += 1;
        }
        self.visitors.insert(transport, Visitor { address, mint, stage: Stage::Silent, produced: 0 });
        self.deadlines.insert(transport, (), deadline);
    }

    /// Counts a transport out.
    pub(super) fn remove(&mut self, transport: TransportId) -> Option<Visitor> {
        let visitor = self.visitors.remove(&transport)?;
        self.deadlines.remove(&transport);
        if let Some(address) = visitor.address {
            let count = self.by_address.get_mut(&address).expect("every visitor is counted under its address");
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(visitor)
    }

    /// The transport is attached: strangers' deadline is off.
    pub(super) fn on_attached(&mut self, transport: TransportId) {
        self.deadlines.remove(&transport);
        if let Some(visitor) = self.visitors.get_mut(&transport) {
            visitor.stage = Stage::Attached;
        }
    }

    pub(super) fn get(&self, transport: TransportId) -> Option<&Visitor> {
        self.visitors.get(&transport)
    }

    pub(super) fn get_mut(&mut self, transport: TransportId) -> Option<&mut Visitor> {
        self.visitors.get_mut(&transport)
    }

    /// How many come from the same network as `address`.
    pub(super) fn from(&self, address: IpAddr) -> usize {
        self.by_address.get(&network_of(address)).copied().unwrap_or(0)
    }

    /// The transports that were let in, are not attached yet, and of which `which` holds.
    pub(super) fn admitted(&self, which: impl Fn(&Hello, &Admission) -> bool) -> Vec<TransportId> {
        let visitors = self.visitors.iter().filter(|(_, visitor)| match &visitor.stage {
            Stage::Challenged { hello, admission, .. } | Stage::Queued { hello, admission } => which(hello, admission),
            Stage::Silent | Stage::Authenticating { .. } | Stage::Attached => false,
        });
        visitors.map(|(transport, _)| *transport).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.visitors.len()
    }

    /// The next transport whose deadline has passed.
    pub(super) fn take_late(&mut self, now: Instant) -> Option<TransportId> {
        self.deadlines.take_expired(now).map(|(transport, ())| transport)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.poll_timeout()
    }
}

/// What counts as one address: an IPv4 address, or the 64-bit network that one IPv6 subscriber is given whole. An IPv4 address
/// mapped into IPv6 is the IPv4 address.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINT: Mint = Mint { epoch: Epoch::from_bytes([1; 16]), fence: Fence::from_bytes([2; 16]) };

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn transports_are_counted_by_network_and_counted_out() {
        let mut visitors = Visitors::default();
        for (number, from) in
            ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::ffff:1"].iter().enumerate()
        {
            visitors.admit(TransportId(number as u64), Some(address(from)), MINT, Instant::from_secs(1));
        }
        assert_eq!(visitors.from(address("10.0.0.1")), 2);
        assert_eq!(visitors.from(address("10.0.0.2")), 1);
        assert_eq!(visitors.from(address("2001:db8::2")), 2);
        assert_eq!(visitors.from(address("2001:db8:0:1::2")), 0);
        for number in 0..5 {
            assert!(visitors.remove(TransportId(number)).is_some());
            assert!(visitors.remove(TransportId(number)).is_none());
        }
        assert_eq!(visitors, Visitors::default());
    }

    #[test]
    fn an_attached_transport_has_no_deadline() {
        let mut visitors = Visitors::default();
        visitors.admit(TransportId(1), None, MINT, Instant::from_secs(1));
        visitors.admit(TransportId(2), None, MINT, Instant::from_secs(1));
        visitors.on_attached(TransportId(1));
        assert_eq!(visitors.take_late(Instant::from_secs(1)), Some(TransportId(2)));
        assert_eq!(visitors.take_late(Instant::from_secs(1)), None);
        assert_eq!(visitors.len(), 2);
    }
}
