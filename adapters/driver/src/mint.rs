//! Secrets, of the runtime's random bytes: the system's CSPRNG, but in a simulation. The core makes up none.

use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::server::Mint;

use crate::runtime::Runtime;

/// A new connection key, from the system's CSPRNG: whoever has it owns the connection.
#[must_use]
pub fn connection_key() -> ConnectionKey {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    ConnectionKey::from_bytes(bytes)
}

/// Fills in random bytes from the system's CSPRNG.
pub(crate) fn fill(bytes: &mut [u8]) {
    // A system that cannot give random bytes cannot do anything securely; going on would be worse than stopping.
    getrandom::fill(bytes).expect("the system's CSPRNG works");
}

fn bytes<const N: usize>(runtime: &dyn Runtime) -> [u8; N] {
    let mut bytes = [0; N];
    runtime.entropy(&mut bytes);
    bytes
}

pub(crate) fn key(runtime: &dyn Runtime) -> ConnectionKey {
    ConnectionKey::from_bytes(bytes(runtime))
}

pub(crate) fn instance(runtime: &dyn Runtime) -> InstanceId {
    InstanceId::from_bytes(bytes(runtime))
}

/// What names the requests of one connection's life.
pub(crate) fn nonce(runtime: &dyn Runtime) -> [u8; 16] {
    bytes(runtime)
}

/// A seed for jitter.
pub(crate) fn seed(runtime: &dyn Runtime) -> u64 {
    u64::from_le_bytes(bytes(runtime))
}

pub(crate) fn for_transport(runtime: &dyn Runtime) -> Mint {
    Mint { epoch: Epoch::from_bytes(bytes(runtime)), fence: Fence::from_bytes(bytes(runtime)) }
}
