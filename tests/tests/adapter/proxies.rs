//! Clients whose streams take another way: a connector of the application's own, and proxies. The proxies here speak their
//! protocols byte by byte, as the RFCs have them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use reattach::ClientConfig;
use reattach::ConnectError;
use reattach::Connector;
use reattach::core::outcome::Outcome;
use reattach::core::reconnect::Ended;
use reattach::core::reconnect::GiveUp;
use reattach::core::reconnect::OpenError;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use super::loopback::client_config;
use super::loopback::client_core;
use super::loopback::listen;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::server_config;
use super::loopback::soon;

/// A proxy on a port of its own that serves each stream with a function, and its address.
async fn proxy<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn carry(mut stream: TcpStream, to: &str) {
    let mut onward = TcpStream::connect(to).await.unwrap();
    _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
}

/// The head of an HTTP request.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Sends a message through, breaks the stream, and sends another one.
async fn goes_through(config: ClientConfig, server: &reattach::Server, url: &str) {
    let client = soon(reattach::connect(url, config)).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    for round in 0..2 {
        let receipt = client.send(number(round)).await.unwrap();
        assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), round);
        assert_eq!(soon(receipt).await, Outcome::Delivered);
        client.reconnect().unwrap();
    }
}

fn only_once() -> ClientConfig {
    let mut core = client_core();
    core.reconnect.attempts = Some(0);
    ClientConfig::new().with_core(core)
}

fn exhausted(last: OpenError) -> ConnectError {
    ConnectError::GaveUp(GiveUp::Exhausted { attempts: 0, last: Ended::NotOpened(last) })
}

#[tokio::test]
async fn a_connector_of_the_applications_own_is_asked_for_every_stream() {
    let (server, url) = listen(server_config()).await;
    let address = server.local_addr().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&asked);
    let connector = Connector::new(move |destination| {
        counting.fetch_add(1, Ordering::SeqCst);
        async move {
            assert_eq!((destination.host.as_str(), destination.port), ("nowhere.invalid", 7));
            // It runs wherever the driver does.
            smol::Async::<std::net::TcpStream>::connect(address).await
        }
    });
    assert!(url.contains("127.0.0.1"));
    goes_through(client_config().with_connector(connector), &server, "ws://nowhere.invalid:7/").await;
    assert!(asked.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn a_connector_that_panics_connects_nothing_and_ends_nothing() {
    let connector = Connector::new(|destination| async move {
        assert_eq!(destination.port, 0, "the application panics");
        smol::Async::<std::net::TcpStream>::connect(([127, 0, 0, 1], 9)).await
    });
    let config = only_once().with_connector(connector);
    let error = soon(reattach::connect("ws://nowhere.invalid/", config)).await.expect_err("there is no stream");
    assert_eq!(error, exhausted(OpenError::Unreachable));
}

#[tokio::test]
async fn an_http_proxy_leads_on_and_is_told_who_asks() {
    let (server, url) = listen(server_config()).await;
    let to = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let address = proxy(move |mut stream| {
        let to = to.clone();
        async move {
            let head = head(&mut stream).await;
            assert!(head.starts_with(&format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n")), "{head}");
            // "user:pass word"
            assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n"), "{head}");
            stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 here\r\n\r\n").await.unwrap();
            carry(stream, &to).await;
        }
    })
    .await;
    let proxy = format!("http://user:pass%20word@{address}").parse().unwrap();
    goes_through(client_config().with_proxy(proxy), &server, &url).await;
}

#[tokio::test]
async fn an_http_proxy_that_refuses_is_quoted() {
    for (answer, status) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Some(407)),
        ("nonsense\r\n\r\n", None),
        (&"x".repeat(10_000), None),
    ] {
        let answer = answer.to_owned();
        let address = proxy(move |mut stream| {
            let answer = answer.clone();
            async move {
                head(&mut stream).await;
                _ = stream.write_all(answer.as_bytes()).await;
                _ = stream.read_u8().await;
            }
        })
        .await;
        let config = only_once().with_proxy(format!("http://{address}").parse().unwrap());
        let error = soon(reattach::connect("ws://server.invalid/", config)).await.expect_err("nothing is behind it");
        assert_eq!(error, exhausted(OpenError::Proxy { status }));
    }
}

#[tokio::test]
async fn a_socks5_proxy_leads_on_by_name_with_a_login() {
    let (server, url) = listen(server_config()).await;
    let to = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let port = server.local_addr().unwrap().port();
    let address = proxy(move |mut stream| {
        let to = to.clone();
        async move {
            let mut greeting = [0; 2];
            stream.read_exact(&mut greeting).await.unwrap();
            let mut methods = vec![0; usize::from(greeting[1])];
            stream.read_exact(&mut methods).await.unwrap();
            assert!(greeting[0] == 5 && methods.contains(&2), "user and password are offered");
            stream.write_all(&[5, 2]).await.unwrap();
            let mut login = [0; 11];
            stream.read_exact(&mut login).await.unwrap();
            assert_eq!(&login, b"\x01\x04user\x04pass");
            stream.write_all(&[1, 0]).await.unwrap();
            let mut request = [0; 4 + 1 + 14 + 2];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(&request[..19], b"\x05\x01\x00\x03\x0eserver.invalid");
            assert_eq!(request[19..], port.to_be_bytes());
            stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await.unwrap();
            carry(stream, &to).await;
        }
    })
    .await;
    let proxy = format!("socks5://user:pass@{address}").parse().unwrap();
    goes_through(client_config().with_proxy(proxy), &server, &format!("ws://server.invalid:{port}/")).await;
}

#[tokio::test]
async fn a_socks5_proxy_that_refuses_is_named() {
    let address = proxy(|mut stream| async move {
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).await.unwrap();
        stream.write_all(&[5, 0]).await.unwrap();
        let mut request = [0; 4 + 1 + 14 + 2];
        stream.read_exact(&mut request).await.unwrap();
        // Not allowed by the rules.
        stream.write_all(&[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    })
    .await;
    let config = only_once().with_proxy(format!("socks5://{address}").parse().unwrap());
    let error = soon(reattach::connect("ws://server.invalid/", config)).await.expect_err("nothing is behind it");
    assert_eq!(error, exhausted(OpenError::Proxy { status: None }));
    assert!(error.to_string().contains("the proxy does not lead on to the server"), "{error}");
}
