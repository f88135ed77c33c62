//! How a server is: as its program asks it, and over HTTP on the port on which it listens. S002-50.

use std::time::Duration;

use reattach::Health;
use reattach::Hub;
use reattach::Server;
use reattach::ServerConfig;
use reattach::core::hub::Config;
use reattach::core::id::ConnectionKey;
use reattach::core::id::Name;
use reattach::core::id::Principal;
use reattach::core::id::SessionId;
use reattach::core::messages::PermissionId;
use reattach::core::messages::PermissionRequest;
use reattach::core::rpc::Call;
use reattach::core::server;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::loopback::client_config;
use super::loopback::deciding;
use super::loopback::listen;
use super::loopback::number;
use super::loopback::server_config;
use super::loopback::server_core;
use super::loopback::soon;
use super::loopback::text;
use super::loopback::until;
use super::raw::Raw;

const PATH: &str = "/health";
const GET: &str = "GET /health HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A server that says under [`PATH`] how it is, and its address.
async fn open(config: ServerConfig) -> (Server, String) {
    let (server, url) = listen(config.with_health(PATH.parse().unwrap())).await;
    (server, url.trim_start_matches("ws://").trim_end_matches('/').to_owned())
}

fn with_core(change: impl FnOnce(&mut server::Config)) -> ServerConfig {
    let mut core = server_core();
    change(&mut core);
    server_config().with_core(core)
}

async fn dial(address: &str) -> TcpStream {
    soon(TcpStream::connect(address)).await.unwrap()
}

/// What comes until the server hangs up. This side does not before that.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(address: &str, request: &str) -> String {
    let mut stream = dial(address).await;
    _ = soon(stream.write_all(request.as_bytes())).await;
    rest(&mut stream).await
}

fn body(answer: &str) -> Health {
    let (_, json) = answer.split_once("\r\n\r\n").expect("the end of the headers");
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{answer:?}: {error}"))
}

fn question() -> PermissionRequest {
    PermissionRequest {
        id: PermissionId::new("p").unwrap(),
        tool_name: "write_file".to_owned(),
        input: text("what it says"),
        context: number(1),
        timestamp: String::new(),
        remaining: None,
    }
}

// S002-50
#[tokio::test]
async fn health_counts_who_is_there_who_may_come_back_and_what_waits() {
    // Nobody takes those for dead who say nothing.
    let config = ServerConfig::new().with_authentication(|_| async { Name::new("ada").ok() });
    let (server, address) = open(config).await;
    let url = format!("ws://{address}/");
    let fresh = server.health();
    assert_eq!((fresh.clients.attached, fresh.clients.in_grace, fresh.is_draining), (0, 0, false));
    let hub = Hub::new(&server, Config::default());
    let principal = Principal::Named(Name::new("ada").unwrap());
    let session = hub.create(SessionId::new("s").unwrap(), principal).unwrap();
    let question = session.ask(question()).unwrap();
    let gone = Raw::attach(&url, ConnectionKey::from_bytes([1; 16])).await;
    let _stays = Raw::attach(&url, ConnectionKey::from_bytes([2; 16])).await;
    let (first, second) = (soon(server.accept()).await.unwrap(), soon(server.accept()).await.unwrap());
    // Nobody at the other end answers, or confirms anything.
    let _receipt = first.send(number(1)).await.unwrap();
    let waiting = second.call(Call::new("sum").unwrap()).unwrap();
    drop(gone);
    let seen = || {
        let Health { clients, pending, .. } = server.health();
        (clients.attached, clients.in_grace, pending.requests, pending.questions, pending.messages)
    };
    // The request is a message too.
    until(|| seen() == (1, 1, 1, 1, 2)).await;
    let over_http = body(&ask(&address, GET).await);
    assert_eq!((over_http.clients, over_http.pending), (server.health().clients, server.health().pending));
    assert!(fresh.uptime <= over_http.uptime && over_http.uptime <= server.health().uptime);
    // A stranger who asks is no client.
    assert_eq!(server.connections(), 2);
    drop((question, waiting));
    until(|| (seen().2, seen().3) == (0, 0)).await;
    server.shut_down();
    let Health { clients, pending, is_draining, .. } = server.health();
    assert_eq!((clients, pending, is_draining), (fresh.clients, fresh.pending, true));
}

