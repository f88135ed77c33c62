//! Requests both ways at once, under garbage, and when the connection ends.

use std::time::Duration;

use harness::ensemble::Ensemble;
use harness::ensemble::play;
use harness::rpc::call;
use harness::rpc::finished;
use harness::rpc::json;
use harness::world::patient;
use reattach_core::client::Event;
use reattach_core::error::ProtocolError;
use reattach_core::id::Name;
use reattach_core::link::Outgoing;
use reattach_core::rpc::Channel;
use reattach_core::rpc::Failure;
use reattach_core::rpc::IncomingId;
use reattach_core::rpc::RequestId;
use reattach_core::rpc::RpcMisuse;
use reattach_core::server;

const MILLI: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(30);

// N18, steps 1 to 4, S001-17, S001-04, S001-08
#[test]
fn n18_a_nested_request_is_answered_under_garbage_and_a_stalled_one_fails_at_exactly_its_time() {
    // How often a frame makes no sense, in seconds: within the budget of 8 a minute, and beyond it.
    for every in [8, 1] {
        play(|| {
            let mut it = Ensemble::attached_with(server::Config::default(), patient());
            it.begin();
            let q1 = it.request(0, call("q1"));
            it.run_to(20);
            let asked = asked_up(&it, "q1");
            let n1 = it.request_down(0, call("n1"));
            for second in 1..30 {
                it.run_to(second * 1_000);
                // The transport is back before the end, so that what comes late can be told apart.
                talk_garbage(&mut it, second % every == 0 && (every > 1 || second < 20));
                if second == 15 {
                    answer_down(&mut it, "n1");
                    it.run_for(100 * MILLI);
                    let events = &it.house.desks[&it.world.cid()].events;
                    let results: Vec<_> = events.iter().filter_map(finished).collect();
                    assert_eq!(results, [(n1, &Ok(json("1")))], "routed while q1 is open");
                    assert_eq!(it.users[0].rpc.pending(), 1);
                }
            }
            // The handler answers too late, while nobody has told it yet that nobody waits.
            it.run_to(29_995);
            let unmatched = it.users[0].rpc.stats().unmatched;
            let respond = it.respond_up(asked, Ok(json("\"late\"")));
            assert_eq!((respond, it.users[0].result(q1)), (Ok(()), None));
            it.run_to(29_999);
            assert_eq!(it.users[0].result(q1), None);
            it.run_to(30_000);
            expect_failed(&it, q1, "q1", &Failure::TimedOut { after: TIMEOUT });
            it.run_to(31_000);
            assert_eq!(it.users[0].finished.len(), 1, "the late result is ignored");
            assert_eq!(it.users[0].rpc.stats().unmatched, unmatched + 1, "and counted");
            let is_cut =
                |event: &Event| matches!(event, Event::PeerBrokeProtocol { error: ProtocolError::TooManyMalformed(_) });
            let cuts = it.world.clients[0].events.iter().filter(|event| is_cut(event)).count();
            assert_eq!(cuts > 0, every == 1, "garbage cuts at most the transport");
            assert_eq!(it.world.attaches(0).contains(&true), every == 1);
            it
        });
    }
}

// N18, step 5, S001-08, S001-33
#[test]
fn n18_a_disconnect_fails_what_is_pending_once_by_name_and_a_second_one_is_silent() {
    play(|| {
        let mut it = Ensemble::attached_with(server::Config::default(), patient());
        let (cid, q2, q3, asked) = two_requests(&mut it);
        it.disconnect(0);
        let told = it.world.clients[0].events.len();
        for (id, method) in [(q2, "q2"), (q3, "q3")] {
            let error = it.users[0].result(id).expect("it has ended").clone().expect_err("it has failed");
            assert!(matches!(error.failure, Failure::Ended { .. }), "{error}");
            assert!(error.to_string().starts_with(&format!("request {id} ({method}) failed: ")), "{error}");
        }
        it.disconnect(0);
        it.run_for(100 * MILLI);
        assert_eq!((it.users[0].finished.len(), it.world.clients[0].events.len()), (2, told), "silent");
        // The server's late reply goes nowhere, and whoever gives it is told.
        let now = it.world.now;
        assert_eq!(it.house.respond(cid, asked, Ok(json("2")), now), Err(RpcMisuse::NotWaiting));
        it
    });
}

