//! The oracle finds what breaks the promise: for each rule that it knows stories that break it, each one step away from one
//! that does not. An oracle that accepts everything would prove nothing (R-V5).

mod late;
mod story;

use harness::oracle::End;
use harness::oracle::Fault;
use harness::oracle::Party;
use harness::oracle::Restart;
use harness::oracle::Why;
use harness::oracle::agree;
use harness::oracle::within_bounds;
use harness::world::World;
use harness::world::in_lane;
use harness::world::key;
use reattach_core::client::Closed;
use reattach_core::client::Event;
use reattach_core::error::ApiMisuse;
use reattach_core::error::ProtocolError;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::link;
use reattach_core::link::Decision;
use reattach_core::link::Handed;
use reattach_core::outcome::Failure;
use reattach_core::outcome::NotDelivered;
use reattach_core::outcome::Outcome;
use reattach_core::outcome::SendFailed;
use reattach_core::outcome::Unknown;
use reattach_core::reconnect::Ended;
use reattach_core::server::PeerClosed;
use reattach_core::server::PeerEvent;
use reattach_core::server::Refusal;
use reattach_core::server::RegistryEvent;
use reattach_core::wire::CloseCode;

use crate::story::CLIENT;
use crate::story::LIVE;
use crate::story::NOW;
use crate::story::SECOND;
use crate::story::Story;
use crate::story::all_break;
use crate::story::cid;
use crate::story::defer;
use crate::story::handed;
use crate::story::id;
use crate::story::msg;
use crate::story::not_delivered;
use crate::story::plain;
use crate::story::reject;
use crate::story::rejected;
use crate::story::server;
use crate::story::then;
use crate::story::unknown;

#[test]
fn what_keeps_the_promise_passes() {
    let mut story = Story::sent(&[0, 1, 2]);
    let mut play = || {
        story.take(0)?;
        story.told(0, &Outcome::Delivered)?;
        story.oracle.on_cancelled(CLIENT, &id(2), true, NOW)?;
        story.told(2, &not_delivered(NotDelivered::Cancelled))?;
        story.oracle.on_fault(LIVE, Fault::Cut);
        story.client(&Event::Detached { ended: Ended::Closed(CloseCode::ABNORMAL) })?;
        story.peer(&PeerEvent::Detached { ended: Ended::Closed(CloseCode::ABNORMAL) })?;
        story.attach(2, true)?;
        story.take(1)?;
        story.told(1, &Outcome::Delivered)?;
        story.oracle.check_time(NOW)?;
        story.oracle.check_none_lost()?;
        story.oracle.check_settled()
    };
    assert_eq!(play(), Ok(()));
    let mut story = Story::decided(&plain(), &defer());
    story.now = NOW + 3 * SECOND;
    assert_eq!(story.hand(0, 2), Ok(()));
    assert_eq!(then(Story::decided(&plain(), &reject()), |it| it.told(0, &rejected())), Ok(()));
    assert_eq!(then(Story::decided(&plain(), &Decision::Accept), |it| it.told(0, &Outcome::Delivered)), Ok(()));
    let abandoned = Story::decided(&plain(), &Decision::Abandon);
    assert_eq!(then(abandoned, |it| it.told(0, &unknown(Unknown::Abandoned))), Ok(()));
}

#[test]
fn s1_once_and_in_order() {
    let mut too_often = Story::decided(&plain().hands(1), &defer());
    too_often.now = NOW + 3 * SECOND;
    all_break(
        "S1",
        vec![
            ("taken twice", then(Story::sent(&[0]), |it| it.take(0).and_then(|()| it.take(0)))),
            ("out of order", then(Story::sent(&[0, 1]), |it| it.take(1).and_then(|()| it.take(0)))),
            ("a lane that does not wait", then(Story::sent(&[0, 1]), |it| it.hand(0, 1).and_then(|()| it.hand(1, 1)))),
            ("again without a deferral", then(Story::decided(&plain(), &reject()), |it| it.hand(0, 2))),
            ("too often", too_often.hand(0, 2)),
            (
                "counted wrongly",
                then(Story::decided(&plain(), &defer()), |it| {
                    it.now = NOW + 3 * SECOND;
                    it.hand(0, 3)
                }),
            ),
            (
                "an older ephemeral",
                then(Story::new(), |it| {
                    it.oracle.on_ephemeral(CLIENT, 0).and_then(|()| it.oracle.on_ephemeral(CLIENT, 1))?;
                    it.oracle
                        .on_ephemeral_handed(server(), 1, "k")
                        .and_then(|()| it.oracle.on_ephemeral_handed(server(), 0, "k"))
                }),
            ),
            ("a number left out", then(Story::new(), |it| it.oracle.on_write(LIVE, End::Client, &msg(2)))),
        ],
    );
}

