//! Proxies between a client and its server: HTTP CONNECT (RFC 9110, 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).

use std::str::FromStr;

use async_tungstenite::tungstenite::http::Uri;
use data_encoding::BASE64;
use futures_util::AsyncReadExt as _;
use futures_util::AsyncWriteExt as _;
use percent_encoding::percent_decode_str;
use reattach_core::reconnect::OpenError;
use tokio_socks::io::Compat;
use tokio_socks::tcp::Socks5Stream;

use crate::client::ClientConfig;
use crate::dial::port_of;
use crate::runtime::Io;
use crate::targets;

/// The most bytes of a proxy's answer. There is no reason for more than a status and a few headers.
const MAX_ANSWER: usize = 8 * 1024;

/// A proxy that streams go through. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    login: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Socks5,
}

/// What is wrong with the address of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It is not a URL with a host, or its port is no port.
    #[error("the proxy's address is not a URL with a host, such as http://proxy.example.org:3128")]
    Invalid,
    /// Its scheme is none of `http`, `socks5` and `socks5h`.
    #[error("the proxy's address has the scheme {scheme:?}; it should be http, socks5 or socks5h")]
    Scheme {
        /// Its scheme.
        scheme: String,
    },
}

impl FromStr for Proxy {
    type Err = ProxyError;

    /// Reads an address such as `http://user:password@proxy.example.org:3128` or `socks5://127.0.0.1:1080`. Without a port it is
    /// 80, or 1080. Names are resolved by the proxy, with `socks5` as with `socks5h`. User and password may be percent-encoded.
    fn from_str(url: &str) -> Result<Self, ProxyError> {
        let uri: Uri = url.parse().map_err(|_| ProxyError::Invalid)?;
        let (kind, default) = match uri.scheme_str() {
            Some("http") => (Kind::Http, 80),
            Some("socks5" | "socks5h") => (Kind::Socks5, 1080),
            Some(scheme) => return Err(ProxyError::Scheme { scheme: scheme.to_owned() }),
            None => return Err(ProxyError::Invalid),
        };
        let authority = uri.authority().ok_or(ProxyError::Invalid)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(ProxyError::Invalid);
        }
        let login = authority.as_str().rsplit_once('@').map(|(login, _)| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            (decoded(user), decoded(password))
        });
        let port = match port_of(&uri) {
            None => default,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(ProxyError::Invalid)?,
        };
        Ok(Self { kind, host, port, login })
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, host, port, login } = self;
        let has_login = login.is_some();
        f.debug_struct("Proxy")
            .field("kind", kind)
            .field("host", host)
            .field("port", port)
            .field("has_login", &has_login)
            .finish()
    }
}

impl ClientConfig {
    /// Go through a proxy.
    #[must_use]
    pub fn with_proxy(mut self, proxy: Proxy) -> Self {
        self.way.proxy = Some(proxy);
        self
    }
}

impl Proxy {
    /// Where it listens.
    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Has it lead a stream on to a server.
    pub(crate) async fn lead_on(&self, io: Box<dyn Io>, host: &str, port: u16) -> Result<Box<dyn Io>, OpenError> {
        match self.kind {
            Kind::Http => self.tunnel(io, host, port).await,
            Kind::Socks5 => self.socks(io, host, port).await,
        }
    }

    async fn tunnel(&self, mut io: Box<dyn Io>, host: &str, port: u16) -> Result<Box<dyn Io>, OpenError> {
        let to = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let login = self.login.as_ref().map_or_else(String::new, |(user, password)| {
            format!("Proxy-Authorization: Basic {}\r\n", BASE64.encode(format!("{user}:{password}").as_bytes()))
        });
        let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{login}\r\n");
        let gone = |error: std::io::Error| {
            tracing::debug!(target: targets::SOCKET, %error, "the proxy is gone");
            OpenError::Unreachable
        };
        io.write_all(request.as_bytes()).await.map_err(gone)?;
        io.flush().await.map_err(gone)?;
        let mut answer = Vec::new();
        loop {
            // Byte by byte: what comes behind the answer is the server's, and not to be taken here.
            let mut byte = [0];
            io.read_exact(&mut byte).await.map_err(gone)?;
            answer.extend(byte);
            if answer.ends_with(b"\r\n\r\n") {
                break;
            }
            if answer.len() == MAX_ANSWER {
                return Err(OpenError::Proxy { status: None });
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        _ = response.parse(&answer).map_err(|_| OpenError::Proxy { status: None })?;
        match response.code {
            Some(200..=299) => Ok(io),
            status => Err(OpenError::Proxy { status }),
        }
    }

    async fn socks(&self, io: Box<dyn Io>, host: &str, port: u16) -> Result<Box<dyn Io>, OpenError> {
        let (io, to) = (Compat::new(io), (host, port));
        let led = match &self.login {
            Some((user, password)) => Socks5Stream::connect_with_password_and_socket(io, to, user, password).await,
            None => Socks5Stream::connect_with_socket(io, to).await,
        };
        let led = led.map_err(|error| {
            tracing::debug!(target: targets::SOCKET, %error, "the proxy leads nowhere");
            if let tokio_socks::Error::Io(_) = error {
                OpenError::Unreachable
            } else {
                OpenError::Proxy { status: None }
            }
        })?;
        Ok(led.into_inner().into_inner())
    }
}

/// Undoes percent-encoding (RFC 3986, 2.1).
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_proxy_is_read_and_its_faults_are_named() {
        let proxy = |url: &str| url.parse::<Proxy>();
        let http = proxy("http://us%40er:pass%3Aword@proxy.example.org").unwrap();
        assert_eq!(http.address(), ("proxy.example.org", 80));
        assert_eq!(http.login, Some(("us@er".to_owned(), "pass:word".to_owned())));
        assert!(!format!("{http:?}").contains("word"));
        assert_eq!(proxy("socks5://[::1]").unwrap().address(), ("::1", 1080));
        assert_eq!(proxy("socks5h://127.0.0.1:9050/").unwrap().kind, Kind::Socks5);
        assert_eq!(proxy("ftp://example.org"), Err(ProxyError::Scheme { scheme: "ftp".to_owned() }));
        for url in
            ["proxy.example.org:3128", "", "http://", "http://a b/", "http://a:99999", "socks5://a:0", "http://a:x"]
        {
            assert!(proxy(url).is_err(), "{url}");
        }
    }
}
