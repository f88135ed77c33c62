//! From a stream of bytes to a WebSocket: who may open one, and what everybody else is answered.
//!
//! The WebSocket library parses the request and computes the answer. It says nothing to a request that is no upgrade at all,
//! so the plain answers for those are given here: a person with a browser, or a health check, should see what this port is. Where the
//! program wants it, a health check sees how the server is.

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
use futures_util::AsyncReadExt as _;
use futures_util::AsyncWriteExt as _;
use reattach_core::wire;

use crate::runtime::Io;
use crate::server::desk::Desk;
use crate::server::health::Asked;
use crate::server::health::HealthPath;
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

/// The most bytes of an HTTP request that opens a WebSocket.
pub(super) const MAX_REQUEST: usize = 16 * 1024;
/// The most pieces that a request comes in, where it is not the WebSocket library that reads it. As many as that takes.
const MAX_PIECES: usize = 512;

/// What whoever comes to the door meets.
#[derive(Clone, Copy)]
pub(super) struct Door<'a> {
    pub(super) origins: &'a Origins,
    pub(super) desk: &'a Desk,
    /// Where it may be asked how the server is.
    pub(super) health: Option<&'a HealthPath>,
    /// Whether nobody gets in any more.
    pub(super) is_draining: bool,
}

impl Door<'_> {
    /// What a request asks for beside a WebSocket.
    fn asked(&self, request: &[u8]) -> Option<Asked> {
        Asked::read(request, self.health?)
    }

    /// Says how the server is, if that is asked, and nothing to anybody else: clients that come back shall not wait here for nothing,
    /// nor stand in the way of those who ask.
    async fn answer_only(&self, stream: &mut Box<dyn Io>) {
        let (mut request, mut piece) = (Vec::new(), [0; 1_024]);
        for _ in 0..MAX_PIECES {
            let Ok(read @ 1..) = stream.read(&mut piece).await else { return };
            request.extend_from_slice(&piece[..read]);
            if let Some(asked) = self.asked(&request) {
                return asked.answer(stream, &self.desk.health_for_strangers(), self.desk.runtime()).await;
            }
            if request.len() > MAX_REQUEST || !Asked::is_unfinished(&request) {
                return;
            }
        }
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
    door: Door<'_>,
    sizes: WebSocketConfig,
) -> Result<(Socket, Upgrade), tungstenite::Error> {
    if door.is_draining {
        door.answer_only(&mut stream).await;
        return Err(tungstenite::Error::ConnectionClosed);
    }
    let mut seen = None;
    let mut heard = Vec::new();
    let admit = |request: &Request, response: Response| admit(request, response, door.origins, &mut seen);
    let borrowed = Borrowed { stream: &mut stream, heard: door.health.is_some().then_some(&mut heard) };
    let accepted = accept_hdr_async_with_config(borrowed, admit, Some(sizes)).await.map(drop);
    match accepted {
        Ok(()) => {}
        Err(error) => {
            if let Some(asked) = door.asked(&heard).filter(|_| is_plain(&error)) {
                asked.answer(&mut stream, &door.desk.health_for_strangers(), door.desk.runtime()).await;
            } else if let Some(answer) = plain_answer(&error) {
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

/// Whether an error may be that of a request that wanted no WebSocket at all.
const fn is_plain(error: &tungstenite::Error) -> bool {
    matches!(
        error,
        tungstenite::Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
                | ProtocolError::MissingUpgradeWebSocketHeader
                | ProtocolError::WrongHttpMethod
                | ProtocolError::WrongHttpVersion
                | ProtocolError::JunkAfterRequest
        )
    )
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

/// A stream that its owner gets back, with what was read of it where somebody wants to know.
struct Borrowed<'a> {
    stream: &'a mut Box<dyn Io>,
    heard: Option<&'a mut Vec<u8>>,
}

impl AsyncRead for Borrowed<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream).poll_read(cx, buf);
        if let (Poll::Ready(Ok(read)), Some(heard)) = (&polled, &mut self.heard) {
            let room = MAX_REQUEST.saturating_sub(heard.len());
            heard.extend_from_slice(&buf[..(*read).min(room)]);
        }
        polled
    }
}

impl AsyncWrite for Borrowed<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.stream).poll_close(cx)
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