#[test]
fn s2_one_epoch_on_both_sides() {
    let other = |server: bool, client: bool| {
        then(Story::new(), |it| {
            it.oracle.on_fault(LIVE, Fault::Cut);
            it.oracle.on_asked(2, 0);
            it.oracle.on_accepted(2);
            it.oracle.on_write(2, End::Client, if client { "{\"t\":\"hello\"}" } else { "{}" })?;
            it.oracle.on_peer_event(cid(), Some(2), &PeerEvent::Attached { resumed: server }, NOW)
        })
    };
    assert_eq!(other(true, true), Ok(()));
    all_break("S2", vec![("an epoch that the client does not know goes on", other(true, false))]);
    all_break("J1", vec![("another epoch for a client that knows this one", other(false, true))]);
}

#[test]
fn s3_outcomes_are_true() {
    let accept_after = |outcome: &Outcome| {
        then(Story::sent(&[0]), |it| {
            let handle = *it.handles.last().expect("there are handles");
            it.hand(0, 1)?;
            it.oracle.on_cancelled(CLIENT, &id(0), true, NOW)?;
            it.told(0, outcome)?;
            it.oracle.on_decided(server(), handle, &Decision::Accept, Ok(()), NOW)
        })
    };
    let cancelled = not_delivered(NotDelivered::Cancelled);
    all_break(
        "S3",
        vec![
            ("delivered and not taken", then(Story::sent(&[0]), |it| it.told(0, &Outcome::Delivered))),
            (
                "delivered and undecided",
                then(Story::sent(&[0]), |it| it.hand(0, 1).and_then(|()| it.told(0, &Outcome::Delivered))),
            ),
            ("delivered and rejected", then(Story::decided(&plain(), &reject()), |it| it.told(0, &Outcome::Delivered))),
            ("rejected and accepted", then(Story::decided(&plain(), &Decision::Accept), |it| it.told(0, &rejected()))),
            (
                "rejected and abandoned",
                then(Story::decided(&plain(), &Decision::Abandon), |it| it.told(0, &rejected())),
            ),
            ("not delivered and in hands", accept_after(&cancelled)),
            (
                "not delivered and taken after",
                then(Story::sent(&[0]), |it| {
                    it.oracle.on_cancelled(CLIENT, &id(0), true, NOW)?;
                    it.told(0, &cancelled)?;
                    it.take(0)
                }),
            ),
            (
                "a decision about nothing",
                then(Story::new(), |it| it.oracle.on_decided(server(), it.handles[0], &reject(), Ok(()), NOW)),
            ),
            (
                "no decision about what is in hands",
                then(Story::sent(&[0]), |it| {
                    let handle = *it.handles.last().expect("there are handles");
                    it.hand(0, 1)?;
                    it.oracle.on_decided(server(), handle, &reject(), Err(ApiMisuse::Undecidable), NOW)
                }),
            ),
            (
                "failed and delivered",
                then(Story::sent(&[0]), |it| {
                    it.take(0)?;
                    let failure = Failure::ForGood(Outcome::Delivered);
                    it.client(&Event::SendFailed(SendFailed { id: id(0), failure }))
                }),
            ),
            (
                "lost where nothing happened",
                then(Story::sent(&[0]), |it| {
                    it.oracle.on_client_command(0, true);
                    it.told(0, &not_delivered(NotDelivered::Closed))?;
                    it.oracle.check_none_lost()
                }),
            ),
        ],
    );
}

#[test]
fn s4_one_outcome_each() {
    let delivered = || {
        let mut story = Story::sent(&[0]);
        story.take(0).and_then(|()| story.told(0, &Outcome::Delivered)).expect("it is true");
        story
    };
    all_break(
        "S4",
        vec![
            ("two outcomes", then(delivered(), |it| it.told(0, &Outcome::Delivered))),
            ("of what was not sent", then(Story::new(), |it| it.told(0, &Outcome::Delivered))),
            ("the same name", then(Story::sent(&[0]), |it| it.oracle.on_sent(CLIENT, 1, id(0), &plain(), NOW))),
            ("withdrawn after its outcome", then(delivered(), |it| it.oracle.on_cancelled(CLIENT, &id(0), true, NOW))),
            ("not to be withdrawn", then(Story::sent(&[0]), |it| it.oracle.on_cancelled(CLIENT, &id(0), false, NOW))),
            ("delayed after its outcome", then(delivered(), |it| it.client(&Event::Delayed { id: id(0) }))),
        ],
    );
    let link = link::Config::default();
    let world = World::attached();
    all_break("S4", vec![("told and kept", within_bounds(world.clients[0].client.connection(), &link, 1))]);
    assert_eq!(within_bounds(world.clients[0].client.connection(), &link, 0), Ok(()));
}

