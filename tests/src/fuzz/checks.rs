//! What holds of one side's connection after every operation, whoever talks to it.

use reattach_core::connection;
use reattach_core::connection::Connection;

use crate::oracle::within_bounds;

/// An application asked for what waits. Nothing comes although something waited only where all that waited is settled by what
/// was decided about the same name before.
pub(super) fn taken(had: bool, was_taken: bool, has: bool) {
    assert!(had || !was_taken, "only what waits can be taken");
    assert!(!had || was_taken || !has, "what waits can be taken");
}

/// Caps are kept, watermarks are in order, and the outbox holds exactly the messages whose outcome was not told.
pub(super) fn connection(connection: &Connection, config: &connection::Config, outstanding: usize) {
    if let Err(broken) = within_bounds(connection, &config.link, outstanding) {
        panic!("{broken}");
    }
}

/// What was handed to an adapter and has not left it is bounded: messages stop at the budget, the last batch of them going
/// beyond it, and answers stop at twice the budget.
pub(super) fn held(bytes: u64, config: &connection::Config) {
    let link = &config.link;
    let messages = link.outbox.bytes + link.max_payload + u64::from(link.outbox.count) * ENVELOPE;
    let ephemerals = link.ephemeral_bytes as u64 + link.max_payload + link.ephemerals as u64 * ENVELOPE;
    let bound = 2 * config.flow.write_budget + messages + ephemerals + 4 * ENVELOPE;
    assert!(bytes <= bound, "{bytes} bytes are held where {bound} are the most");
}

/// More than what any frame adds to its payload here, where names are short.
const ENVELOPE: u64 = 128;
