//! Opening a transport: credentials, TCP, the WebSocket handshake.

use std::future::Future;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_tungstenite::client_async_with_config;
use async_tungstenite::tungstenite;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::HeaderName;
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::http::Uri;
use async_tungstenite::tungstenite::http::header::RETRY_AFTER;
use async_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use futures_util::FutureExt as _;
use reattach_core::reconnect::Insecure;
use reattach_core::reconnect::OpenError;
use reattach_core::wire;
use reattach_core::wire::Token;

use crate::connector::Way;
use crate::drive::Opened;
use crate::runtime::Io;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::socket::Counted;
use crate::socket::Socket;
use crate::targets;
use crate::tls;
use crate::tls::ClientTls;
use crate::tls::TlsError;

/// What is wrong with an address, or with the headers to send to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is not a URL.
    #[error("{url:?} is not a URL: {problem}")]
    Invalid {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Its scheme is neither `ws` nor `wss`.
    #[error("{url:?} has the scheme {scheme:?}; it should be ws:// or wss://")]
    Scheme {
        /// What was given.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// It names no host.
    #[error("{url:?} names no host")]
    NoHost {
        /// What was given.
        url: String,
    },
    /// Its scheme is `wss`, and there is no TLS to be had.
    #[error("{url:?} needs TLS: {problem}")]
    Tls {
        /// What was given.
        url: String,
        /// Why there is none.
        problem: String,
    },
    /// A header cannot be sent.
    #[error("the header {name:?} cannot be sent")]
    Header {
        /// Its name.
        name: String,
    },
}

/// Credentials for one attempt.
#[derive(Clone, Default)]
pub struct Credentials {
    token: Option<Token>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Credentials {
    /// No credentials.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// A token, which goes into the hello.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] where it is empty or longer than [`Token::MAX_LEN`] bytes.
    pub fn token(token: impl Into<String>) -> Result<Self, CredentialsError> {
        let token = Token::new(token.into());
        token.map(|token| Self { token: Some(token), headers: Vec::new() }).ok_or(CredentialsError)
    }

    /// Adds a header to the WebSocket handshake of this attempt.
    ///
    /// # Errors
    ///
    /// [`UrlError::Header`] where it cannot be sent.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self, UrlError> {
        self.headers.push(header(name, value)?);
        Ok(self)
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(secret)")
    }
}

/// No credentials can be had. It counts as a refusal: after the second in a row the client stops trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no credentials can be had")]
pub struct CredentialsError;

/// Asked for credentials before every attempt.
#[derive(Clone)]
pub struct CredentialsProvider(Arc<dyn Fn() -> Task<Result<Credentials, CredentialsError>> + Send + Sync>);

impl CredentialsProvider {
    /// Takes an async function. It is called anew for each attempt, so that a stale token is never sent twice.
    pub fn new<F>(provide: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Credentials, CredentialsError>> + Send + 'static,
    {
        Self(Arc::new(move || Task::new(provide())))
    }
}

impl std::fmt::Debug for CredentialsProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialsProvider")
    }
}

/// A header that can be sent.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), UrlError> {
    let (Ok(header), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
        return Err(UrlError::Header { name: name.to_owned() });
    };
    // What applications send here is mostly credentials.
    value.set_sensitive(true);
    Ok((header, value))
}

/// Where to dial, and what to say there.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    headers: Vec<(HeaderName, HeaderValue)>,
    tls: Option<ClientTls>,
    way: Way,
}

impl Target {
    pub(crate) fn new(
        url: &str,
        headers: Vec<(HeaderName, HeaderValue)>,
        tls: Option<ClientTls>,
        way: Way,
    ) -> Result<Self, UrlError> {
        let shown = without_password(url);
        let invalid = |problem: String| UrlError::Invalid { url: shown.clone(), problem };
        // Schemes are compared without regard to case (RFC 3986, 3.1), but not by the libraries below.
        let (scheme, rest) = url.split_at(url.find("://").unwrap_or(0));
        let uri: Uri =
            format!("{}{rest}", scheme.to_ascii_lowercase()).parse().map_err(|error| invalid(format!("{error}")))?;
        let no_tls = |error: TlsError| UrlError::Tls { url: shown.clone(), problem: error.to_string() };
        let tls = match uri.scheme_str() {
            Some("ws") => None,
            Some("wss") => Some(tls.map_or_else(ClientTls::platform, Ok).map_err(no_tls)?),
            Some(scheme) => return Err(UrlError::Scheme { url: shown, scheme: scheme.to_owned() }),
            None => return Err(invalid("it has no scheme; it should start with ws:// or wss://".to_owned())),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| UrlError::NoHost { url: shown.clone() })?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match port_of(&uri) {
            None if tls.is_some() => 443,
            None => 80,
            Some(port) => {
                let number = port.parse().ok().filter(|number| *number > 0);
                number.ok_or_else(|| invalid("its port is not a number from 1 to 65535".to_owned()))?
            }
        };
        Ok(Self { uri, host, port, headers, tls, way })
    }

