//! Secrets, from the system's CSPRNG. The core makes up none.

use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::server::Mint;

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // A system that cannot give random bytes cannot do anything securely; going on would be worse than stopping.
    getrandom::fill(&mut bytes).expect("the system's CSPRNG works");
    bytes
}

/// A new connection key: whoever has it owns the connection.
#[must_use]
pub fn connection_key() -> ConnectionKey {
    ConnectionKey::from_bytes(bytes())
}

pub(crate) fn instance() -> InstanceId {
    InstanceId::from_bytes(bytes())
}

/// A seed for jitter.
pub(crate) fn seed() -> u64 {
    u64::from_le_bytes(bytes())
}

pub(crate) fn for_transport() -> Mint {
    Mint { epoch: Epoch::from_bytes(bytes()), fence: Fence::from_bytes(bytes()) }
}
