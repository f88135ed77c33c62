//! Requests in a network that fails, in virtual time: what happens to them when, to the second.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::task::Context;
use std::task::Wake;
use std::task::Waker;
use std::time::Duration;

use futures_util::future;
use reattach_smol::CallError;
use reattach_smol::Client;
use reattach_smol::ClientConfig;
use reattach_smol::Connection;
use reattach_smol::ConnectionState;
use reattach_smol::IncomingCall;
use reattach_smol::Request;
use reattach_smol::Router;
use reattach_smol::Server;
use reattach_smol::ServerConfig;
use reattach_smol::core;
use reattach_smol::core::error::ApiMisuse;
use reattach_smol::core::id::Name;
use reattach_smol::core::link::Outgoing;
use reattach_smol::core::outcome::NotDelivered;
use reattach_smol::core::rpc::Call;
use reattach_smol::core::rpc::Failure;
use reattach_smol::core::rpc::RpcMisuse;
use reattach_smol::core::wire::Payload;
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
        Some(IncomingCall::Request(request)) => request,
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

// S002-68
#[test]
fn two_hundred_clients_ask_a_hundred_times_each_and_every_answer_is_the_right_one() {
    Simulation::new(1).run(async |net| {
        let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&done);
        let router = Router::new().on_request("double", move |(number,): (u64,)| {
            counting.fetch_add(1, Ordering::Relaxed);
            async move { Ok(2 * number) }
        });
        let (accepting, tasks, router) = (server.clone(), net.clone(), Arc::new(router));
        net.spawn(async move {
            while let Some(connection) = accepting.accept().await {
                let router = Arc::clone(&router);
                tasks.spawn(async move { connection.serve(&router).await });
            }
        });
        let one = |number: u64| {
            let net = net.clone();
            async move {
                let client = net.connect(URL, ClientConfig::new()).await.unwrap();
                let asked = (0..100).map(|ask| (number * 100 + ask,)).collect::<Vec<_>>();
                let answers = asked.iter().map(|asked| client.request::<_, u64>("double", asked));
                future::try_join_all(answers).await.unwrap()
            }
        };
        let answers = future::join_all((0..200).map(one)).await.concat();
        assert_eq!(answers, (0..20_000).map(|number| 2 * number).collect::<Vec<_>>());
        assert_eq!(done.load(Ordering::Relaxed), 20_000);
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
            while asked.last().map(|request: &Request| request.method()) != Some("kept") {
                let requests = connection.requests();
                match first_polls(polls, requests.next()).await {
                    Some(Some(IncomingCall::Request(request))) => asked.push(request),
                    Some(other) => panic!("{other:?} is no request"),
                    None => net.sleep(Duration::from_millis(10)).await,
                }
            }
            let asked = asked.pop().unwrap();
            asked.progress(&Payload::new(&1).unwrap()).unwrap();
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

fn router() -> Router {
    Router::new().on_request("hi", |(): ()| async { Ok(1) })
}

/// A server that keeps connections for long.
async fn patient_pair(net: &Net) -> (Client, Connection, Server) {
    let mut core = core::server::Config::default();
    core.detach_ttl = secs(100_000);
    let server = net.bind("server.test:80", ServerConfig::new().with_core(core)).await.unwrap();
    let client = net.connect(URL, ClientConfig::new()).await.unwrap();
    let connection = server.accept().await.unwrap();
    (client, connection, server)
}

async fn client_request(client: &Client) -> Request {
    match client.requests().next().await {
        Some(IncomingCall::Request(request)) => request,
        other => panic!("{other:?} is no request"),
    }
}

#[test]
fn a_request_right_behind_the_welcome_belongs_to_the_new_epoch() {
    for seed in 0..20 {
        Simulation::new(seed).run(async |net| {
            let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
            let client = net.start(URL, ClientConfig::new()).unwrap();
            let serving = client.clone();
            net.spawn(async move { serving.serve(&router()).await });
            let connection = server.accept().await.unwrap();
            assert_eq!(connection.request::<_, u8>("hi", &()).await, Ok(1));
            client.suspend().unwrap();
            net.sleep(secs(700)).await;
            client.reconnect().unwrap();
            let again = server.accept().await.unwrap();
            assert_eq!(again.request::<_, u8>("hi", &()).await, Ok(1));
        });
    }
}

#[test]
fn what_is_taken_late_is_no_sign_that_the_computer_slept() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net).await;
        net.sleep(secs(2)).await;
        connection.send(Payload::new(&1).unwrap()).await.unwrap();
        net.sleep(secs(1)).await;
        net.stall();
        net.sleep(secs(14)).await;
        assert!(client.try_recv().is_some());
        net.sleep(secs(1)).await;
        assert_eq!(client.stats().gaps, 0);
    });
}

/// Given while trying has stopped, or on its way when it stops.
#[test]
fn an_answer_survives_that_trying_stops_as_long_as_the_epoch_goes_on() {
    for is_given_before in [false, true] {
        Simulation::new(1).run(async |net| {
            let (client, connection, _server) = patient_pair(&net).await;
            let asking = connection.call(call("m").within(secs(3_000))).unwrap();
            let asked = client_request(&client).await;
            net.sleep(secs(1)).await;
            net.cut();
            net.refuse(true);
            net.sleep(secs(1)).await;
            let mut asked = Some(asked);
            if is_given_before {
                asked.take().unwrap().respond(Ok(1)).unwrap();
            }
            net.sleep(secs(120)).await;
            assert!(matches!(client.state(), ConnectionState::Failed(_)));
            if let Some(asked) = asked {
                asked.respond(Ok(1)).unwrap();
            }
            net.refuse(false);
            client.reconnect().unwrap();
            let begun = net.now();
            assert_eq!(asking.await.unwrap().as_str(), "1");
            assert!(net.now() - begun < secs(10));
        });
    }
}

