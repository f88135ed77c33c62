//! How a server is: as the program asks it, and as it answers over HTTP whoever asks there.

use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_tungstenite::tungstenite::http::Uri;
use futures_util::AsyncReadExt as _;
use futures_util::AsyncWriteExt as _;
use futures_util::future::select;
use reattach_core::wire::Payload;
use serde::Deserialize;
use serde::Serialize;

use crate::runtime::Io;
use crate::runtime::Runtime;

/// How a server is. It tells numbers and no names. As JSON:
///
/// ```json
/// {"clients":{"attached":2,"inGrace":1},"pending":{"requests":0,"questions":1,"messages":3},"uptime":61500,"draining":false}
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// The connections.
    pub clients: ClientCounts,
    /// What waits.
    pub pending: PendingCounts,
    /// How long the server has been there. In JSON in milliseconds.
    #[serde(with = "millis")]
    pub uptime: Duration,
    /// Whether it lets nobody in any more, and is about to go.
    #[serde(rename = "draining")]
    pub is_draining: bool,
}

/// The connections of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClientCounts {
    /// Those that have a transport.
    pub attached: usize,
    /// Those that have none, and whose state is kept for a while in case they come back.
    pub in_grace: usize,
}

/// What waits at a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PendingCounts {
    /// Requests without an answer: those that the server has made, and those of clients that it has taken and serves.
    pub requests: usize,
    /// Questions to people that nobody has decided yet, of all hubs of the server.
    pub questions: usize,
    /// Messages of the server that nobody has confirmed: never written, or written and not settled.
    pub messages: usize,
}

mod millis {
    use std::time::Duration;

    use serde::Deserialize as _;
    use serde::Deserializer;
    use serde::Serializer;

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// The path of a URL under which a server says how it is, such as `/health`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthPath(String);

/// A path that no request can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a path begins with \"/\", has at most {} bytes, and is of ASCII letters without spaces, \"?\" and \"#\"",
    HealthPath::MAX_LEN
)]
pub struct HealthPathError;

impl HealthPath {
    /// The most bytes of a path.
    pub const MAX_LEN: usize = 256;

    /// Takes a path, which is compared byte by byte: without a query, and as it is encoded in a URL.
    ///
    /// # Errors
    ///
    /// [`HealthPathError`].
    pub fn new(path: &str) -> Result<Self, HealthPathError> {
        let is_fit = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
        let is_path = path.starts_with('/') && path.len() <= Self::MAX_LEN && path.bytes().all(is_fit);
        // What the parser of requests makes of it is what it is compared with.
        let is_kept = path.parse::<Uri>().is_ok_and(|uri| uri.path() == path);
        if is_path && is_kept { Ok(Self(path.to_owned())) } else { Err(HealthPathError) }
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HealthPath {
    type Err = HealthPathError;

    fn from_str(path: &str) -> Result<Self, HealthPathError> {
        Self::new(path)
    }
}

impl std::fmt::Display for HealthPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The most headers of a request that asks for a page. As many as the WebSocket library reads.
const MAX_HEADERS: usize = 124;

/// How long whoever was answered may take to hang up.
const PATIENCE: Duration = Duration::from_secs(1);

/// A plain request for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// `GET`.
    Page,
    /// `HEAD`.
    Head,
}

impl Asked {
    /// What the bytes ask for, if that is this path. Requests that would rather have a WebSocket do not.
    pub(super) fn read(bytes: &[u8], path: &HealthPath) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        if !request.parse(bytes).ok()?.is_complete() {
            return None;
        }
        let asked = match request.method? {
            "GET" => Self::Page,
            "HEAD" => Self::Head,
            _ => return None,
        };
        let uri: Uri = request.path?.parse().ok()?;
        // Some clients offer other protocols with every plain request, which may be passed over (RFC 9110, 7.8).
        let wants_websocket = request.headers.iter().any(|header| {
            let is_it = |offer: &str| offer.trim().eq_ignore_ascii_case("websocket");
            header.name.eq_ignore_ascii_case("upgrade")
                && std::str::from_utf8(header.value).is_ok_and(|value| value.split(',').any(is_it))
        });
        (uri.path() == path.as_str() && !wants_websocket).then_some(asked)
    }

    /// Whether the bytes may yet become a request.
    pub(super) fn is_unfinished(bytes: &[u8]) -> bool {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        httparse::Request::new(&mut headers).parse(bytes).is_ok_and(|parsed| parsed.is_partial())
    }

