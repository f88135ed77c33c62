//! What comes too early, too late, too often or for no reason.

use std::time::Duration;

use harness::oracle::Broken;
use harness::oracle::Checked;
use harness::oracle::End;
use harness::oracle::Fault;
use harness::oracle::Restart;
use harness::oracle::Why;
use harness::world::key;
use reattach_core::client::Closed;
use reattach_core::client::Event;
use reattach_core::id::Name;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::link;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::Ended;
use reattach_core::reconnect::GiveUp;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::server::ReceiptsConfig;
use reattach_core::server::Refusal;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Unfinished;

use crate::story::CLIENT;
use crate::story::LIVE;
use crate::story::NOW;
use crate::story::SECOND;
use crate::story::Story;
use crate::story::all_break;
use crate::story::cid;
use crate::story::defer;
use crate::story::not_delivered;
use crate::story::plain;
use crate::story::server;
use crate::story::then;
use crate::story::unknown;

const PING: &str = "{\"t\":\"ping\",\"n\":";

fn ping(n: u64) -> String {
    format!("{PING}{n}}}")
}

fn message(seq: u64, number: u32) -> String {
    format!("{{\"t\":\"msg\",\"seq\":{seq},\"d\":[{number},\"\"]}}")
}

#[test]
fn j1_a_receipt_is_there_unless_something_took_it() {
    // A message is taken, another one is written, the server lets the connection expire, and the client comes back.
    let comes_back = |restart: Option<Restart>, is_joined: bool, after: Duration| {
        then(Story::sent(&[0, 1]), |it| {
            if is_joined {
                it.take(0)?;
            }
            it.oracle.on_fault(LIVE, Fault::Cut);
            it.peer(&PeerEvent::Detached { ended: Ended::Stalled })?;
            it.now = it.now + 60 * SECOND;
            it.registry(&RegistryEvent::Expired { cid: cid() })?;
            it.registry(&RegistryEvent::Removed { cid: cid() })?;
            if let Some(how) = restart {
                it.oracle.on_server_restarted(how, None, it.now);
            }
            it.now = it.now + after;
            it.registry(&RegistryEvent::Registered { cid: cid(), principal: Principal::Connection(cid()) })?;
            it.attach(2, false)?;
            it.told(1, &unknown(Unknown::NoReceipt))
        })
    };
    let day = ReceiptsConfig::default().ttl;
    // What took too long is another contradiction.
    let is_late = |result: Checked| matches!(result, Err(Broken { rule: "L1", .. }));

    all_break("J1", vec![("a receipt is lost", comes_back(None, true, SECOND))]);
    all_break("J1", vec![("over a restart", comes_back(Some(Restart::Current), true, SECOND))]);
    assert_eq!(
        comes_back(Some(Restart::Lost), true, SECOND),
        Ok(()),
        "a server that has lost its state has no receipt"
    );
    assert_eq!(comes_back(None, false, SECOND), Ok(()), "a server that never heard of the epoch keeps no receipt");
    assert!(is_late(comes_back(None, true, day)), "a receipt is kept for a day");
}

#[test]
fn j1_nobody_asks_again_before_the_answer_about_what_was_asked() {
    let asks_twice = |between: &str, fault: Option<Fault>| {
        then(Story::new(), |it| {
            it.oracle.on_write(LIVE, End::Client, &ping(1))?;
            if let Some(fault) = fault {
                it.oracle.on_fault(LIVE, fault);
            }
            let end = if between.contains("pong") { End::Server } else { End::Client };
            it.oracle.on_write(LIVE, end, between)?;
            it.oracle.on_write(LIVE, End::Client, &ping(2))
        })
    };
    let ack = "{\"t\":\"ack\",\"received\":0,\"settled\":0}";
    all_break(
        "J1",
        vec![("unanswered", asks_twice(ack, None)), ("while it is slow", asks_twice(ack, Some(Fault::Slow)))],
    );
    assert_eq!(asks_twice(&message(1, 0), None), Ok(()), "about a message that was written since");
    assert_eq!(asks_twice("{\"t\":\"void\",\"seq\":1}", None), Ok(()), "about one that was withdrawn since");
    assert_eq!(asks_twice("{\"t\":\"pong\",\"n\":1}", None), Ok(()), "after the answer");
    assert_eq!(asks_twice(ack, Some(Fault::Lost)), Ok(()), "the question may be lost");
    assert_eq!(asks_twice(ack, Some(Fault::Paused)), Ok(()), "who slept asks at once");
}

