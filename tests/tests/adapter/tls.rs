//! The adapter over TLS, with certificates made here.

use std::sync::Arc;
use std::time::Duration;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::date_time_ymd;
use reattach::ClientConfig;
use reattach::ClientTls;
use reattach::ConnectError;
use reattach::ServerTls;
use reattach::TlsError;
use reattach::UrlError;
use reattach::core::outcome::Outcome;
use reattach::core::reconnect::Ended;
use reattach::core::reconnect::GiveUp;
use reattach::core::reconnect::Insecure;
use reattach::core::reconnect::OpenError;
use reattach::rustls;
use reattach::rustls::RootCertStore;
use reattach::rustls::pki_types::PrivateKeyDer;
use reattach::rustls::server::WebPkiClientVerifier;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::loopback::client_config;
use super::loopback::client_core;
use super::loopback::listen;
use super::loopback::number;
use super::loopback::number_of;
use super::loopback::server_config;
use super::loopback::server_core;
use super::loopback::soon;

/// Somebody who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trusted(&self) -> ClientTls {
        ClientTls::with_roots(self.0.pem().as_bytes()).unwrap()
    }

    /// A server that has a certificate for these names.
    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ServerTls {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        ServerTls::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }
}

/// The URL of a server that was listened for without TLS in mind.
fn secure(url: &str) -> String {
    url.replace("ws://127.0.0.1", "wss://localhost")
}

/// Why a client that trusts somebody does not connect to a server.
async fn refusal(trusts: &Authority, server: ServerTls) -> ConnectError {
    let (_server, url) = listen(server_config().with_tls(server)).await;
    let config = client_config().with_tls(trusts.trusted());
    soon(reattach::connect(&secure(&url), config)).await.expect_err("nobody is fooled")
}

fn hopeless(insecure: Insecure) -> ConnectError {
    ConnectError::GaveUp(GiveUp::Hopeless { last: Ended::NotOpened(OpenError::Insecure(insecure)) })
}

// S003-03
#[tokio::test]
async fn messages_go_both_ways_over_tls_and_outlive_their_sockets() {
    let authority = Authority::new("somebody");
    let (server, url) = listen(server_config().with_tls(authority.server("localhost", |_| {}))).await;
    let config = client_config().with_tls(authority.trusted());
    let client = soon(reattach::connect(&secure(&url), config)).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    for round in 0..3 {
        let up = client.send(number(round)).await.unwrap();
        assert_eq!(number_of(&soon(connection.recv()).await.unwrap()), round);
        assert_eq!(soon(up).await, Outcome::Delivered);
        let down = connection.send(number(round)).await.unwrap();
        client.reconnect().unwrap();
        assert_eq!(number_of(&soon(client.recv()).await.unwrap()), round);
        assert_eq!(soon(down).await, Outcome::Delivered);
    }
    soon(client.close(Duration::from_secs(5))).await;
}

