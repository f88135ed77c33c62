//! The adapter's server: who is let in, who is turned away, and what one client can do to another.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reattach::Admitted;
use reattach::ClientConfig;
use reattach::ConnectError;
use reattach::ConnectionState;
use reattach::Credentials;
use reattach::CredentialsProvider;
use reattach::Origins;
use reattach::core::client::Closed;
use reattach::core::client::OnSuperseded;
use reattach::core::error::ApiMisuse;
use reattach::core::id::Name;
use reattach::core::id::Principal;
use reattach::core::outcome::Outcome;
use reattach::core::outcome::Unknown;
use reattach::core::reconnect::Ended;
use reattach::core::reconnect::GiveUp;
use reattach::core::reconnect::OpenError;
use reattach::core::server::PeerClosed;
use reattach::core::server::PeerEvent;
use reattach::core::wire::CloseCode;

use super::loopback::client_config;
use super::loopback::client_core;
use super::loopback::listen;
use super::loopback::next;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::pair;
use super::loopback::server_config;
use super::loopback::server_core;
use super::loopback::soon;
use super::loopback::text;
use super::loopback::until;
use super::raw::Raw;

fn with_token(config: ClientConfig, token: &'static str) -> ClientConfig {
    config.with_credentials(CredentialsProvider::new(move || async move { Credentials::token(token) }))
}

// Field notes, section 2, C: authentication runs on every attach, never only on the first.
#[tokio::test]
async fn credentials_are_asked_for_and_checked_anew_for_every_attach() {
    let (asked, checked) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counting = Arc::clone(&checked);
    let config = server_config().with_authentication(move |hello| {
        counting.fetch_add(1, Ordering::Relaxed);
        let is_known = hello.token.is_some_and(|token| token.reveal().starts_with("ticket"));
        async move { is_known.then(|| Name::new("alice").unwrap()) }
    });
    let (server, url) = listen(config).await;
    let counting = Arc::clone(&asked);
    let provider = CredentialsProvider::new(move || {
        let number = counting.fetch_add(1, Ordering::Relaxed);
        async move { Credentials::token(format!("ticket {number}")) }
    });
    let client = soon(reattach::connect(&url, client_config().with_credentials(provider))).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    assert_eq!(connection.principal(), &Principal::Named(Name::new("alice").unwrap()));
    for round in 1..=3 {
        connection.detach(CloseCode::RESTART).expect("a code that may be sent");
        until(|| client.stats().resumed == round).await;
    }
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    assert_eq!(checked.load(Ordering::Relaxed), 4);
}

// S004-059
#[tokio::test]
async fn refused_credentials_are_refreshed_once_and_then_it_says_so() {
    let config = server_config().with_authentication(|_| async { None });
    let (_server, url) = listen(config).await;
    let refused = soon(reattach::connect(&url, with_token(client_config(), "wrong"))).await;
    let last = Ended::Closed(CloseCode::UNAUTHENTICATED);
    assert_eq!(refused.unwrap_err(), ConnectError::GaveUp(GiveUp::Unauthorized { last }));
}

#[tokio::test]
async fn credentials_that_run_out_are_renewed_and_the_connection_notices_nothing_else() {
    let asked = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&asked);
    let config = server_config().with_admission(move |hello| {
        let is_first = hello.token.is_some_and(|token| token.reveal() == "0");
        let expires_in = is_first.then_some(Duration::from_millis(100));
        async move { Some(Admitted { principal: Name::new("ann").unwrap(), expires_in }) }
    });
    let (server, url) = listen(config).await;
    let provider = CredentialsProvider::new(move || {
        let n = counting.fetch_add(1, Ordering::Relaxed);
        async move { Credentials::token(n.to_string()) }
    });
    let client = soon(reattach::connect(&url, client_config().with_credentials(provider))).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    let mut events = connection.events();
    soon(async {
        while events.next().await != Some(PeerEvent::Detached { ended: Ended::CredentialsExpired }) {}
        while events.next().await != Some(PeerEvent::Attached { resumed: true }) {}
    })
    .await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let receipt = client.send(text("after")).await.unwrap();
    next(&connection).await.accept().unwrap();
    assert_eq!(soon(receipt).await, Outcome::Delivered);
    assert_eq!(server.connections(), 1);
}

// S004-028, N07
#[tokio::test]
async fn another_principal_with_the_key_is_refused_and_the_owner_notices_nothing() {
    let config = server_config()
        .with_authentication(|hello| async move { hello.token.and_then(|token| Name::new(token.reveal()).ok()) });
    let (server, url) = listen(config).await;
    let key = reattach::connection_key();
    let owner = soon(reattach::connect(&url, with_token(client_config().with_key(key), "alice"))).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    let mut events = connection.events();
    let thief = reattach::connect(&url, with_token(client_config().with_key(key), "mallory"));
    let last = Ended::Closed(CloseCode::FORBIDDEN);
    assert_eq!(soon(thief).await.unwrap_err(), ConnectError::GaveUp(GiveUp::Unauthorized { last }));
    let receipt = owner.send(number(1)).await.unwrap();
    soon(connection.recv()).await.unwrap();
    assert_eq!(soon(receipt).await, Outcome::Delivered);
    owner.disconnect();
    let first = soon(events.next()).await;
    assert!(matches!(first, Some(PeerEvent::Closed { .. })), "the first thing to be told is the end: {first:?}");
}

