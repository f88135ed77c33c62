//! What holds of one side's connection after every operation, whoever talks to it.

use reattach_core::connection;
use reattach_core::connection::Connection;
use reattach_core::link::Acceptance;
use reattach_core::link::Settlement;

/// An application asked for what waits. Nothing comes although something waited only where all that waited is settled by what
/// was decided about the same name before.
pub(super) fn taken(had: bool, was_taken: bool, has: bool) {
    assert!(had || !was_taken, "only what waits can be taken");
    assert!(!had || was_taken || !has, "what waits can be taken");
}

/// Caps are kept, watermarks are in order, and the outbox holds exactly the messages whose outcome was not told.
pub(super) fn connection(connection: &Connection, config: &connection::Config, outstanding: usize) {
    let (link, stats) = (connection.link(), connection.stats());
    let (outbox, inbox) = (link.outbox(), link.inbox());
    assert_eq!(stats.queued + stats.written, outstanding, "a message is in the outbox until its outcome is told");
    assert!(
        outbox.usage().count() as usize >= outstanding,
        "and holds its place as long, or until the peer has answered"
    );
    assert!(outbox.usage().count() <= config.link.outbox.count && outbox.usage().bytes() <= config.link.outbox.bytes);
    assert!(inbox.usage().count() <= config.link.window.count && inbox.usage().bytes() <= config.link.window.bytes);
    let (received, settled) = outbox.flight().taken();
    assert!(settled <= received && received <= outbox.flight().sent(), "a peer cannot have what was not sent");
    assert!(
        outbox.flight().base() <= outbox.flight().sent().next() && stats.written as u64 <= outbox.flight().sent().get()
    );
    let settlement = inbox.settlement();
    let untaken = settlement.received().get() - settlement.settled().get();
    let is_automatic = config.link.acceptance == Acceptance::Automatic;
    assert!(!is_automatic || inbox.usage().count() > 0 || untaken == 0, "what came and was not taken waits");
    assert!(settlement.report().except.len() <= Settlement::MAX_LISTED, "the list fits into a frame");
    let counters = link.counters();
    assert!(!is_automatic || counters.handed_over <= counters.received, "only a deferred message is handed over twice");
    assert!(counters.rewritten <= counters.written);
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