#[test]
fn s5_nothing_comes_from_nothing() {
    let other = |handed: Handed| then(Story::sent(&[0]), |it| it.oracle.on_handed(server(), 0, &handed, false, NOW));
    all_break(
        "S5",
        vec![
            ("never sent", then(Story::sent(&[0]), |it| it.take(7))),
            (
                "an ephemeral that was never sent",
                then(Story::new(), |it| it.oracle.on_ephemeral_handed(server(), 7, "k")),
            ),
            ("another lane", other(Handed { lane: in_lane("left", "x").lane, ..handed(None, 1) })),
            ("another name", other(Handed { id: Some(id(9)), ..handed(None, 1) })),
            ("written on a wire that never was", then(Story::new(), |it| it.oracle.on_write(9, End::Client, "{}"))),
            (
                "written after the close",
                then(Story::new(), |it| {
                    it.oracle.on_close(LIVE, End::Client)?;
                    it.oracle.on_write(LIVE, End::Client, "{}")
                }),
            ),
            (
                "closed twice",
                then(Story::new(), |it| {
                    it.oracle.on_told_closed(LIVE, End::Server);
                    it.oracle.on_close(LIVE, End::Server)
                }),
            ),
        ],
    );
}

#[test]
fn s7_sends_are_taken_and_refused_for_a_cause() {
    let refused = |error| then(Story::new(), |it| it.oracle.on_refused(CLIENT, error, &plain()));
    all_break(
        "S7",
        vec![
            ("full and empty", refused(ApiMisuse::QueueFull)),
            ("large and small", refused(ApiMisuse::TooLarge { len: 3, limit: 1 })),
            ("ended and living", refused(ApiMisuse::Ended)),
            ("a name that nobody uses", refused(ApiMisuse::IdInUse)),
            (
                "taken after the end",
                then(Story::new(), |it| {
                    it.oracle.on_client_command(0, true);
                    it.send(0, &plain())
                }),
            ),
        ],
    );
}

#[test]
fn x1_what_is_of_one_is_not_of_another() {
    let stranger = key(7).connection_id();
    all_break(
        "X1",
        vec![
            (
                "handed to somebody else",
                then(Story::sent(&[0]), |it| {
                    it.oracle.on_handed(Party::Server(stranger), 0, &handed(None, 1), false, NOW)
                }),
            ),
            (
                "a stranger learns of an epoch",
                then(Story::new(), |it| {
                    it.oracle.on_stranger(9, false);
                    it.oracle.on_accepted(9);
                    it.oracle.on_write(9, End::Server, "{\"t\":\"welcome\",\"epoch\":\"0\"}")
                }),
            ),
            ("taken over by nobody", then(Story::new(), |it| it.registry(&RegistryEvent::TakenOver { cid: cid() }))),
        ],
    );
}

#[test]
fn b1_and_b2_bounds_are_kept() {
    let registered = |cid| RegistryEvent::Registered { cid, principal: Principal::Connection(cid) };
    all_break(
        "B1",
        vec![
            ("more than the outbox holds", then(Story::sent(&[0, 1, 2]), |it| it.send(3, &plain()))),
            (
                "more connections than may be",
                then(Story::new(), |it| {
                    (7..10).try_for_each(|byte| it.registry(&registered(key(byte).connection_id())))
                }),
            ),
        ],
    );
    all_break("B2", vec![("registered twice", then(Story::new(), |it| it.registry(&registered(cid()))))]);
}