#[tokio::test]
async fn a_client_that_is_revoked_is_told_and_ends() {
    let (client, connection, server) = pair().await;
    assert!(server.revoke(&connection.id()));
    soon(connection.ended()).await;
    soon(client.closed()).await;
    let ConnectionState::Closed(Closed::ByPeer { code, .. }) = client.state() else { panic!("{:?}", client.state()) };
    assert_eq!(code, CloseCode::FORBIDDEN);
    until(|| (server.connections(), server.transports()) == (0, 0)).await;
    assert!(!server.revoke(&connection.id()));
    assert_eq!(server.revoke_all(&Name::new("nobody").unwrap()), 0);
}

#[tokio::test]
async fn authentication_that_takes_too_long_lets_nobody_in() {
    let mut core = server_core();
    core.hello_timeout = Duration::from_millis(150);
    let config = server_config().with_core(core).with_authentication(|_| std::future::pending());
    let (server, url) = listen(config).await;
    let client = reattach::start(&url, with_token(client_config(), "alice")).unwrap();
    let mut events = client.events();
    let ended = soon(async {
        loop {
            if let Some(reattach::core::client::Event::TryFailed { ended }) = events.next().await {
                return ended;
            }
        }
    })
    .await;
    assert_eq!(ended, Ended::Closed(CloseCode::HELLO_TIMEOUT));
    assert_eq!(server.connections(), 0);
}

// S003-01
#[tokio::test]
async fn headers_of_the_client_reach_the_application() {
    let seen = Arc::new(Mutex::new(None));
    let entering = Arc::clone(&seen);
    let config = server_config().with_authentication(move |hello| {
        let header = |name: &str| hello.upgrade.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        *entering.lock().unwrap() =
            Some((header("x-app"), header("authorization"), hello.upgrade.path, hello.upgrade.remote.is_some()));
        async { Some(Name::new("anybody").unwrap()) }
    });
    let (_server, url) = listen(config).await;
    let provider = CredentialsProvider::new(|| async {
        Ok(Credentials::none().with_header("authorization", "Bearer t").expect("a header that can be sent"))
    });
    let config = client_config().with_header("x-app", "demo").unwrap().with_credentials(provider);
    let _client = soon(reattach::connect(&format!("{url}a/b?c=d"), config)).await.unwrap();
    let expected = (Some("demo".to_owned()), Some("Bearer t".to_owned()), "/a/b?c=d".to_owned(), true);
    assert_eq!(seen.lock().unwrap().take(), Some(expected));
}

#[tokio::test]
async fn pages_are_let_in_by_the_list_only() {
    let listed = Origins::These(vec!["https://good.example".to_owned()]);
    let (server, url) = listen(server_config().with_origins(listed)).await;
    let from = |origin: &str| client_config().with_header("origin", origin).unwrap();
    let bad = soon(reattach::connect(&url, from("https://bad.example"))).await.unwrap_err();
    let last = Ended::NotOpened(OpenError::Refused { status: 403, retry_after: None });
    assert_eq!(bad, ConnectError::GaveUp(GiveUp::Unauthorized { last }));
    let _client = soon(reattach::connect(&url, from("https://good.example"))).await.unwrap();
    assert_eq!(server.connections(), 1);
}

// S004-137, N06
#[tokio::test]
async fn two_copies_of_one_identity_come_to_terms() {
    let (server, url) = listen(server_config()).await;
    let key = reattach::connection_key();
    let first = soon(reattach::connect(&url, client_config().with_key(key))).await.unwrap();
    let cid = first.connection_id();
    let at_first = soon(server.accept()).await.unwrap();
    let second = soon(reattach::connect(&url, client_config().with_key(key))).await.unwrap();
    let moved = soon(server.accept()).await.unwrap();
    until(|| first.connection_id() != cid && first.state() == ConnectionState::Attached).await;
    assert_eq!((second.connection_id(), at_first.id(), moved.id()), (cid, cid, first.connection_id()));
    _ = second.send(number(2)).await.unwrap();
    _ = first.send(number(1)).await.unwrap();
    assert_eq!(number_of(&soon(at_first.recv()).await.unwrap()), 2, "the connection went to the second one");
    assert_eq!(number_of(&soon(moved.recv()).await.unwrap()), 1);
    let stats = (first.stats().attached, second.stats().attached);
    assert_eq!(stats, (2, 1), "one eviction, and then peace");
}