// S002-50
#[tokio::test]
async fn requests_of_clients_count_until_they_are_answered() {
    let (server, address) = open(server_config()).await;
    let client = soon(reattach::connect(&format!("ws://{address}/"), client_config())).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    let calling = tokio::spawn(async move {
        let response = client.call(Call::new("sum").unwrap()).unwrap();
        (response.await, client)
    });
    let requests = connection.requests();
    let call = soon(requests.next()).await.unwrap();
    assert_eq!(server.health().pending.requests, 1);
    drop(requests);
    drop(call);
    until(|| server.health().pending.requests == 0).await;
    soon(calling).await.unwrap().0.unwrap_err();
}

// S002-50
#[tokio::test]
async fn a_plain_request_for_the_path_is_answered_however_it_comes_and_every_other_as_before() {
    let (server, address) = open(server_config()).await;
    let head = ask(&address, &GET.replace("GET", "HEAD")).await;
    let lines: Vec<_> = head.lines().collect();
    for line in ["Content-Type: application/json", "Cache-Control: no-store", "Connection: close"] {
        assert!(lines.contains(&line), "{line} is not in {head}");
    }
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let long = "x".repeat(15_000);
    for request in [
        GET.to_owned(),
        "GET /health?pretty=1&x=/ HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET /health?{long} HTTP/1.1\r\n\r\n"),
        "GET /health HTTP/1.0\r\n\r\n".to_owned(),
        format!("GET http://{address}/health HTTP/1.1\r\n\r\n"),
        "GET /health HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nContent-Length: 9\r\n\r\n{\"a\":\"b\"}".to_owned(),
        format!("{GET}{GET}GET / HTTP/1.1\r\n\r\n"),
        format!("{GET}\u{0}\u{1}\r\n\r\nnonsense{long}"),
    ] {
        let answer = ask(&address, &request).await;
        let shown = request.get(..60).unwrap_or(&request);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{shown:?}: {answer:?}");
        let (said, json) = answer.split_once("\r\n\r\n").unwrap();
        assert!(said.ends_with(&format!("\r\nContent-Length: {}", json.len())), "{answer}");
        // One answer, whatever follows the request.
        assert!(!body(&answer).is_draining, "{shown:?}");
    }
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "426"),
        ("GET /healthy HTTP/1.1\r\n\r\n".to_owned(), "426"),
        ("GET /health/ HTTP/1.1\r\n\r\n".to_owned(), "426"),
        (format!("GET /health/{long} HTTP/1.1\r\n\r\n"), "426"),
        ("POST /health HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned(), "405"),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), "400"),
        (format!("GET /health HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n"), "400"),
        (format!("GET /health{} HTTP/1.1\r\n\r\n", "/".repeat(200_000)), "4"),
    ] {
        let answer = ask(&address, &request).await;
        let shown = request.get(..60).unwrap_or(&request);
        // What never ends is cut off, and may be told nothing.
        let is_answered = answer.starts_with(&format!("HTTP/1.1 {status}")) || (status == "4" && answer.is_empty());
        assert!(is_answered, "{shown:?}: {answer:?}");
    }
    // The path is one like any other for a WebSocket.
    let raw = Raw::over(&format!("ws://{address}{PATH}"), dial(&address).await).await;
    drop(raw);
    until(|| server.transports() == 0).await;
    // Nobody is told who was not meant to be.
    let (_server, url) = listen(server_config()).await;
    let answer = ask(url.trim_start_matches("ws://").trim_end_matches('/'), GET).await;
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
}