#[test]
fn j1_what_is_put_off_stays_away_for_so_long() {
    let comes_after = |wait: Duration, restart: bool| {
        then(Story::decided(&plain(), &defer()), |it| {
            if restart {
                it.oracle.on_server_restarted(Restart::Current, None, NOW);
            }
            it.now = NOW + wait;
            it.hand(0, 2)
        })
    };
    all_break(
        "J1",
        vec![
            ("a second early", comes_after(2 * SECOND, false)),
            ("a program that goes on from that very state", comes_after(2 * SECOND, true)),
        ],
    );
    assert_eq!(comes_after(3 * SECOND, false), Ok(()));
    assert_eq!(comes_after(3 * SECOND, true), Ok(()));
}

#[test]
fn j1_an_attempt_is_lost_where_a_message_was_the_first_on_its_wire() {
    let attempts = u64::from(link::Config::default().attempts);
    // Two messages are written on each of so many wires, which are cut, and nothing comes of them.
    let lost_on = |wires: u64, number: u32, first: u32, second: u32| {
        then(Story::sent(&[0, 1]), |it| {
            for wire in LIVE..LIVE + wires {
                if wire > LIVE {
                    it.attach(wire, true)?;
                }
                it.oracle.on_write(wire, End::Client, &message(1, first))?;
                it.oracle.on_write(wire, End::Client, &message(2, second))?;
                it.oracle.on_fault(wire, Fault::Cut);
                it.oracle.on_client_event(0, Some(wire), &Event::Detached { ended: Ended::Stalled }, NOW)?;
                it.oracle.on_peer_event(cid(), Some(wire), &PeerEvent::Detached { ended: Ended::Stalled }, NOW)?;
            }
            it.told(number, &not_delivered(NotDelivered::Attempts))
        })
    };
    assert_eq!(lost_on(attempts, 0, 0, 1), Ok(()));
    all_break(
        "J1",
        vec![
            ("one attempt early", lost_on(attempts - 1, 0, 0, 1)),
            ("the second one, that cost the first one its attempts", lost_on(attempts, 1, 0, 1)),
        ],
    );
}

#[test]
fn s1_what_is_sent_again_comes_in_order() {
    let idempotent = || {
        let mut message = plain();
        message.is_idempotent = true;
        message
    };
    let again = |first: u32, second: u32| {
        then(Story::new(), |it| {
            it.send(0, &idempotent())?;
            it.send(1, &idempotent())?;
            it.oracle.on_server_restarted(Restart::Lost, None, NOW);
            it.oracle.on_fault(LIVE, Fault::Crashed);
            it.client(&Event::Detached { ended: Ended::Stalled })?;
            it.registry(&RegistryEvent::Registered { cid: cid(), principal: Principal::Connection(cid()) })?;
            it.attach(2, false)?;
            it.take(first)?;
            it.take(second)
        })
    };
    assert_eq!(again(0, 1), Ok(()));
    all_break("S1", vec![("in reverse", again(1, 0))]);
}

#[test]
fn s1_nothing_ephemeral_waits_for_a_transport() {
    let sends_while = |is_attached: bool| {
        then(Story::new(), |it| {
            if !is_attached {
                it.oracle.on_fault(LIVE, Fault::Cut);
                it.client(&Event::Detached { ended: Ended::Stalled })?;
            }
            it.oracle.on_ephemeral(CLIENT, 0)
        })
    };
    assert_eq!(sends_while(true), Ok(()));
    all_break("S1", vec![("queued", sends_while(false))]);
}