    /// Opens a transport.
    pub(crate) fn open(
        self: &Arc<Self>,
        runtime: &Arc<dyn Runtime>,
        provider: Option<&CredentialsProvider>,
        sizes: WebSocketConfig,
    ) -> Task<Result<Opened, OpenError>> {
        let target = Arc::clone(self);
        let runtime = Arc::clone(runtime);
        let credentials = provider.map(|provider| panic::catch_unwind(AssertUnwindSafe(|| (provider.0)())));
        Task::new(async move {
            let Credentials { token, headers } = match credentials {
                // A panic in the application's code is no credentials, and not the end of the client.
                Some(Ok(task)) => match AssertUnwindSafe(task).catch_unwind().await {
                    Ok(Ok(credentials)) => credentials,
                    Ok(Err(CredentialsError)) | Err(_) => return Err(OpenError::NoCredentials),
                },
                Some(Err(_)) => return Err(OpenError::NoCredentials),
                None => Credentials::none(),
            };
            let io = target.way.connect(&runtime, &target.host, target.port).await?;
            let (counted, counts) = Counted::new(io);
            let io: Box<dyn Io> = match &target.tls {
                Some(tls) => tls.connect(&target.host, Box::new(counted)).await?,
                None => Box::new(counted),
            };
            let mut request = target.uri.clone().into_client_request().map_err(|_| OpenError::Unreachable)?;
            let all = request.headers_mut();
            all.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(wire::SUBPROTOCOL));
            for (name, value) in target.headers.iter().chain(&headers) {
                all.append(name, value.clone());
            }
            let greeted = client_async_with_config(request, io, Some(sizes)).await;
            let (ws, _) = greeted.map_err(|error| {
                tracing::debug!(target: targets::SOCKET, %error, "no WebSocket");
                open_error(&error)
            })?;
            Ok(Opened { socket: Socket::new(ws, counts), token })
        })
    }
}

/// What stands behind the host, if a port does. The `Uri` says of a port that is no number that there is none.
pub(crate) fn port_of(uri: &Uri) -> Option<&str> {
    let authority = uri.authority()?.as_str();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (_, behind) = host.rsplit_once(']').unwrap_or(("", host));
    behind.rsplit_once(':').map(|(_, port)| port)
}

/// The URL as it may be shown: without a user and a password.
fn without_password(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    match url[start..end].rfind('@') {
        Some(at) => format!("{}***{}", &url[..start], &url[start + at..]),
        None => url.to_owned(),
    }
}

fn open_error(error: &tungstenite::Error) -> OpenError {
    use tungstenite::Error;
    match error {
        Error::Http(response) => {
            // RFC 9110, 10.2.3; the form with a date is not worth a parser.
            let retry_after =
                response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            OpenError::Refused { status: response.status().as_u16(), retry_after: retry_after.map(Duration::from_secs) }
        }
        Error::Protocol(tungstenite::error::ProtocolError::HandshakeIncomplete) => OpenError::Unreachable,
        Error::Protocol(_) => OpenError::WrongProtocol,
        Error::Tls(_) => OpenError::Insecure(Insecure::Protocol),
        // A server that wants another certificate of this side says so only here (RFC 8446, 4.4.2.4).
        Error::Io(error) => tls::open_error(error),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Capacity(_)
        | Error::WriteBufferFull(_)
        | Error::Utf8(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::HttpFormat(_) => OpenError::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S003-01, S003-03
    #[test]
    fn a_url_is_read_and_its_faults_are_named() {
        let target = Target::new("ws://example.org/a/b?c", Vec::new(), None, Way::default()).unwrap();
        assert_eq!((target.host.as_str(), target.port), ("example.org", 80));
        let target = Target::new("ws://[::1]:9000", Vec::new(), None, Way::default()).unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 9000));
        let fault = |url: &str| Target::new(url, Vec::new(), None, Way::default()).unwrap_err();
        assert!(matches!(fault("http://example.org"), UrlError::Scheme { scheme, .. } if scheme == "http"));
        assert!(matches!(fault("example.org"), UrlError::Invalid { .. }));
        assert!(matches!(fault("ws://"), UrlError::Invalid { .. } | UrlError::NoHost { .. }));
        assert!(matches!(fault("ws://exa mple"), UrlError::Invalid { .. }));
        for bad in ["ws://127.0.0.1:99999/", "ws://127.0.0.1:/", "ws://[::1]:x", "ws://example.org:0"] {
            assert!(matches!(fault(bad), UrlError::Invalid { .. }), "{bad}");
        }
        assert_eq!(Target::new("WS://example.org", Vec::new(), None, Way::default()).unwrap().port, 80);
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for url in ["http://user:hunter2@example.org/", "ws://user:hunter2@example.org:x", "ws://hunter2@"] {
            let fault = Target::new(url, Vec::new(), None, Way::default()).unwrap_err();
            assert!(!format!("{fault} {fault:?}").contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn credentials_are_not_shown_by_debug() {
        let credentials = Credentials::token("hunter2").unwrap().with_header("cookie", "hunter2").unwrap();
        assert!(!format!("{credentials:?}").contains("hunter2"));
        assert_eq!(Credentials::token("").unwrap_err(), CredentialsError);
        assert!(matches!(Credentials::none().with_header("a b", "c"), Err(UrlError::Header { name }) if name == "a b"));
    }
}
