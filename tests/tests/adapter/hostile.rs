//! A listening server against whatever may come: a typed answer for each, and a well-behaved client beside it that notices
//! nothing.

use std::time::Duration;

use reattach::Client;
use reattach::ConnectionState;
use reattach::Server;
use reattach::core::id::ConnectionKey;
use reattach::core::wire::CloseCode;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::loopback::client_config;
use super::loopback::echo;
use super::loopback::listen;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::server_config;
use super::loopback::server_core;
use super::loopback::soon;
use super::raw::Raw;
use super::raw::hello;

/// A server that echoes, and a client of it that behaves.
struct Scene {
    _server: Server,
    url: String,
    client: Client,
    asked: u64,
}

impl Scene {
    async fn new() -> Self {
        let mut core = server_core();
        core.hello_timeout = Duration::from_millis(400);
        let (server, url) = listen(server_config().with_core(core)).await;
        echo(&server);
        let client = soon(reattach::connect(&url, client_config())).await.unwrap();
        Self { _server: server, url, client, asked: 0 }
    }

    /// The client has one transport from beginning to end, and is answered.
    async fn assert_unaffected(&mut self) {
        self.asked += 1;
        _ = self.client.send(number(self.asked)).await.unwrap();
        assert_eq!(number_of(&soon(self.client.recv()).await.unwrap()), self.asked);
        assert_eq!((self.client.state(), self.client.stats().attached), (ConnectionState::Attached, 1));
    }

    fn address(&self) -> String {
        self.url.trim_start_matches("ws://").trim_end_matches('/').to_owned()
    }

