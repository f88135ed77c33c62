//! The invariants are checked: each of these scripts breaks one.

use std::cell::Cell;

use harness::ensemble::Ensemble;
use harness::ensemble::play;
use harness::ensemble::request;
use harness::world::key;
use harness::world::payload;
use reattach_core::hub::Config;
use reattach_core::hub::Hub;
use reattach_core::id::Principal;

#[test]
#[should_panic(expected = "I1: m is applied once")]
fn i1_what_is_applied_twice_is_noticed() {
    let mut it = Ensemble::attached();
    it.send_up(0, "s1", "m");
    it.rest();
    it.send_up(0, "s1", "m");
    it.rest();
}

#[test]
#[should_panic(expected = "S4: 1 messages are in the outbox, and 0 have no outcome")]
fn i2_what_waits_unknown_to_the_ledger_is_noticed() {
    let mut it = Ensemble::attached();
    it.world.send_up("m");
    it.settle();
}

#[test]
#[should_panic(expected = "I6: client 0 has seen everything of s1")]
fn i6_an_event_that_is_lost_on_its_way_is_noticed() {
    play(|| {
        let mut it = Ensemble::attached();
        let s1 = it.create_session("s1", 0);
        it.watch(0, &s1);
        it.rest();
        let (cid, now) = (it.world.cid(), it.world.now);
        it.house.hub.publish(&s1, &payload("lost"), now).expect("there is the session");
        assert!(it.house.hub.pull(cid, |_, _| true).is_some(), "it is watched");
        it
    });
}

#[test]
#[should_panic(expected = "I7: p1 was decided 0 times")]
fn i7_a_question_that_is_forgotten_is_noticed() {
    play(|| {
        let mut it = Ensemble::attached();
        let s1 = it.create_session("s1", 0);
        it.ask(&s1, request("p1"));
        it.house.hub = Hub::new(Config::default(), it.world.now);
        it
    });
}

#[test]
#[should_panic(expected = "I8: s1 is owned by")]
fn i8_an_owner_that_is_gone_is_noticed() {
    let mut it = Ensemble::attached();
    let s1 = it.create_session("s1", 0);
    let ghost = key(9).connection_id();
    it.house.hub.handle_attached(ghost, &Principal::Connection(it.world.cid()));
    it.house.hub.sessions_mut().own(ghost, &s1).expect("it is of the same principal");
    it.settle();
}

#[test]
#[should_panic(expected = "I9: something above the links is left")]
fn i9_what_is_left_is_noticed() {
    play(|| {
        let mut it = Ensemble::attached();
        let mut config = Config::default();
        config.permissions.timeout *= 100;
        it.house.hub = Hub::new(config, it.world.now);
        let s1 = it.create_session("s1", 0);
        it.ask(&s1, request("p1"));
        it.house.asked_in.clear();
        it
    });
}

#[test]
#[should_panic(expected = "I10: the same again is the same again")]
fn i10_a_script_that_comes_out_differently_is_noticed() {
    let times = Cell::new(0);
    play(|| {
        times.set(times.get() + 1);
        let mut it = Ensemble::attached();
        it.send_up(0, "s1", &format!("{}", times.get()));
        it
    });
}