// N18, step 5, S001-08: a transport that closes is no end here, for the connection outlives it.
#[test]
fn n18_a_transport_that_closes_fails_no_request() {
    play(|| {
        let mut it = Ensemble::attached_with(server::Config::default(), patient());
        let (_, q2, q3, asked) = two_requests(&mut it);
        it.world.cut(0);
        it.settle();
        // While nobody is attached.
        assert_eq!(it.respond_up(asked, Ok(json("2"))), Ok(()));
        assert!(it.users[0].finished.is_empty());
        it.run_to(5_000);
        assert_eq!(it.world.attaches(0), [false, true]);
        assert_eq!(it.users[0].result(q2), Some(&Ok(json("2"))));
        it.run_to(29_999);
        assert_eq!(it.users[0].result(q3), None);
        it.run_to(30_000);
        expect_failed(&it, q3, "q3", &Failure::TimedOut { after: TIMEOUT });
        it
    });
}

/// Two requests that the server has: q2, a long one, and q3. The script begins.
fn two_requests(it: &mut Ensemble) -> (reattach_core::id::ConnectionId, RequestId, RequestId, IncomingId) {
    it.begin();
    let (q2, q3) = (it.request(0, call("q2").long()), it.request(0, call("q3")));
    it.run_to(100);
    let asked = asked_up(it, "q2");
    (it.world.cid(), q2, q3, asked)
}

/// What to answer a request of the first client by.
fn asked_up(it: &Ensemble, method: &str) -> IncomingId {
    let calls = &it.house.desks[&it.world.cid()].calls;
    calls.iter().find(|call| &*call.method == method).and_then(|call| call.id).expect("it has come")
}

/// The client answers a request of the server.
fn answer_down(it: &mut Ensemble, method: &str) {
    let now = it.world.now;
    let user = &mut it.users[0];
    let asked = user.calls.iter().find(|call| &*call.method == method).and_then(|call| call.id).expect("it has come");
    user.rpc.respond(asked, Ok(json("1")), now).expect("the server waits");
    it.settle();
}

/// A request has failed at the script's time 30,000, once, by its name.
fn expect_failed(it: &Ensemble, id: RequestId, method: &str, failure: &Failure) {
    let error = it.users[0].result(id).expect("it has ended").clone().expect_err("it has failed");
    assert_eq!((error.id, &*error.method, &error.failure), (id, method, failure));
    let at = it.users[0].finished.iter().find(|(_, finished, _)| *finished == id).map(|(at, _, _)| it.since(*at));
    assert_eq!(at, Some(30_000));
}

/// Both sides say what makes no sense, in both lanes of requests; and where that is said, one frame makes none either.
fn talk_garbage(it: &mut Ensemble, with_frame: bool) {
    let cid = it.world.cid();
    for text in [
        r#""no request""#,
        r#"{"jsonrpc":"2.0","method":"nobody/knows","params":{"a":1}}"#,
        r#"{"jsonrpc":"2.0","id":"x","method":"m","result":1}"#,
        r#"{"jsonrpc":"2.0","id":"never-asked","result":1}"#,
    ] {
        for channel in [Channel::Calls, Channel::Responses] {
            let message = || Outgoing::from(json(text)).in_lane(Name::new(channel.lane()).expect("a short name"));
            it.try_send_down(&cid, message()).expect("room in the outbox");
            it.try_send_up(0, message()).expect("room in the outbox");
        }
    }
    let is_live = it.world.live_wire(0).is_some();
    if with_frame && is_live {
        it.world.inject_down(0, "{\"t\":\"msg\",,,");
    }
    it.settle();
}