#[test]
fn j1_every_disturbance_has_a_cause() {
    let told = |outcome: Outcome| then(Story::sent(&[0]), |it| it.told(0, &outcome));
    let ended = || Ended::Closed(CloseCode::ABNORMAL);
    let refused = |refusal| {
        let event = RegistryEvent::Refused { transport: TransportId(LIVE), refusal };
        then(Story::new(), |it| it.registry(&event))
    };
    let of_another = |it: &mut Story| {
        it.oracle.on_asked(2, 0);
        it.oracle.on_fault(2, Fault::Cut);
        it.client(&Event::Detached { ended: ended() })
    };
    let mut stories = vec![
        ("cancelled by nobody", told(not_delivered(NotDelivered::Cancelled))),
        ("late without a deadline", told(not_delivered(NotDelivered::Deadline))),
        ("too old and young", told(not_delivered(NotDelivered::TooOld))),
        ("too many attempts, of none", told(not_delivered(NotDelivered::Attempts))),
        ("closed by nobody", told(not_delivered(NotDelivered::Closed))),
        ("nobody stopped trying", told(unknown(Unknown::Unreachable))),
        ("nobody withdrew it", told(unknown(Unknown::VoidUnanswered))),
        ("detached by nothing", then(Story::new(), |it| it.client(&Event::Detached { ended: ended() }))),
        ("what hit another wire explains nothing", then(Story::new(), of_another)),
        ("the server detached by nothing", then(Story::new(), |it| it.peer(&PeerEvent::Detached { ended: ended() }))),
        (
            "closed for nothing",
            then(Story::new(), |it| {
                it.oracle.on_close(LIVE, End::Server)?;
                it.oracle.check_step()
            }),
        ),
        ("superseded by nobody", then(Story::new(), |it| it.client(&Event::Superseded))),
        ("ended by nobody", then(Story::new(), |it| it.client(&Event::Closed { reason: Closed::Flushed }))),
        (
            "the server's side ended by nobody",
            then(Story::new(), |it| it.peer(&PeerEvent::Closed { reason: PeerClosed::Expired })),
        ),
        ("expired while attached", then(Story::new(), |it| it.registry(&RegistryEvent::Expired { cid: cid() }))),
        ("removed by nobody", then(Story::new(), |it| it.registry(&RegistryEvent::Removed { cid: cid() }))),
        (
            "two honest ends",
            then(Story::new(), |it| it.client(&Event::PeerBrokeProtocol { error: ProtocolError::OldState })),
        ),
        (
            "written again on one wire",
            then(Story::new(), |it| {
                it.oracle.on_write(LIVE, End::Client, &msg(1))?;
                it.oracle.on_write(LIVE, End::Client, &msg(1))
            }),
        ),
    ];
    for refusal in [Refusal::Timeout, Refusal::Stale, Refusal::Superseded, Refusal::Overtaken, Refusal::Forbidden] {
        stories.push(("an honest hello", refused(refusal)));
    }
    all_break("J1", stories);
    let unavailable = not_delivered(NotDelivered::Unavailable);
    let fail_fast = || {
        let mut story = Story::new();
        story.send(0, &plain().fail_fast()).expect("there is room");
        story
    };
    all_break("J1", vec![("a peer that can be reached", then(fail_fast(), |it| it.told(0, &unavailable)))]);
    // A cause makes each of them true.
    let mut story = Story::sent(&[0]);
    story.oracle.on_server_command(cid(), Some(Why::Closed));
    assert_eq!(story.told(0, &not_delivered(NotDelivered::Ended)), Ok(()));
    let mut story = Story::sent(&[0]);
    story.oracle.on_fault(LIVE, Fault::Cut);
    assert_eq!(story.client(&Event::Detached { ended: ended() }), Ok(()));
}

#[test]
fn l1_everything_comes_in_time() {
    let age = link::Config::default().age;
    all_break(
        "L1",
        vec![
            ("no outcome", Story::sent(&[0]).oracle.check_settled()),
            (
                "an outcome too late",
                then(Story::sent(&[0]), |it| {
                    it.take(0)?;
                    it.now = NOW + age + link::Config::default().void_timeout + 2 * SECOND;
                    it.told(0, &Outcome::Delivered)
                }),
            ),
            (
                "kept for ever",
                then(Story::new(), |it| {
                    it.oracle.on_fault(LIVE, Fault::Cut);
                    it.peer(&PeerEvent::Detached { ended: Ended::Closed(CloseCode::ABNORMAL) })?;
                    it.oracle.check_time(NOW + 62 * SECOND)
                }),
            ),
        ],
    );
    let late = then(Story::new(), |it| {
        it.oracle.on_fault(LIVE, Fault::Cut);
        it.peer(&PeerEvent::Detached { ended: Ended::Closed(CloseCode::ABNORMAL) })?;
        it.oracle.on_late(2 * SECOND);
        it.oracle.check_time(NOW + 62 * SECOND)
    });
    assert_eq!(late, Ok(()), "everybody was asleep");
}

#[test]
fn l2_both_sides_are_of_one_mind() {
    let mut world = World::attached();
    let of = |world: &World| {
        let peer = world.server.peer(&world.cid()).expect("it is attached");
        agree(world.clients[0].client.connection(), peer.connection())
    };
    assert_eq!(of(&world), Ok(()));
    world.send_up("x");
    all_break(
        "L2",
        vec![
            ("something is on its way", of(&world)),
            (
                "two epochs where nothing happened",
                then(Story::new(), |it| {
                    it.oracle.on_fault(LIVE, Fault::Crashed);
                    it.oracle.on_server_down();
                    it.oracle.on_server_restarted(Restart::Lost, None, NOW);
                    let event = RegistryEvent::Registered { cid: cid(), principal: Principal::Connection(cid()) };
                    it.registry(&event)?;
                    it.attach(2, false)?;
                    it.oracle.check_none_lost()
                }),
            ),
        ],
    );
}
