//! What one machine shows of itself: its bounds, and whether two of them are of one mind.

use reattach_core::connection::Connection;
use reattach_core::link;
use reattach_core::link::Acceptance;
use reattach_core::link::Settlement;

use super::Checked;
use super::check;

/// Caps are kept, watermarks are in order, and the outbox holds exactly the messages whose outcome was not told.
///
/// # Errors
///
/// What contradicts the design.
pub fn within_bounds(connection: &Connection, config: &link::Config, outstanding: usize) -> Checked {
    let (link, stats) = (connection.link(), connection.stats());
    let (outbox, inbox) = (link.outbox(), link.inbox());
    let flight = outbox.flight();
    let (held, kept) = (outbox.usage(), inbox.usage());
    let in_outbox = stats.queued + stats.written;
    check(in_outbox == outstanding, "S4", || {
        format!("{in_outbox} messages are in the outbox, and {outstanding} have no outcome")
    })?;
    check(held.count() as usize >= outstanding, "B1", || {
        format!("{outstanding} messages hold {} places", held.count())
    })?;
    let is_bounded = held.count() <= config.outbox.count
        && held.bytes() <= config.outbox.bytes
        && kept.count() <= config.window.count
        && kept.bytes() <= config.window.bytes;
    check(is_bounded, "B1", || format!("more is held than the bounds allow: {stats:?}"))?;
    let (received, settled) = flight.taken();
    let is_ordered = settled <= received && received <= flight.sent() && flight.base() <= flight.sent().next();
    check(is_ordered, "L2", || format!("the watermarks are out of order: {flight:?}"))?;
    let settlement = inbox.settlement();
    let untaken = settlement.received().get().checked_sub(settlement.settled().get());
    let is_automatic = config.acceptance == Acceptance::Automatic;
    let is_kept = untaken.is_some() && (!is_automatic || kept.count() > 0 || untaken == Some(0));
    check(is_kept, "S1", || format!("what came and was not taken waits: {settlement:?}"))?;
    let listed = settlement.report().except.len();
    check(listed <= Settlement::MAX_LISTED, "B1", || format!("{listed} exceptions are listed"))?;
    let counters = link.counters();
    let are_counted = !is_automatic || counters.handed_over <= counters.received;
    check(are_counted, "S1", || format!("more is handed over than came: {counters:?}"))?;
    let is_written = stats.written as u64 <= flight.sent().get() && counters.rewritten <= counters.written;
    check(is_written, "L2", || format!("more is said to be written than was: {stats:?}"))?;
    let is_named = connection.transport().is_none() || connection.epoch().is_some();
    check(is_named, "L2", || format!("what is attached has no epoch: {connection:?}"))
}

/// Both sides of a connection are of one mind, and owe each other nothing.
///
/// # Errors
///
/// What contradicts the design.
pub fn agree(a: &Connection, b: &Connection) -> Checked {
    check(a.epoch() == b.epoch(), "L2", || format!("two epochs: {:?} and {:?}", a.epoch(), b.epoch()))?;
    for (from, to) in [(a.link(), b.link()), (b.link(), a.link())] {
        let settlement = to.inbox().settlement();
        let (sent, taken) = (from.outbox().flight().sent(), from.outbox().flight().taken());
        let is_empty = from.outbox().is_empty() && from.outbox().usage().count() == 0;
        check(is_empty, "L2", || format!("the outbox is not empty: {:?}", from.outbox()))?;
        let is_known = taken == (settlement.received(), settlement.settled()) && taken == (sent, sent);
        check(is_known, "L2", || format!("of {sent:?} one knows {taken:?}, the other {settlement:?}"))?;
        check(to.inbox().usage().count() == 0, "L2", || format!("something waits to be taken: {:?}", to.inbox()))?;
    }
    Ok(())
}
