//! What holds of one side's connection after every operation, whoever talks to it.

use reattach_core::connection;
use reattach_core::connection::Connection;

/// Caps are kept, watermarks are in order, and the outbox holds exactly the messages whose outcome was not told.
pub(super) fn connection(connection: &Connection, config: &connection::Config, outstanding: usize) {
    let (link, stats) = (connection.link(), connection.stats());
    let (outbox, inbox) = (link.outbox(), link.inbox());
    assert_eq!(stats.queued + stats.written, outstanding, "a message is in the outbox until its outcome is told");
    assert_eq!(outbox.usage().count() as usize, outstanding, "and holds its place as long");
    assert!(outbox.usage().count() <= config.link.outbox.count && outbox.usage().bytes() <= config.link.outbox.bytes);
    assert!(inbox.usage().count() <= config.link.window.count && inbox.usage().bytes() <= config.link.window.bytes);
    let (received, settled) = outbox.taken();
    assert!(settled <= received && received <= outbox.sent(), "a peer cannot have what was not sent");
    assert!(outbox.base() <= outbox.sent().next() && stats.written as u64 <= outbox.sent().get());
    let settlement = inbox.settlement();
    let untaken = settlement.received().get() - settlement.settled().get();
    assert_eq!(u64::from(inbox.usage().count()), untaken, "what came and was not taken waits");
    assert_eq!(inbox.has_message(), untaken > 0);
    let counters = link.counters();
    assert!(counters.handed_over <= counters.received && counters.rewritten <= counters.written);
    assert!(connection.transport().is_none() || connection.epoch().is_some(), "what is attached has an epoch");
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
