//! Requests over real sockets.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future;
use reattach::CallError;
use reattach::Connection;
use reattach::IncomingCall;
use reattach::Request;
use reattach::Router;
use reattach::core::rpc::Call;
use reattach::core::rpc::ErrorObject;
use reattach::core::rpc::Failure;
use reattach::core::rpc::RpcMisuse;
use reattach::core::wire::Payload;

use super::loopback::deciding;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::pair;
use super::loopback::pair_at;
use super::loopback::soon;
use super::loopback::text;
use super::loopback::until;

async fn request(connection: &Connection) -> Request {
    match soon(connection.requests().next()).await {
        Some(IncomingCall::Request(request)) => request,
        other => panic!("{other:?} is no request"),
    }
}

fn router() -> Router {
    Router::new()
        .on_request("sum", |numbers: Vec<i64>| async move { Ok(numbers.iter().sum::<i64>()) })
        .on_request("nothing", |(): ()| async move { Ok(()) })
        .on_request("no", |(): ()| async move { Err::<(), _>(ErrorObject::new(7, "no").with_data(text("data"))) })
        .on_request("panic", |(): ()| async move {
            if true {
                panic!("this is meant");
            }
            Ok(())
        })
}

fn failure(error: CallError) -> Failure {
    let CallError::Failed(error) = error else { panic!("{error} is another error") };
    error.failure
}

// S002-61, S001-17
#[tokio::test]
async fn requests_are_answered_both_ways_beside_messages() {
    let (client, connection, _server) = pair().await;
    let served = connection.clone();
    let serving = tokio::spawn(async move { served.serve(&router()).await });
    assert_eq!(soon(client.request::<_, i64>("sum", &[1, 2, 3])).await, Ok(6));
    assert_eq!(soon(client.request::<_, ()>("nothing", &())).await, Ok(()));
    client.send(number(9)).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 9, "a message is no request");
    let error = soon(client.request::<_, ()>("no", &())).await.unwrap_err();
    assert_eq!(failure(error), Failure::Refused(ErrorObject::new(7, "no").with_data(text("data"))));
    for (method, code) in [("unknown", ErrorObject::METHOD_NOT_FOUND), ("panic", ErrorObject::INTERNAL_ERROR)] {
        let error = soon(client.request::<_, ()>(method, &())).await.unwrap_err();
        assert!(matches!(failure(error), Failure::Refused(refused) if refused.code == code), "{method}");
    }
    let error = soon(client.request::<_, ()>("sum", &["x"])).await.unwrap_err();
    assert!(matches!(failure(error), Failure::Refused(refused) if refused.code == ErrorObject::INVALID_PARAMS));
    let error = soon(client.request::<_, String>("sum", &[1])).await.unwrap_err();
    assert!(matches!(error, CallError::Result { ref method, .. } if method == "sum"), "{error}");
    let error = soon(client.request::<_, ()>("sum", &5)).await.unwrap_err();
    assert_eq!(error, CallError::Misuse(RpcMisuse::Params));

    let asking = connection.call(Call::new("back").unwrap()).unwrap();
    let Some(IncomingCall::Request(back)) = soon(client.requests().next()).await else { panic!("a request came") };
    back.respond(Ok("here")).unwrap();
    assert_eq!(soon(asking).await.unwrap().as_str(), "\"here\"");
    client.disconnect();
    soon(serving).await.unwrap();
}

// S001-17, N18
#[tokio::test]
async fn who_serves_a_request_asks_its_sender_something_meanwhile() {
    let (client, connection, _server) = pair().await;
    let asking = client.clone();
    let back = Router::new().on_request("name", |(): ()| async { Ok("Ada") });
    tokio::spawn(async move { asking.serve(&back).await });
    let served = connection.clone();
    tokio::spawn(async move {
        let asked = served.clone();
        let router = Router::new().on_request("greet", move |(): ()| {
            let asked = asked.clone();
            async move {
                let name = asked.request::<_, String>("name", &()).await;
                name.map(|name| format!("hello, {name}")).map_err(|error| ErrorObject::new(1, error.to_string()))
            }
        });
        served.serve(&router).await;
    });
    assert_eq!(soon(client.request::<_, String>("greet", &())).await.unwrap(), "hello, Ada");
}