#[test]
fn e1_what_was_taken_is_said_with_the_next_text_and_soon() {
    let says_after = |wait: Duration, text: &str| {
        then(Story::sent(&[0]), |it| {
            it.take(0)?;
            it.oracle.on_write_at(LIVE, End::Server, text, Duration::ZERO, NOW + wait)
        })
    };
    let (ack, soon) = ("{\"t\":\"ack\",\"received\":1,\"settled\":1}", link::Config::default().ack_delay);
    assert_eq!(says_after(soon, ack), Ok(()));
    assert_eq!(says_after(Duration::ZERO, &ping(1)), Ok(()), "a sign of life may go out alone");
    all_break(
        "E1",
        vec![
            ("too late", says_after(soon + Duration::from_micros(1), ack)),
            ("not at all", says_after(Duration::ZERO, &message(1, 9))),
        ],
    );
}

#[test]
fn l1_whoever_closes_has_ended_in_time() {
    let ends_after = |wait: Duration| {
        then(Story::new(), |it| {
            it.oracle.on_server_command(cid(), Some(Why::Closed));
            it.oracle.on_patience(server(), NOW + 3 * SECOND);
            it.now = NOW + wait;
            it.registry(&RegistryEvent::Removed { cid: cid() })?;
            it.peer(&PeerEvent::Closed { reason: PeerClosed::Cut { unfinished: Unfinished::default() } })
        })
    };
    let never = then(Story::new(), |it| {
        it.oracle.on_patience(CLIENT, NOW + 3 * SECOND);
        it.oracle.check_time(NOW + 5 * SECOND)
    });
    assert_eq!(ends_after(4 * SECOND), Ok(()), "with a second for what was stopped");
    all_break("L1", vec![("late", ends_after(5 * SECOND)), ("never", never)]);
}

#[test]
fn j1_who_says_that_nothing_was_left_had_nothing_left() {
    let closes = |told: Option<Outcome>, reason: Closed| {
        then(Story::sent(&[0]), |it| {
            it.oracle.on_client_command(0, true);
            if let Some(outcome) = told {
                it.told(0, &outcome)?;
            }
            it.client(&Event::Closed { reason })
        })
    };
    let closed = || Some(unknown(Unknown::Closed));
    assert_eq!(closes(closed(), Closed::Cut), Ok(()));
    all_break("J1", vec![("lost by it", closes(closed(), Closed::Flushed)), ("open", closes(None, Closed::Flushed))]);
}

#[test]
fn j1_tries_are_counted_from_the_last_wire_that_was_good_for_something() {
    let gives_up_after = |ends: u64, is_heard: bool| {
        then(Story::new(), |it| {
            it.oracle.on_fault(LIVE, Fault::Cut);
            it.client(&Event::Detached { ended: Ended::Stalled })?;
            for wire in 2..=ends {
                it.attach(wire, true)?;
                if is_heard {
                    it.oracle.on_write(wire, End::Client, "{\"t\":\"pong\",\"n\":1}")?;
                }
                it.oracle.on_fault(wire, Fault::Cut);
                it.oracle.on_client_event(0, Some(wire), &Event::Detached { ended: Ended::Stalled }, NOW)?;
            }
            it.client(&Event::Failed { reason: GiveUp::Exhausted { attempts: 2, last: Ended::Stalled } })
        })
    };
    assert_eq!(gives_up_after(3, false), Ok(()), "a first try and two more");
    all_break("J1", vec![("too early", gives_up_after(2, false)), ("of its whole life", gives_up_after(4, true))]);
}

#[test]
fn j1_a_principal_is_refused_for_its_own_connections_only() {
    let refused = |who: &str, principals: [&str; 2]| {
        then(Story::new(), |it| {
            it.oracle.on_fault(LIVE, Fault::Cut);
            for (byte, principal) in (7..).zip(principals) {
                let cid = key(byte).connection_id();
                let principal = Principal::Named(Name::new(principal).expect("a name"));
                it.registry(&RegistryEvent::Registered { cid, principal })?;
            }
            it.oracle.on_asked(2, 0);
            it.oracle.on_accepted(2);
            it.oracle.on_admitted(2, Principal::Named(Name::new(who).expect("a name")));
            let refusal = Refusal::TooMany { of: "of this principal" };
            it.registry(&RegistryEvent::Refused { transport: TransportId(2), refusal })
        })
    };
    assert_eq!(refused("a", ["a", "a"]), Ok(()));
    all_break("J1", vec![("each has one", refused("a", ["a", "b"])), ("another has two", refused("b", ["a", "a"]))]);
}