    /// Answers, and hangs up.
    pub(super) async fn answer(self, stream: &mut Box<dyn Io>, health: &Health, runtime: &Arc<dyn Runtime>) {
        // Whoever asked may be gone.
        if stream.write_all(self.response(health).as_bytes()).await.is_err() || stream.close().await.is_err() {
            return;
        }
        // Bytes that nobody reads would have the system reset the stream, and the answer might be lost with it. What comes is bounded,
        // as for every stranger, and so is the time: not every stream tells its end before it is dropped.
        let mut timer = runtime.timer();
        timer.set(PATIENCE);
        let elapsed = std::future::poll_fn(|cx| timer.poll_elapsed(cx));
        let hung_up = async {
            let mut thrown_away = [0; 1_024];
            while matches!(stream.read(&mut thrown_away).await, Ok(1..)) {}
        };
        select(pin!(elapsed), pin!(hung_up)).await;
    }

    fn response(self, health: &Health) -> String {
        let status = if health.is_draining { "503 Service Unavailable" } else { "200 OK" };
        let json = Payload::new(health).expect("numbers are JSON");
        let (len, body) = match self {
            Self::Page => (json.len(), json.as_str()),
            Self::Head => (json.len(), ""),
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\n\
             Content-Length: {len}\r\n\r\n{body}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: &str) -> Option<Asked> {
        Asked::read(request.as_bytes(), &HealthPath::new("/health").expect("a path"))
    }

    // S002-50
    #[test]
    fn only_a_plain_request_for_the_very_path_is_answered() {
        let get = |target: &str| asked(&format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        for target in ["/health", "/health?", "/health?verbose=1&x=/other", "http://a.test/health"] {
            assert_eq!(get(target), Some(Asked::Page), "{target}");
        }
        for target in ["/", "/health/", "//health", "/Health", "/healthy", "/x/health", "/x?/health", "*", "/%68ealth"]
        {
            assert_eq!(get(target), None, "{target}");
        }
        assert_eq!(get(&format!("/health{}", "/".repeat(70_000))), None);
        assert_eq!(asked("HEAD /health HTTP/1.1\r\n\r\n"), Some(Asked::Head));
        assert_eq!(asked("GET /health HTTP/1.0\r\n\r\n"), Some(Asked::Page));
        assert_eq!(asked("GET /health HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"), Some(Asked::Page));
        assert_eq!(asked("GET /health HTTP/1.1\r\n\r\n\u{0}\u{1}garbage"), Some(Asked::Page));
        let h2c =
            "GET /health HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
        assert_eq!(asked(h2c), Some(Asked::Page), "another protocol is not insisted on");
        for request in [
            "",
            "GET /health",
            "GET /health HTTP/1.1\r\nHost: a.test\r\n",
            "POST /health HTTP/1.1\r\n\r\n",
            "get /health HTTP/1.1\r\n\r\n",
            "GET /health HTTP/2.0\r\n\r\n",
            "GET /health\r\n\r\n",
            "GET /health HTTP/1.1\r\nConnection: Upgrade\r\nUPGRADE: WebSocket\r\n\r\n",
            "GET /health HTTP/1.1\r\nUpgrade: h2c,websocket\r\n\r\n",
            "\u{16}\u{3}\u{1}GET /health HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(asked(request), None, "{request:?}");
        }
    }

    #[test]
    fn a_path_is_one_that_a_request_can_have() {
        for path in ["/", "/health", "/a/b-c_d.e~f", "/%20", "/:@!$&'()*+,;="] {
            assert_eq!(HealthPath::new(path).map(|path| path.to_string()), Ok(path.to_owned()));
        }
        for path in ["", "health", "/a b", "/a?b", "/a#b", "/ä", "/a\r\nb", "http://a.test/health", "*"] {
            assert_eq!(HealthPath::new(path), Err(HealthPathError), "{path:?}");
        }
        assert!(HealthPath::new(&format!("/{}", "x".repeat(255))).is_ok());
        assert!(HealthPath::new(&format!("/{}", "x".repeat(256))).is_err());
    }

    // S002-50
    #[test]
    fn health_is_json_with_durations_in_milliseconds_and_can_be_read_again() {
        let health = Health {
            clients: ClientCounts { attached: 2, in_grace: 1 },
            pending: PendingCounts { requests: 0, questions: 1, messages: 3 },
            uptime: Duration::from_millis(61_500),
            is_draining: false,
        };
        let json = Payload::new(&health).expect("JSON");
        let documented = r#"{"clients":{"attached":2,"inGrace":1},"pending":{"requests":0,"questions":1,"messages":3},"uptime":61500,"draining":false}"#;
        assert_eq!(json.as_str(), documented);
        assert_eq!(json.parse::<Health>().expect("a health"), health);
        let (page, head) = (Asked::Page.response(&health), Asked::Head.response(&health));
        assert_eq!(page, format!("{head}{documented}"));
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"));
        let going = Asked::Page.response(&Health { is_draining: true, ..health });
        assert!(going.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && going.ends_with("\"draining\":true}"));
    }
}