#[test]
fn who_serves_goes_on_when_the_client_goes_on() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = patient_pair(&net).await;
        let serving = client.clone();
        net.spawn(async move { serving.serve(&router()).await });
        net.sleep(secs(1)).await;
        net.cut();
        net.refuse(true);
        net.sleep(secs(120)).await;
        net.refuse(false);
        client.reconnect().unwrap();
        assert_eq!(connection.request::<_, u8>("hi", &()).await, Ok(1));
    });
}

#[test]
fn answers_to_a_client_s_life_before_hold_nothing_up() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net).await;
        let lane = Name::new("rpc.responses").unwrap();
        let stray = Outgoing::from(Payload::from_json("{}").unwrap()).in_lane(lane);
        let receipt = client.send(stray).await.unwrap();
        assert!(net.timeout(secs(5), receipt).await.is_some_and(|outcome| outcome.is_delivered()));
        drop(connection);
    });
}

#[test]
fn a_flood_of_requests_among_the_answers_is_not_kept() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net).await;
        let lane = Name::new("rpc.responses").unwrap();
        for number in 0..2_000 {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"m"}}"#);
            client.send(Outgoing::from(Payload::from_json(&text).unwrap()).in_lane(lane.clone())).await.unwrap();
        }
        net.sleep(secs(5)).await;
        let stats = connection.request_stats();
        assert_eq!((stats.served, stats.malformed), (0, 2_000));
    });
}

#[test]
fn who_waits_for_the_end_of_the_interest_in_a_request_is_told_when_it_is_answered() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net).await;
        let asking = client.call(call("m")).unwrap();
        let asked = request(&connection).await;
        let abandoned = asked.abandoned();
        asked.respond(Ok(1)).unwrap();
        assert!(net.timeout(secs(1), abandoned).await.is_some());
        asking.await.unwrap();
    });
}

#[test]
fn answers_that_were_given_are_sent_before_a_connection_is_closed() {
    Simulation::new(1).run(async |net| {
        let (client, connection, _server) = pair(&net).await;
        let responses: Vec<_> = (0..60).map(|_| client.call(call("x")).unwrap()).collect();
        let mut asked = Vec::new();
        for _ in 0..60 {
            asked.push(request(&connection).await);
        }
        net.stall();
        // More than the share of a lane.
        let large = Payload::new(&"x".repeat(40_000)).unwrap();
        for asked in asked {
            asked.respond_with(Ok(large.clone())).unwrap();
        }
        let closing = connection.clone();
        net.spawn(async move { closing.close(secs(60)).await });
        net.sleep(secs(1)).await;
        assert_eq!(connection.try_send(Payload::new(&1).unwrap()).unwrap_err(), ApiMisuse::Ended);
        net.heal();
        for response in responses {
            assert!(response.await.is_ok());
        }
        connection.ended().await;
    });
}

#[test]
fn a_notification_that_no_message_can_carry_is_refused() {
    Simulation::new(1).run(async |net| {
        let (client, _connection, _server) = pair(&net).await;
        let error = client.notify("n", &("x".repeat(5_000_000),)).unwrap_err();
        assert!(matches!(error, CallError::Misuse(RpcMisuse::TooLarge { .. })), "{error}");
    });
}

/// An executor of the simplest kind, which is gone: whoever wakes a task of it drops the task, and what it holds.
struct Orphan {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    queue: mpsc::Sender<Arc<Self>>,
}

impl Wake for Orphan {
    fn wake(self: Arc<Self>) {
        let queue = self.queue.clone();
        _ = queue.send(self);
    }
}

#[test]
fn a_task_that_is_dropped_when_it_is_woken_locks_nobody_out() {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        Simulation::new(1).run(async |net| {
            let (client, connection, _server) = pair(&net).await;
            let asking = client.call(call("m")).unwrap();
            let request = request(&connection).await;
            let back = connection.call(call("back")).unwrap();
            let serving = async move {
                let answer = back.await;
                _ = request.respond(Ok(answer.is_ok()));
            };
            let (queue, executor) = mpsc::channel();
            let task = Arc::new(Orphan { future: Mutex::new(Some(Box::pin(serving))), queue });
            let waker = Waker::from(Arc::clone(&task));
            let polled = task.future.lock().unwrap().as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            drop((waker, task, executor));
            client_request(&client).await.respond(Ok(())).unwrap();
            let error = asking.await.unwrap_err();
            assert!(matches!(error.failure, Failure::Refused(_)), "whoever served it is gone: {error}");
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(secs(20)).expect("nobody waits for a lock for ever");
}

// A request that finds no room has its time all the same, also behind another one that waits for the same room.
#[test]
fn a_request_that_waits_for_room_behind_another_ends_when_its_time_is_over() {
    Simulation::new(1).run(async |net| {
        let (client, _connection, _server) = pair(&net).await;
        client.suspend().unwrap();
        net.sleep(secs(1)).await;
        while client.try_send(Payload::new("x").unwrap()).is_ok() {}
        let patient: Vec<_> = (0..200).map(|_| client.call(call("patient")).unwrap()).collect();
        net.sleep(secs(1)).await;
        let begun = net.elapsed();

        let hasty = client.call(call("hasty").within(secs(2))).unwrap();
        let failure = hasty.await.unwrap_err().failure;

        assert!(matches!(failure, Failure::TimedOut { .. }), "{failure}");
        assert_eq!(net.elapsed() - begun, secs(2));
        drop(patient);
    });
}
