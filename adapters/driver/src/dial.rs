//! Opening a transport: credentials, TCP, the WebSocket handshake.

use std::future::Future;
use std::sync::Arc;

use async_tungstenite::client_async_with_config;
use async_tungstenite::tungstenite;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::HeaderName;
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::http::Uri;
use async_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use reattach_core::reconnect::OpenError;
use reattach_core::wire;
use reattach_core::wire::Token;

use crate::drive::Opened;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::socket::Counted;
use crate::socket::Socket;

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
    /// Its scheme is not `ws`.
    #[error("{url:?} has the scheme {scheme:?}; this version speaks ws:// only")]
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
    let (Ok(header), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
        return Err(UrlError::Header { name: name.to_owned() });
    };
    Ok((header, value))
}

/// Where to dial, and what to say there.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Target {
    pub(crate) fn new(url: &str, headers: Vec<(HeaderName, HeaderValue)>) -> Result<Self, UrlError> {
        let invalid = |problem: String| UrlError::Invalid { url: url.to_owned(), problem };
        let uri: Uri = url.parse().map_err(|error| invalid(format!("{error}")))?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some(scheme) => return Err(UrlError::Scheme { url: url.to_owned(), scheme: scheme.to_owned() }),
            None => return Err(invalid("it has no scheme; it should start with ws://".to_owned())),
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| UrlError::NoHost { url: url.to_owned() })?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(80);
        Ok(Self { uri, host, port, headers })
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
        let credentials = provider.map(|provider| (provider.0)());
        Task::new(async move {
            let Credentials { token, headers } = match credentials {
                Some(credentials) => credentials.await.map_err(|CredentialsError| OpenError::NoCredentials)?,
                None => Credentials::none(),
            };
            let io = runtime.dial(target.host.clone(), target.port).await.map_err(|error| {
                tracing::debug!(%error, "no connection");
                OpenError::Unreachable
            })?;
            let mut request = target.uri.clone().into_client_request().map_err(|_| OpenError::Unreachable)?;
            let all = request.headers_mut();
            all.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(wire::SUBPROTOCOL));
            for (name, value) in target.headers.iter().chain(&headers) {
                all.append(name, value.clone());
            }
            let greeted = client_async_with_config(request, Counted::new(io), Some(sizes)).await;
            let (ws, _) = greeted.map_err(|error| {
                tracing::debug!(%error, "no WebSocket");
                open_error(&error)
            })?;
            Ok(Opened { socket: Socket::new(ws), token })
        })
    }
}

fn open_error(error: &tungstenite::Error) -> OpenError {
    use tungstenite::Error;
    match error {
        Error::Http(response) => OpenError::Refused { status: response.status().as_u16() },
        Error::Protocol(tungstenite::error::ProtocolError::HandshakeIncomplete) => OpenError::Unreachable,
        Error::Protocol(_) => OpenError::WrongProtocol,
        Error::Tls(_) => OpenError::Insecure,
        Error::Io(_)
        | Error::ConnectionClosed
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

    #[test]
    fn a_url_is_read_and_its_faults_are_named() {
        let target = Target::new("ws://example.org/a/b?c", Vec::new()).unwrap();
        assert_eq!((target.host.as_str(), target.port), ("example.org", 80));
        let target = Target::new("ws://[::1]:9000", Vec::new()).unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 9000));
        let fault = |url: &str| Target::new(url, Vec::new()).unwrap_err();
        assert!(matches!(fault("http://example.org"), UrlError::Scheme { scheme, .. } if scheme == "http"));
        assert!(matches!(fault("wss://example.org"), UrlError::Scheme { scheme, .. } if scheme == "wss"));
        assert!(matches!(fault("example.org"), UrlError::Invalid { .. }));
        assert!(matches!(fault("ws://"), UrlError::Invalid { .. } | UrlError::NoHost { .. }));
        assert!(matches!(fault("ws://exa mple"), UrlError::Invalid { .. }));
    }

    #[test]
    fn credentials_are_not_shown_by_debug() {
        let credentials = Credentials::token("hunter2").unwrap().with_header("cookie", "hunter2").unwrap();
        assert!(!format!("{credentials:?}").contains("hunter2"));
        assert_eq!(Credentials::token("").unwrap_err(), CredentialsError);
        assert!(matches!(Credentials::none().with_header("a b", "c"), Err(UrlError::Header { name }) if name == "a b"));
    }
}
