//! What machines take for random, and that a body can tell apart.

use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::server::Mint;

/// Makes bytes that never come again.
#[derive(Debug, Default)]
pub(super) struct Minter {
    minted: u64,
}

impl Minter {
    /// Sixteen of them.
    pub(super) fn bytes(&mut self) -> [u8; 16] {
        self.minted += 1;
        let mut bytes = [0xa5; 16];
        bytes[8..].copy_from_slice(&self.minted.to_be_bytes());
        bytes
    }

    /// What a server is given for a transport.
    pub(super) fn mint(&mut self) -> Mint {
        Mint { epoch: Epoch::from_bytes(self.bytes()), fence: Fence::from_bytes(self.bytes()) }
    }

    /// How often bytes were made.
    pub(super) const fn count(&self) -> u64 {
        self.minted
    }
}