#[tokio::test]
async fn a_large_payload_goes_through_tls_whole() {
    let authority = Authority::new("somebody");
    let (server, url) = listen(server_config().with_tls(authority.server("localhost", |_| {}))).await;
    let config = client_config().with_tls(authority.trusted());
    let client = soon(reattach::connect(&secure(&url), config)).await.unwrap();
    let connection = soon(server.accept()).await.unwrap();
    let long = "x".repeat(1024 * 1024);
    let receipt = client.send(super::loopback::text(&long)).await.unwrap();
    assert_eq!(soon(connection.recv()).await.unwrap().payload().parse::<String>().unwrap(), long);
    assert_eq!(soon(receipt).await, Outcome::Delivered);
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_named_as_that() {
    let authority = Authority::new("somebody");
    let expired = authority.server("localhost", |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let error = refusal(&authority, expired).await;
    assert_eq!(error, hopeless(Insecure::Expired));
    assert_eq!(error.to_string(), "no connection: no secure channel: the server's certificate has expired");
}

#[tokio::test]
async fn a_certificate_whose_time_has_not_come_is_named_as_that() {
    let authority = Authority::new("somebody");
    let early = authority.server("localhost", |params| params.not_before = date_time_ymd(3000, 1, 1));
    assert_eq!(refusal(&authority, early).await, hopeless(Insecure::NotYetValid));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_named_as_that() {
    let authority = Authority::new("somebody");
    let other = authority.server("example.org", |_| {});
    assert_eq!(refusal(&authority, other).await, hopeless(Insecure::WrongName));
}

#[tokio::test]
async fn a_certificate_that_nobody_trusted_has_signed_is_named_as_that() {
    let (somebody, stranger) = (Authority::new("somebody"), Authority::new("a stranger"));
    assert_eq!(refusal(&somebody, stranger.server("localhost", |_| {})).await, hopeless(Insecure::UnknownIssuer));
}

#[tokio::test]
async fn by_default_only_whom_the_system_trusts_is_trusted() {
    let authority = Authority::new("somebody");
    let (_server, url) = listen(server_config().with_tls(authority.server("localhost", |_| {}))).await;
    match soon(reattach::connect(&secure(&url), client_config())).await {
        Err(error) if error == hopeless(Insecure::UnknownIssuer) => {}
        // A system without certificates trusts nobody, and says so.
        Err(ConnectError::Url(UrlError::Tls { .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_without_tls_behind_wss_is_named_as_that() {
    let (_server, url) = listen(server_config()).await;
    let config = client_config().with_tls(Authority::new("somebody").trusted());
    let error = soon(reattach::connect(&secure(&url), config)).await.expect_err("there is no TLS");
    assert_eq!(error, hopeless(Insecure::Protocol));
}

#[tokio::test]
async fn a_stranger_who_speaks_no_tls_is_hung_up_on_and_one_who_is_silent_too() {
    let mut core = server_core();
    core.hello_timeout = Duration::from_millis(300);
    let tls = Authority::new("somebody").server("localhost", |_| {});
    let (server, url) = listen(server_config().with_core(core).with_tls(tls)).await;
    let address = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    for said in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", ""] {
        let mut stream = soon(TcpStream::connect(&address)).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        // A TLS alert, or nothing; and then the end.
        let mut heard = Vec::new();
        _ = soon(stream.read_to_end(&mut heard)).await;
        assert!(heard.len() < 100, "{heard:?}");
    }
    super::loopback::until(|| server.transports() == 0).await;
}

#[tokio::test]
async fn a_client_goes_on_trying_where_the_server_is_away_in_the_middle_of_the_handshake() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}/", listener.local_addr().unwrap().port());
    let hanging_up = tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    let mut core = client_core();
    core.reconnect.attempts = Some(2);
    let config = ClientConfig::new().with_core(core).with_tls(Authority::new("somebody").trusted());
    let error = soon(reattach::connect(&url, config)).await.expect_err("nobody is there");
    let last = Ended::NotOpened(OpenError::Unreachable);
    assert_eq!(error, ConnectError::GaveUp(GiveUp::Exhausted { attempts: 2, last }));
    hanging_up.abort();
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_the_client_and_gets_none_is_named_as_that() {
    let authority = Authority::new("somebody");
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority.0).unwrap().der().clone();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let error = refusal(&authority, ServerTls::with_config(Arc::new(config))).await;
    assert_eq!(error, hopeless(Insecure::Refused));
}

#[tokio::test]
async fn a_scheme_in_capitals_is_the_same_scheme() {
    let authority = Authority::new("somebody");
    let (_plain, url) = listen(server_config()).await;
    let (_secure, tls_url) = listen(server_config().with_tls(authority.server("localhost", |_| {}))).await;
    let config = || client_config().with_tls(authority.trusted());
    assert!(soon(reattach::connect(&url.replace("ws:", "WS:"), config())).await.is_ok());
    assert!(soon(reattach::connect(&secure(&tls_url).replace("wss:", "WSS:"), config())).await.is_ok());
}

#[test]
fn what_tls_is_given_and_cannot_use_is_named() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let (key, other) = (key.serialize_pem(), other.serialize_pem());
    let from_pem = |certificate: &str, key: &str| ServerTls::from_pem(certificate.as_bytes(), key.as_bytes()).map(drop);
    assert!(from_pem(&certificate, &key).is_ok());
    assert!(matches!(from_pem("", &key), Err(TlsError::NoCertificate)));
    assert!(matches!(from_pem(&key, &key), Err(TlsError::NoCertificate)));
    assert!(matches!(from_pem(&certificate, ""), Err(TlsError::Pem { what: "key", .. })));
    assert!(matches!(from_pem(&certificate, &other), Err(TlsError::Unusable(_))));
    assert!(matches!(ClientTls::with_roots(b"").map(drop), Err(TlsError::NoCertificate)));
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    assert!(matches!(ClientTls::with_roots(broken.as_bytes()).map(drop), Err(TlsError::Pem { .. })));
}