    /// Writes bytes on a bare socket and returns what comes back until it is closed.
    async fn answer_to(&self, bytes: &[u8]) -> String {
        let mut stream = soon(TcpStream::connect(self.address())).await.unwrap();
        // A server that has heard enough may close before it has read everything.
        _ = soon(stream.write_all(bytes)).await;
        let mut answer = Vec::new();
        _ = soon(stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Says something first on a new WebSocket and returns how it is closed.
    async fn closed_after(&self, first: &str) -> CloseCode {
        let mut raw = Raw::open(&self.url).await;
        raw.send(first).await;
        raw.closed().await
    }

    async fn attach(&self, key: u8) -> Raw {
        Raw::attach(&self.url, ConnectionKey::from_bytes([key; 16])).await
    }
}

#[tokio::test]
async fn bytes_that_are_no_request_are_turned_away() {
    let mut scene = Scene::new().await;
    let mut random = reattach::core::rng::Rng::new(7);
    for len in [1_usize, 10, 1_000, 100_000] {
        let mut bytes: Vec<u8> = (0..len).map(|_| random.next_u64().to_le_bytes()[0]).collect();
        // Where nothing in them ends a request, the end of the stream does.
        bytes.extend(b"\r\n\r\n");
        let answer = scene.answer_to(&bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        scene.assert_unaffected().await;
    }
}

// S003-44, S002-81, S003-45
#[tokio::test]
async fn requests_that_are_no_upgrade_are_told_what_is_expected() {
    let mut scene = Scene::new().await;
    let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "426"),
        ("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "426"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned(), "405"),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "400"),
        (format!("{upgrade}\r\n"), "400"),
        (format!("{upgrade}Sec-WebSocket-Protocol: reattach.v0, chat\r\n\r\n"), "400"),
        (format!("{upgrade}Origin: https://evil.example\r\nSec-WebSocket-Protocol: reattach.v1\r\n\r\n"), "403"),
        (format!("{upgrade}X: {}\r\n\r\n", "y".repeat(200_000)), "4"),
    ] {
        let answer = scene.answer_to(request.as_bytes()).await;
        let shown = request.get(..60).unwrap_or(&request);
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown:?}: {answer:?}");
        assert!(!answer.is_empty() || status == "4", "{shown:?} was not answered");
        scene.assert_unaffected().await;
    }
    let offered = "Sec-WebSocket-Protocol: chat, reattach.v1\r\n\r\n";
    let mut stream = soon(TcpStream::connect(scene.address())).await.unwrap();
    soon(stream.write_all(format!("{upgrade}{offered}").as_bytes())).await.unwrap();
    let mut answer = vec![0; 1_024];
    let read = soon(stream.read(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).to_lowercase();
    assert!(answer.starts_with("http/1.1 101") && answer.contains("sec-websocket-protocol: reattach.v1"), "{answer}");
}

#[tokio::test]
async fn what_is_no_hello_is_refused_with_a_code() {
    let mut scene = Scene::new().await;
    let key = ConnectionKey::from_bytes([1; 16]);
    let good = hello(&key, 1, 1, "");
    let deep = format!(r#"{{"t":"hello","x":{}1{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let other = ConnectionKey::from_bytes([2; 16]);
    let wrong_key = good.replace(&key.reveal(), &other.reveal());
    for (first, code) in [
        ("", CloseCode::PROTOCOL),
        ("hello", CloseCode::PROTOCOL),
        ("{}", CloseCode::PROTOCOL),
        ("[1]", CloseCode::PROTOCOL),
        (r#"{"t":"ping","n":1}"#, CloseCode::PROTOCOL),
        (r#"{"t":"hello"}"#, CloseCode::PROTOCOL),
        (deep.as_str(), CloseCode::PROTOCOL),
        (&format!("{good}\n{{\"t\":\"ping\",\"n\":1}}"), CloseCode::PROTOCOL),
        (&good.replace("\"attempt\":1", "\"attempt\":0"), CloseCode::PROTOCOL),
        (&good.replace("\"window\":256", "\"window\":99999999"), CloseCode::PROTOCOL),
        (&good.replace("\"attempt\":1", "\"attempt\":1,\"attempt\":2"), CloseCode::PROTOCOL),
        (&good.replace("cid-", "sid-"), CloseCode::MALFORMED_ID),
        (&good.replace(&key.reveal(), "abc"), CloseCode::MALFORMED_ID),
        (&wrong_key, CloseCode::UNAUTHENTICATED),
        (&format!("{good}{}", " ".repeat(131_072)), CloseCode::TOO_LARGE),
        (&" ".repeat(300_000), CloseCode::TOO_BIG),
    ] {
        assert_eq!(scene.closed_after(first).await, code, "{}", first.get(..80).unwrap_or(first));
        scene.assert_unaffected().await;
    }
}

// S004-019
#[tokio::test]
async fn a_refusal_says_why_and_a_wrong_key_learns_nothing() {
    let scene = Scene::new().await;
    let key = ConnectionKey::from_bytes([1; 16]);
    let good = hello(&key, 1, 1, "");
    let mut raw = Raw::open(&scene.url).await;
    raw.send(&good.replace("cid-", "sid-")).await;
    let bye = raw.next().await.unwrap();
    assert!(bye.starts_with(r#"{"t":"bye","code":4422"#) && bye.contains("\\\"cid\\\""), "{bye}");

    let _owner = scene.attach(1).await;
    let mut answers = Vec::new();
    for owner in [key, ConnectionKey::from_bytes([3; 16])] {
        let mut raw = Raw::open(&scene.url).await;
        raw.send(&hello(&owner, 7, 1, "").replace(&owner.reveal(), &"0".repeat(32))).await;
        answers.push((raw.next().await.unwrap(), raw.closed().await));
    }
    assert_eq!(answers[0], answers[1], "a connection that exists and one that does not");
    assert_eq!(answers[0].0, r#"{"t":"bye","code":4401}"#);
}

#[tokio::test]
async fn silence_is_not_waited_for() {
    let mut scene = Scene::new().await;
    // Silent before the request, in the middle of it, and behind it.
    assert_eq!(scene.answer_to(b"").await, "");
    assert_eq!(scene.answer_to(b"GET / HTTP/1.1\r\nHost:").await, "");
    let mut raw = Raw::open(&scene.url).await;
    assert_eq!(raw.closed().await, CloseCode::HELLO_TIMEOUT);
    scene.assert_unaffected().await;
}

#[tokio::test]
async fn a_stale_hello_and_a_dead_instance_cannot_evict_the_living() {
    let mut scene = Scene::new().await;
    let key = ConnectionKey::from_bytes([1; 16]);
    let mut raw = Raw::open(&scene.url).await;
    raw.send(&hello(&key, 1, 5, "")).await;
    assert!(raw.next().await.unwrap().contains(r#""t":"welcome""#));
    for attempt in [1, 4, 5] {
        assert_eq!(scene.closed_after(&hello(&key, 1, attempt, "")).await, CloseCode::STALE);
    }
    // A hello of another instance has to prove that somebody is there.
    let mut ghost = Raw::open(&scene.url).await;
    ghost.send(&hello(&key, 2, 9, "")).await;
    let challenge = ghost.next().await.unwrap();
    assert!(challenge.starts_with(r#"{"t":"challenge","fence":""#), "{challenge}");
    assert_eq!(ghost.closed().await, CloseCode::HELLO_TIMEOUT, "nobody answered");
    let mut guess = Raw::open(&scene.url).await;
    guess.send(&hello(&key, 2, 9, "")).await;
    guess.next().await.unwrap();
    guess.send(&hello(&key, 2, 9, &format!(r#","fence":"{}""#, "0".repeat(32)))).await;
    assert_eq!(guess.closed().await, CloseCode::PROTOCOL, "a wrong fence");
    // The living one is still there.
    raw.send(r#"{"t":"ping","n":1}"#).await;
    assert_eq!(raw.next().await.unwrap(), r#"{"t":"pong","n":1,"received":0,"settled":0}"#);
    // With the fence it is evicted, and its own next hello is told so.
    let mut next = Raw::open(&scene.url).await;
    next.send(&hello(&key, 2, 1, "")).await;
    let challenge = next.next().await.unwrap();
    let fence = challenge.split('"').nth(7).unwrap();
    next.send(&hello(&key, 2, 1, &format!(r#","fence":"{fence}""#))).await;
    assert!(next.next().await.unwrap().contains(r#""t":"welcome""#));
    let bye = r#"{"t":"bye","code":4409,"received":0,"settled":0,"reason":"another instance"}"#;
    assert_eq!(raw.next().await.unwrap(), bye);
    assert_eq!(raw.closed().await, CloseCode::SUPERSEDED);
    assert_eq!(scene.closed_after(&hello(&key, 1, 99, "")).await, CloseCode::SUPERSEDED, "a delayed hello of the dead");
    scene.assert_unaffected().await;
}

// S002-67
#[tokio::test]
async fn an_attached_peer_that_breaks_the_protocol_is_closed_with_a_code() {
    let mut scene = Scene::new().await;
    let large = format!(r#"{{"t":"msg","seq":1,"d":"{}"}}"#, "x".repeat(4 * 1024 * 1024 + 1));
    let huge = " ".repeat(5 * 1024 * 1024);
    let beyond: String = (1..=300).map(|seq| format!("{{\"t\":\"msg\",\"seq\":{seq},\"d\":0}}\n")).collect();
    let malformed = "{\n".repeat(9);
    for (key, (breach, code)) in [
        (r#"{"t":"msg","seq":999,"d":0}"#, CloseCode::PROTOCOL),
        (r#"{"t":"ack","received":1,"settled":0}"#, CloseCode::PROTOCOL),
        (r#"{"t":"ack","received":0,"settled":0,"seen":1}"#, CloseCode::PROTOCOL),
        (r#"{"t":"welcome","cid":"cid-00000000-0000-8000-8000-000000000000","epoch":"00000000000000000000000000000000","resumed":true,"window":1,"windowBytes":1,"maxPayload":1,"detachTtl":1}"#, CloseCode::PROTOCOL),
        (&hello(&ConnectionKey::from_bytes([9; 16]), 1, 2, ""), CloseCode::PROTOCOL),
        (&malformed, CloseCode::PROTOCOL),
        (&large, CloseCode::TOO_LARGE),
        (&format!(r#"{{"t":"ping","n":1,"x":"{}"}}"#, "x".repeat(131_072)), CloseCode::TOO_LARGE),
        (&huge, CloseCode::TOO_BIG),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = scene.attach(u8::try_from(key).unwrap() + 10).await;
        raw.send(breach).await;
        assert_eq!(raw.closed().await, code, "{}", breach.get(..60).unwrap_or(breach));
        scene.assert_unaffected().await;
    }
    // 300 messages at once are more than the window; an echo server may have taken some by then, but never so many.
    let mut raw = scene.attach(60).await;
    raw.send(&beyond).await;
    assert_eq!(raw.closed().await, CloseCode::PROTOCOL);
    scene.assert_unaffected().await;
}

// S001-06, S002-76, S002-67
#[tokio::test]
async fn malformed_frames_are_skipped_and_the_good_ones_between_them_count() {
    let mut scene = Scene::new().await;
    let mut raw = scene.attach(1).await;
    let deep = format!(r#"{{"t":"msg","x":{}{},"seq":1,"d":0}}"#, "[".repeat(10_000), "]".repeat(10_000));
    raw.send(&format!("{{\nnonsense\n{{\"t\":\"zzz\"}}\n{deep}\n{{\"t\":\"msg\",\"seq\":1,\"d\":\"good\"}}")).await;
    // The report may leave by itself before the application answers.
    let mut heard = String::new();
    while !heard.contains("good") {
        heard.push_str(&raw.next().await.unwrap());
    }
    assert!(heard.ends_with(r#"{"t":"msg","seq":1,"d":"good"}"#), "{heard}");
    scene.assert_unaffected().await;
}

#[tokio::test]
async fn a_payload_that_is_not_json_harms_nobody() {
    let mut scene = Scene::new().await;
    let mut raw = scene.attach(1).await;
    // By its header it is a message; what it carries would forge a frame if it were echoed unchecked.
    raw.send(r#"{"t":"msg","seq":1,"d":1,"seq":7}"#).await;
    let deep = format!(r#"{{"t":"msg","seq":2,"d":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    raw.send(&deep).await;
    raw.send(r#"{"t":"msg","seq":3,"d":"good"}"#).await;
    let mut heard = String::new();
    while !heard.contains("good") {
        heard.push_str(&raw.next().await.unwrap());
    }
    assert!(heard.ends_with(r#"{"t":"msg","seq":1,"d":"good"}"#), "only what is JSON came back: {heard}");
    scene.assert_unaffected().await;
}