#[tokio::test]
async fn a_copy_that_is_told_to_stop_stops() {
    let (server, url) = listen(server_config()).await;
    let key = reattach::connection_key();
    let mut core = client_core();
    core.on_superseded = OnSuperseded::Stop;
    let first = soon(reattach::connect(&url, ClientConfig::new().with_core(core).with_key(key))).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    let receipt = first.send(number(1)).await.unwrap();
    until(|| connection.stats().link.received == 1).await;
    let _second = soon(reattach::connect(&url, client_config().with_key(key))).await.unwrap();
    until(|| first.state() == ConnectionState::Superseded).await;
    assert_eq!(soon(receipt).await, Outcome::Unknown { reason: Unknown::Superseded });
    assert!(soon(first.recv()).await.is_none());
    assert_eq!(first.try_send(number(2)).unwrap_err(), ApiMisuse::Ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_works_while_the_old_transport_is_blocked_in_a_write() {
    // Timers long enough that nothing but the take-over can end the old transport.
    let (server, url) = listen(reattach::ServerConfig::new()).await;
    let key = reattach::connection_key();
    let stuck = Raw::attach(&url, key).await;
    let connection = soon(server.accept()).await.unwrap();
    let large = text(&"x".repeat(3 * 1024 * 1024));
    _ = connection.try_send(large.clone()).unwrap();
    for n in 0..20 {
        _ = connection.try_send(number(n)).unwrap();
    }
    // Nobody reads at the other end, so the write is blocked once the system's buffers are full.
    until(|| connection.stats().written > 0).await;
    let next = soon(reattach::connect(&url, client_config().with_key(key))).await.unwrap();
    assert!(connection.is_attached());
    _ = next.send(number(7)).await.unwrap();
    assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), 7);
    drop(stuck);
}

// S001-37: a peer that never reads costs bounded memory while heartbeats and deadlines go on.
#[tokio::test]
async fn a_peer_that_never_reads_is_given_up_and_costs_no_more_than_the_outbox() {
    let (server, url) = listen(server_config()).await;
    let silent = Raw::attach(&url, reattach::connection_key()).await;
    let connection = soon(server.accept()).await.unwrap();
    let mut events = connection.events();
    let chunk = text(&"x".repeat(16 * 1024));
    let sent = (0..1_000).take_while(|_| connection.try_send(chunk.clone()).is_ok()).count();
    assert!(sent <= 100, "{sent} messages found room in the outbox");
    assert_eq!(connection.try_send(chunk).unwrap_err(), ApiMisuse::QueueFull);
    let ended = soon(async {
        loop {
            match events.next().await {
                Some(PeerEvent::Detached { ended }) => return ended,
                Some(_) => {}
                None => panic!("the connection goes on without a transport"),
            }
        }
    })
    .await;
    assert_eq!(ended, Ended::Stalled);
    drop(silent);
}

#[tokio::test]
async fn a_server_that_shuts_down_tells_both_applications_the_truth() {
    let (client, connection, server) = pair().await;
    let taken = client.send(number(1)).await.unwrap();
    soon(connection.recv()).await.unwrap();
    assert_eq!(soon(taken).await, Outcome::Delivered);
    let written = connection.send(number(2)).await.unwrap();
    until(|| client.stats().link.received == 1).await;
    let mut events = connection.events();
    server.shut_down();
    assert_eq!(soon(written).await, Outcome::Unknown { reason: Unknown::Shutdown });
    soon(connection.ended()).await;
    assert!(soon(connection.recv()).await.is_none());
    assert_eq!(connection.send(number(3)).await.unwrap_err(), ApiMisuse::Ended);
    assert!(soon(server.accept()).await.is_none());
    let mut told = Vec::new();
    while let Some(event) = soon(events.next()).await {
        told.push(event);
    }
    assert_eq!(told.pop(), Some(PeerEvent::Closed { reason: PeerClosed::ShutDown }), "the end is told last");
    until(|| client.state() != ConnectionState::Attached).await;
}

// S002-32
#[tokio::test]
async fn a_server_that_stops_says_so_on_every_transport_before_it_is_gone() {
    let (server, url) = listen(server_config()).await;
    let mut attached = Raw::attach(&url, reattach::connection_key()).await;
    let mut silent = Raw::open(&url).await;
    let reading = tokio::spawn(async move {
        let bye = attached.next().await;
        (bye, attached.closed().await, silent.closed().await)
    });
    server.shut_down();
    soon(server.closed()).await;
    let (bye, attached, silent) = soon(reading).await.unwrap();
    assert!(bye.unwrap().starts_with(r#"{"t":"bye","code":1001,"#));
    assert_eq!((attached, silent), (CloseCode::GOING_AWAY, CloseCode::GOING_AWAY));
}

#[tokio::test]
async fn the_cap_of_a_principal_is_kept() {
    let mut core = server_core();
    core.max_per_principal = 2;
    let config = server_config().with_core(core).with_authentication(|_| async { Some(Name::new("alice").unwrap()) });
    let (_server, url) = listen(config).await;
    let _first = soon(reattach::connect(&url, client_config())).await.unwrap();
    let _second = soon(reattach::connect(&url, client_config())).await.unwrap();
    let mut core = client_core();
    core.reconnect.attempts = Some(0);
    let third = soon(reattach::connect(&url, ClientConfig::new().with_core(core))).await.unwrap_err();
    let last = Ended::Closed(CloseCode::TOO_MANY);
    assert_eq!(third, ConnectError::GaveUp(GiveUp::Exhausted { attempts: 0, last }));
}
