//! From a stream of bytes to a WebSocket: who may open one, and what everybody else is answered.
//!
//! The WebSocket library parses the request and computes the answer. It says nothing to a request that is no upgrade at all,
//! so the plain answers for those are given here: a person with a browser, or a health check, should see what this port is.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use async_tungstenite::WebSocketStream;
use async_tungstenite::accept_hdr_async_with_config;
use async_tungstenite::tungstenite;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::handshake::server::ErrorResponse;
use async_tungstenite::tungstenite::handshake::server::Request;
use async_tungstenite::tungstenite::handshake::server::Response;
use async_tungstenite::tungstenite::http::HeaderMap;
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::http::StatusCode;
use async_tungstenite::tungstenite::http::header::ORIGIN;
use async_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use async_tungstenite::tungstenite::protocol::Role;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use futures_io::AsyncRead;
use futures_io::AsyncWrite;
use futures_util::AsyncWriteExt as _;
use reattach_core::wire;

use crate::runtime::Io;
use crate::socket::Counts;
use crate::socket::Socket;

/// Which web pages may open a connection.
///
/// A browser says which page it acts for, in the `Origin` header, and sends its cookies along; so a page of a stranger could
/// act as its visitor. Requests without the header come from other programs, which could write anything into it, and are not
/// turned away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origins {
    /// No page.
    #[default]
    None,
    /// The pages of these origins, such as `https://example.org`, compared without regard to case.
    These(Vec<String>),
    /// Every page. Only for servers that use no cookies.
    Any,
}

impl Origins {
    fn admit(&self, origin: Option<&HeaderValue>) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::None => false,
            Self::These(allowed) => {
                origin.to_str().is_ok_and(|origin| allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)))
            }
            Self::Any => true,
        }
    }
}

/// The request with which a client opened a transport. `Debug` shows the names of its headers and neither their values nor
/// the query, for those hold credentials.
#[derive(Clone)]
pub struct Upgrade {
    /// The path with its query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// Where it came from, where that is known.
    pub remote: Option<SocketAddr>,
}

impl std::fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Upgrade").field("path", &path).field("headers", &headers).field("remote", &self.remote).finish()
    }
}

/// Does the server's half of the WebSocket handshake.
///
/// # Errors
///
/// Why there is no WebSocket; the other side has been answered where it could be.
#[expect(clippy::result_large_err, reason = "the library's callback wants it so")]
pub(super) async fn upgrade(
    mut stream: Box<dyn Io>,
    counts: Arc<Counts>,
    remote: Option<SocketAddr>,
    origins: &Origins,
    sizes: WebSocketConfig,
) -> Result<(Socket, Upgrade), tungstenite::Error> {
    let mut seen = None;
    let admit = |request: &Request, response: Response| admit(request, response, origins, &mut seen);
    let accepted = accept_hdr_async_with_config(Borrowed(&mut stream), admit, Some(sizes)).await.map(drop);
    match accepted {
        Ok(()) => {}
        Err(error) => {
            if let Some(answer) = plain_answer(&error) {
                // Whoever asked may be gone.
                _ = stream.write_all(answer.as_bytes()).await;
                _ = stream.close().await;
            }
            return Err(error);
        }
    }
    let (path, headers) = seen.expect("an accepted request was seen");
    // The library takes nothing beyond the request: it refuses a client that writes before it is answered.
    let ws = WebSocketStream::from_raw_socket(stream, Role::Server, Some(sizes)).await;
    Ok((Socket::new(ws, counts), Upgrade { path, headers, remote }))
}

#[expect(clippy::result_large_err, reason = "the library's callback wants it so")]
fn admit(
    request: &Request,
    mut response: Response,
    origins: &Origins,
    seen: &mut Option<(String, HeaderMap)>,
) -> Result<Response, ErrorResponse> {
    if !origins.admit(request.headers().get(ORIGIN)) {
        return Err(refusal(StatusCode::FORBIDDEN, "this origin may not connect here\n"));
    }
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    if !offered.flat_map(|value| value.split(',')).any(|offer| offer.trim() == wire::SUBPROTOCOL) {
        return Err(refusal(StatusCode::BAD_REQUEST, "this server speaks the WebSocket subprotocol reattach.v1\n"));
    }
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(wire::SUBPROTOCOL));
    let path = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    *seen = Some((path, request.headers().clone()));
    Ok(response)
}

fn refusal(status: StatusCode, text: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text.to_owned()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("content-length", HeaderValue::from(text.len()));
    headers.insert("connection", HeaderValue::from_static("close"));
    response
}

/// What a request is answered that is no upgrade.
fn plain_answer(error: &tungstenite::Error) -> Option<String> {
    let status = match error {
        tungstenite::Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => "426 Upgrade Required",
        tungstenite::Error::Protocol(ProtocolError::WrongHttpMethod) => "405 Method Not Allowed",
        tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete) | tungstenite::Error::Io(_) => return None,
        // The library has answered already.
        tungstenite::Error::Http(_) => return None,
        tungstenite::Error::Protocol(_)
        | tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Tls(_)
        | tungstenite::Error::Capacity(_)
        | tungstenite::Error::WriteBufferFull(_)
        | tungstenite::Error::Utf8(_)
        | tungstenite::Error::AttackAttempt
        | tungstenite::Error::Url(_)
        | tungstenite::Error::HttpFormat(_) => "400 Bad Request",
    };
    let text = format!("Expected Upgrade: websocket, with the subprotocol {}\n", wire::SUBPROTOCOL);
    Some(format!(
        "HTTP/1.1 {status}\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    ))
}

/// A stream that its owner gets back.
struct Borrowed<'a>(&'a mut Box<dyn Io>);

impl AsyncRead for Borrowed<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Borrowed<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.0).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    #[test]
    fn pages_are_admitted_by_the_list_and_programs_always() {
        let listed = Origins::These(vec!["https://example.org".to_owned()]);
        for origins in [Origins::None, listed.clone(), Origins::Any] {
            assert!(origins.admit(None));
        }
        assert!(!Origins::None.admit(Some(&origin("https://example.org"))));
        assert!(listed.admit(Some(&origin("HTTPS://Example.org"))));
        assert!(!listed.admit(Some(&origin("https://example.org.evil.test"))));
        assert!(!listed.admit(Some(&origin("null"))));
        assert!(Origins::Any.admit(Some(&origin("null"))));
    }
}
