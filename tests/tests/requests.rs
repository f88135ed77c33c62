//! Requests in a network that fails, in virtual time: what happens to them when, to the second.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use reattach_smol::Asking;
use reattach_smol::Client;
use reattach_smol::ClientConfig;
use reattach_smol::Connection;
use reattach_smol::Request;
use reattach_smol::Server;
use reattach_smol::ServerConfig;
use reattach_smol::core::outcome::NotDelivered;
use reattach_smol::core::rpc::Call;
use reattach_smol::core::rpc::Failure;
use reattach_smol::core::rpc::RpcMisuse;
use reattach_smol::testing::Net;
use reattach_smol::testing::Simulation;

const URL: &str = "ws://server.test/";

async fn pair(net: &Net) -> (Client, Connection, Server) {
    let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
    let client = net.connect(URL, ClientConfig::new()).await.unwrap();
    let connection = server.accept().await.unwrap();
    (client, connection, server)
}

fn call(method: &str) -> Call {
    Call::new(method).unwrap()
}

async fn request(connection: &Connection) -> Request {
    match connection.requests().next().await {
        Some(Asking::Request(request)) => request,
        other => panic!("{other:?} is no request"),
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

// S001-01, S001-02, S001-03
#[test]
fn a_request_that_nobody_answers_fails_at_its_deadline_and_a_late_answer_is_dropped() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net).await;
        let begun = net.now();
        let (short, long) = (client.call(call("short")).unwrap(), client.call(call("long").long()).unwrap());
        let (asked, _kept) = (request(&connection).await, request(&connection).await);
        let error = short.await.unwrap_err();
        assert_eq!(error.failure, Failure::TimedOut { after: secs(30) });
        assert_eq!((net.now() - begun).as_secs(), 30);
        asked.abandoned().await;
        assert_eq!(asked.respond(Ok(1)), Err(RpcMisuse::NotWaiting));
        assert_eq!(long.await.unwrap_err().failure, Failure::TimedOut { after: secs(300) });
        assert_eq!((net.now() - begun).as_secs(), 300);
    });
}

// S002-71
#[test]
fn a_request_waits_for_the_network_and_is_answered_when_it_comes_back() {
    Simulation::new(2).run(async |net| {
        let (client, connection, _server) = pair(&net).await;
        net.stall();
        let response = client.call(call("m").within(secs(120))).unwrap();
        net.sleep(secs(55)).await;
        net.heal();
        let asked = request(&connection).await;
        net.stall();
        asked.respond(Ok("late")).unwrap();
        net.sleep(secs(20)).await;
        net.heal();
        assert_eq!(response.await.unwrap().as_str(), "\"late\"");
        assert_eq!(connection.request_stats().served, 1);
    });
}

// S004-151
#[test]
fn a_request_ends_early_once_its_server_has_forgotten_it() {
    Simulation::new(3).run(async |net| {
        let (client, connection, server) = pair(&net).await;
        let had = client.call(call("had").long()).unwrap();
        let asked = request(&connection).await;
        // Away for longer than the server keeps a connection.
        client.suspend().unwrap();
        net.sleep(secs(700)).await;
        asked.abandoned().await;
        let begun = net.now();
        drop(had);
        let had = client.call(call("queued").long()).unwrap();
        client.reconnect().unwrap();
        let again = server.accept().await.unwrap();
        let asked = request(&again).await;
        assert_eq!(
            asked.method(),
            "queued",
            "what was never written goes to the new epoch, and what was withdrawn does not"
        );
        asked.respond(Ok(1)).unwrap();
        assert_eq!(had.await.unwrap().as_str(), "1");
        assert!(net.now() - begun < secs(10));
    });
}

#[test]
fn a_request_that_a_server_had_when_it_forgot_it_fails_when_that_is_known() {
    Simulation::new(4).run(async |net| {
        let (client, connection, server) = pair(&net).await;
        let had = client.call(call("had").within(secs(3_000))).unwrap();
        let asked = request(&connection).await;
        net.sleep(secs(1)).await;
        client.suspend().unwrap();
        net.sleep(secs(700)).await;
        asked.abandoned().await;
        let begun = net.now();
        client.reconnect().unwrap();
        let error = had.await.unwrap_err();
        assert_eq!(error.failure, Failure::EpochEnded, "{error}");
        assert!(net.now() - begun < secs(10), "it does not wait for its deadline");
        drop(server);
    });
}

#[test]
fn a_request_to_nobody_is_not_delivered_where_trying_ends_and_nothing_waits_without_end() {
    Simulation::new(5).run(async |net| {
        let client = net.start(URL, ClientConfig::new()).unwrap();
        let begun = net.now();
        let error = client.call(call("m").within(secs(3_000))).unwrap().await.unwrap_err();
        assert_eq!(error.failure, Failure::NotDelivered(NotDelivered::Unreachable));
        assert!(net.now() - begun < secs(120));
    });
}

// N18
#[test]
fn a_request_that_was_withdrawn_before_it_was_written_is_never_served() {
    Simulation::new(6).run(async |net| {
        let (client, connection, _server) = pair(&net).await;
        net.cut();
        net.refuse(true);
        net.sleep(secs(1)).await;
        let (one, two) = (client.call(call("one")).unwrap(), client.call(call("two")).unwrap());
        drop(one);
        net.refuse(false);
        let asked = request(&connection).await;
        assert_eq!(asked.method(), "two");
        asked.respond(Ok(())).unwrap();
        two.await.unwrap();
        assert_eq!(connection.request_stats().served, 1);
    });
}

/// Every future of requests, dropped at each point at which it waits: no request is lost or served twice.
#[test]
fn futures_of_requests_can_be_dropped_at_every_point() {
    for polls in 1..8_u32 {
        Simulation::new(polls.into()).run(async |net| {
            let (client, connection, _server) = pair(&net).await;
            let asking = first_polls(polls, client.request::<_, ()>("dropped", &()));
            assert!(net.timeout(secs(1), asking).await.flatten().is_none(), "nobody has answered");
            let kept = client.call(call("kept")).unwrap();
            let mut asked = Vec::new();
            while asked.last().map(Request::method) != Some("kept") {
                let requests = connection.requests();
                match first_polls(polls, requests.next()).await {
                    Some(Some(Asking::Request(request))) => asked.push(request),
                    Some(other) => panic!("{other:?} is no request"),
                    None => net.sleep(Duration::from_millis(10)).await,
                }
            }
            let asked = asked.pop().unwrap();
            asked.progress(&reattach_smol::core::wire::Payload::new(&1).unwrap()).unwrap();
            asked.respond(Ok(2)).unwrap();
            let mut kept = kept;
            let mut steps = 0;
            loop {
                match first_polls(polls, kept.progress()).await {
                    Some(Some(_)) => steps += 1,
                    Some(None) => break,
                    None => net.sleep(Duration::from_millis(10)).await,
                }
            }
            assert_eq!((steps, kept.await.unwrap().as_str()), (1, "2"));
        });
    }
}

/// What a future comes to within so many polls.
async fn first_polls<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        let polled = future.as_mut().poll(cx).map(Some);
        left -= 1;
        if left == 0 && polled.is_pending() { std::task::Poll::Ready(None) } else { polled }
    })
    .await
}