// S002-62, S002-64
#[tokio::test]
async fn requests_survive_the_loss_of_their_sockets_and_are_done_once() {
    let (client, connection, _server) = pair().await;
    let done = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&done);
    let router = Router::new().on_request("double", move |(number,): (u64,)| {
        counting.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::task::yield_now().await;
            Ok(2 * number)
        }
    });
    let served = connection.clone();
    tokio::spawn(async move { served.serve(&router).await });
    let asking = future::join_all((0..200_u64).map(|number| {
        let client = &client;
        async move { client.request::<_, u64>("double", &(number,)).await }
    }));
    let cutting = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            client.reconnect().unwrap();
        }
    };
    let (results, ()) = soon(future::join(asking, cutting)).await;
    let expected = (0..200).map(|number| Ok(2 * number)).collect::<Vec<_>>();
    assert_eq!(results, expected);
    assert_eq!(done.load(Ordering::Relaxed), 200);
    assert_eq!(connection.request_stats().served, 200);
}

// S002-28
#[tokio::test]
async fn what_is_asked_before_anybody_serves_waits() {
    let (client, connection, _server) = pair().await;
    let response = client.call(Call::new("early").unwrap()).unwrap();
    client.notify("note", &(1, 2)).unwrap();
    until(|| connection.stats().link.received == 2).await;
    let request = request(&connection).await;
    let Some(IncomingCall::Notification(note)) = soon(connection.requests().next()).await else {
        panic!("a notification")
    };
    assert_eq!((note.method(), note.params::<(u8, u8)>().unwrap()), ("note", (1, 2)));
    request.respond(Ok(1)).unwrap();
    assert_eq!(soon(response).await.unwrap().as_str(), "1");
}

#[tokio::test]
async fn a_request_that_is_dropped_is_withdrawn_and_one_that_nobody_answers_is_answered() {
    let (client, connection, _server) = pair().await;
    let response = client.call(Call::new("m").unwrap()).unwrap();
    let asked = request(&connection).await;
    let abandoned = asked.abandoned();
    drop(response);
    soon(abandoned).await;
    assert_eq!(asked.respond(Ok(1)), Err(RpcMisuse::NotWaiting));

    let response = client.call(Call::new("m").unwrap()).unwrap();
    drop(request(&connection).await);
    let error = soon(response).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Refused(refused) if refused.code == ErrorObject::INTERNAL_ERROR));
}

#[tokio::test]
async fn progress_is_told_until_the_end() {
    let (client, connection, _server) = pair().await;
    let mut response = client.call(Call::new("m").unwrap()).unwrap();
    let asked = request(&connection).await;
    for step in 0..3 {
        asked.progress(&number(step)).unwrap();
    }
    asked.respond(Ok("done")).unwrap();
    for step in 0..3 {
        assert_eq!(soon(response.progress()).await, Some(number(step)));
    }
    assert_eq!(soon(response.progress()).await, None);
    assert_eq!(response.now_or_never().unwrap().unwrap().as_str(), "\"done\"");
}

#[tokio::test]
async fn progress_that_nobody_reads_is_bounded_and_the_newest_stays() {
    let (client, connection, _server) = pair().await;
    let mut response = client.call(Call::new("m").unwrap()).unwrap();
    let asked = request(&connection).await;
    for letter in ["a", "b", "c", "d"] {
        asked.progress(&text(&letter.repeat(40_000))).unwrap();
    }
    asked.respond(Ok("done")).unwrap();
    let later = client.call(Call::new("later").unwrap()).unwrap();
    request(&connection).await.respond(Ok("done")).unwrap();
    soon(later).await.expect("all that went before it is here");
    assert_eq!(soon(response.progress()).await, Some(text(&"d".repeat(40_000))));
    assert_eq!(soon(response.progress()).await, None);
}