// S002-50
#[tokio::test]
async fn a_slow_request_and_one_that_never_hangs_up_are_cut_off_by_the_deadline_of_strangers() {
    let (server, address) = open(with_core(|core| core.hello_timeout = Duration::from_millis(400))).await;
    let mut slow = dial(&address).await;
    let begun = std::time::Instant::now();
    let writing = async {
        for byte in GET.bytes().cycle().take(GET.len() - 1) {
            if slow.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        rest(&mut slow).await
    };
    assert_eq!(soon(writing).await, "");
    assert!(begun.elapsed() >= Duration::from_millis(400));
    // In two pieces it is fine.
    let mut halved = dial(&address).await;
    halved.write_all(&GET.as_bytes()[..7]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    halved.write_all(&GET.as_bytes()[7..]).await.unwrap();
    assert!(rest(&mut halved).await.starts_with("HTTP/1.1 200"));
    // It was answered, and holds its end open: that is not waited for either.
    until(|| server.transports() == 0).await;
    drop((slow, halved));
}

// S002-50
#[tokio::test]
async fn who_asks_is_counted_like_every_stranger() {
    let (server, address) = open(with_core(|core| core.max_per_address = 2)).await;
    let (silent, other) = (dial(&address).await, dial(&address).await);
    until(|| server.transports() == 2).await;
    assert_eq!(ask(&address, GET).await, "", "there are as many as may be");
    drop(silent);
    until(|| server.transports() == 1).await;
    assert!(ask(&address, GET).await.starts_with("HTTP/1.1 200"));
    drop(other);
}

// S002-50
#[tokio::test]
async fn a_server_that_drains_says_so_and_lets_nobody_else_in() {
    let (server, address) = open(deciding(|_| {})).await;
    let url = format!("ws://{address}/");
    let client = soon(reattach::connect(&url, client_config())).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    _ = client.send(number(1)).await.unwrap();
    let received = soon(connection.recv()).await.unwrap();
    assert!(ask(&address, GET).await.starts_with("HTTP/1.1 200"));
    let draining = server.clone();
    let draining = tokio::spawn(async move {
        draining.drain(Duration::from_secs(20), Duration::from_secs(1)..=Duration::from_secs(2)).await
    });
    until(|| server.health().is_draining).await;
    // At once, though the numbers were told a moment ago.
    let answer = ask(&address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(body(&answer).is_draining);
    let upgrade = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: reattach.v1\r\n\r\n";
    let mut stranger = dial(&address).await;
    stranger.write_all(upgrade.as_bytes()).await.unwrap();
    // Who asks and stays does not keep the server from going.
    let mut lingering = dial(&address).await;
    lingering.write_all(GET.as_bytes()).await.unwrap();
    received.accept().unwrap();
    assert_eq!(soon(draining).await.unwrap(), []);
    assert_eq!(rest(&mut stranger).await, "");
    rest(&mut lingering).await;
    assert!(TcpStream::connect(&address).await.is_err(), "nobody listens");
}

// S002-50
#[tokio::test]
async fn a_server_that_drains_hangs_up_at_once_on_whoever_asks_for_something_else() {
    // Nobody who waits for that is told in time.
    let config = deciding(|core| (core.hello_timeout, core.max_per_address) = (Duration::from_secs(3_600), 3));
    let (server, address) = open(config).await;
    let client = soon(reattach::connect(&format!("ws://{address}/"), client_config())).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    _ = client.send(number(1)).await.unwrap();
    let received = soon(connection.recv()).await.unwrap();
    let draining = server.clone();
    let draining = tokio::spawn(async move {
        draining.drain(Duration::from_secs(60), Duration::from_secs(1)..=Duration::from_secs(2)).await
    });
    until(|| server.health().is_draining).await;
    let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: reattach.v1\r\n\r\n";
    for request in [upgrade, "GET / HTTP/1.1\r\n\r\n", "POST /health HTTP/1.1\r\n\r\n", "\u{16}\u{3}\u{1} nonsense\r\n"]
    {
        assert_eq!(ask(&address, request).await, "", "{request:?}");
    }
    // They are not in the way of whoever asks for what there is, in as many pieces as it likes.
    let mut halved = dial(&address).await;
    for half in [&GET[..7], &GET[7..]] {
        halved.write_all(half.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(rest(&mut halved).await.starts_with("HTTP/1.1 503"));
    received.accept().unwrap();
    assert_eq!(soon(draining).await.unwrap(), []);
}
