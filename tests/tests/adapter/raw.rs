//! A WebSocket driven by hand, against a listening server.

use async_tungstenite::WebSocketStream;
use async_tungstenite::tokio::TokioAdapter;
use async_tungstenite::tokio::client_async;
use async_tungstenite::tungstenite::ClientRequestBuilder;
use async_tungstenite::tungstenite::Message;
use futures_util::StreamExt as _;
use reattach::core::id::ConnectionKey;
use reattach::core::wire::CloseCode;
use reattach::core::wire::SUBPROTOCOL;
use tokio::net::TcpStream;

use super::loopback::soon;

pub(crate) struct Raw(pub(crate) WebSocketStream<TokioAdapter<TcpStream>>);

impl Raw {
    /// Opens a WebSocket and says nothing.
    pub(crate) async fn open(url: &str) -> Self {
        let address = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
        let stream = soon(TcpStream::connect(address)).await.expect("the server listens");
        Self::over(url, stream).await
    }

    /// Opens a WebSocket over a stream and says nothing.
    pub(crate) async fn over(url: &str, stream: TcpStream) -> Self {
        let request = ClientRequestBuilder::new(url.parse().expect("a URL")).with_sub_protocol(SUBPROTOCOL);
        let (ws, _) = soon(client_async(request, stream)).await.expect("the server upgrades");
        Self(ws)
    }

    /// Opens a WebSocket, says a first hello and waits for the welcome. Nothing is read after that.
    pub(crate) async fn attach(url: &str, key: ConnectionKey) -> Self {
        let mut raw = Self::open(url).await;
        raw.send(&hello(&key, 1, 1, "")).await;
        let welcome = raw.next().await.expect("a welcome");
        assert!(welcome.starts_with(r#"{"t":"welcome""#), "{welcome}");
        raw
    }

    pub(crate) async fn send(&mut self, text: &str) {
        soon(self.0.send(Message::text(text))).await.expect("the socket takes it");
    }

    /// The next text that is not the server's heartbeat, or the code with which the socket was closed.
    pub(crate) async fn next(&mut self) -> Result<String, CloseCode> {
        loop {
            match soon(self.0.next()).await {
                Some(Ok(Message::Text(text))) if text.starts_with(r#"{"t":"ping""#) => {}
                Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map_or(CloseCode::NO_STATUS, |frame| CloseCode::new(frame.code.into())));
                }
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(_)) | None => return Err(CloseCode::ABNORMAL),
            }
        }
    }

    /// The code with which the socket is closed, whatever comes before.
    pub(crate) async fn closed(&mut self) -> CloseCode {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }
}

/// A hello by hand. `more` are further keys, each with a comma in front.
pub(crate) fn hello(key: &ConnectionKey, instance: u8, attempt: u64, more: &str) -> String {
    let (secret, cid, instance) = (key.reveal(), key.connection_id(), format!("{instance:02x}").repeat(16));
    format!(
        r#"{{"t":"hello","key":"{secret}","cid":"{cid}","instance":"{instance}","attempt":{attempt},"window":256,"windowBytes":2097152,"maxPayload":4194304{more}}}"#
    )
}