// S001-08, S001-44
#[tokio::test]
async fn the_end_of_a_connection_ends_its_requests_and_says_how() {
    let (client, connection, _server) = pair().await;
    let response = client.call(Call::new("prompt").unwrap()).unwrap();
    let id = response.id();
    let asked = request(&connection).await;
    connection.disconnect();
    let error = soon(response).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Ended { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("request {id} (prompt) failed: the connection ended: ")), "{error}");
    soon(asked.abandoned()).await;
    assert_eq!(asked.respond(Ok(1)), Err(RpcMisuse::NotWaiting));
    assert_eq!(client.call(Call::new("m").unwrap()).unwrap_err(), RpcMisuse::Ended);
    assert!(soon(connection.requests().next()).await.is_none());
}

#[tokio::test]
async fn who_decides_about_messages_has_nothing_to_decide_about_requests() {
    let (client, connection, _server) = pair_at(deciding(|_| {})).await;
    let responses = client.call_batch(vec![
        (Call::new("a").unwrap(), true),
        (Call::new("note").unwrap(), false),
        (Call::new("b").unwrap(), true),
    ]);
    let router = Router::new().on_request("a", |(): ()| async { Ok("a") }).on_request("b", |(): ()| async { Ok("b") });
    tokio::spawn(async move { connection.serve(&router).await });
    let results = soon(future::join_all(responses.unwrap())).await;
    let texts = results.iter().map(|result| result.as_ref().map(Payload::as_str));
    assert_eq!(texts.collect::<Vec<_>>(), [Ok("\"a\""), Ok("\"b\"")]);
}

#[tokio::test]
async fn requests_that_nobody_has_time_for_hold_nothing_else_up() {
    let (client, connection, _server) = pair().await;
    let responses = (0..90).map(|_| client.call(Call::new("slow").unwrap()).unwrap()).collect::<Vec<_>>();
    until(|| connection.stats().link.received > 64).await;
    client.send(number(1)).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 1);
    let asking = connection.call(Call::new("back").unwrap()).unwrap();
    let Some(IncomingCall::Request(back)) = soon(client.requests().next()).await else { panic!("a request came") };
    back.respond(Ok(2)).unwrap();
    assert_eq!(soon(asking).await.unwrap().as_str(), "2", "a response comes through");
    let answering = async {
        for _ in 0..90 {
            request(&connection).await.respond(Ok(())).unwrap();
        }
    };
    let (results, ()) = soon(future::join(future::join_all(responses), answering)).await;
    assert!(results.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_panic_in_a_notification_ends_that_alone() {
    let (client, connection, _server) = pair().await;
    let router = router().on_notification("boom", |(): ()| async {
        if true {
            panic!("this is meant");
        }
    });
    tokio::spawn(async move { connection.serve(&router).await });
    client.notify("boom", &()).unwrap();
    assert_eq!(soon(client.request::<_, ()>("nothing", &())).await, Ok(()));
}

/// The driver hands the last notification over and ends the connection while a reader looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_notified_right_before_the_end_is_taken() {
    for round in 0..100_u64 {
        let (client, connection, _server) = pair().await;
        _ = connection.request_stats();
        let reading = connection.clone();
        let reader = tokio::task::spawn_blocking(move || {
            let requests = reading.requests();
            let mut count = 0;
            loop {
                match requests.next().now_or_never() {
                    Some(Some(_)) => count += 1,
                    Some(None) => return count,
                    None => {}
                }
            }
        });
        let mut count = client.stats().link.written;
        client.notify("n", &()).unwrap();
        until(|| client.stats().link.written > count).await;
        count = connection.stats().link.received;
        if round % 2 == 0 {
            until(|| connection.stats().link.received > 0 || count > 0).await;
        }
        client.disconnect();
        let came = connection.stats().link.received;
        let taken = soon(reader).await.unwrap();
        assert!(taken >= usize::try_from(came).unwrap(), "in round {round} {taken} were taken of {came}");
    }
}
