//! Blocking WebSockets under the machines: what every embedding on threads needs, whatever its application.

use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use reattach_core::id::TransportId;
use reattach_core::reconnect::OpenError;
use reattach_core::wire;
use reattach_core::wire::CloseCode;
use tungstenite::ClientRequestBuilder;
use tungstenite::Error;
use tungstenite::HandshakeError;
use tungstenite::Message;
use tungstenite::WebSocket;
use tungstenite::handshake::server::ErrorResponse;
use tungstenite::handshake::server::Request;
use tungstenite::handshake::server::Response;
use tungstenite::http::HeaderValue;
use tungstenite::http::Uri;
use tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::Role;

use crate::News;

/// No thread waits for a socket longer. By default the machines give a transport up that was silent for 50 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// The transports of one machine. Each has a thread that reads and one that writes, so that the machine's never waits for a
/// socket, and one direction never for the other.
pub(crate) struct Transports {
    news: SyncSender<News>,
    /// The way to each that is not dead, and how many bytes of texts have left there. What waits is bounded by the machine's
    /// own budget.
    writers: BTreeMap<TransportId, (Sender<Message>, u64)>,
}

impl Transports {
    /// None yet, of the machine that hears this news.
    pub(crate) fn new(news: &SyncSender<News>) -> Self {
        Self { news: news.clone(), writers: BTreeMap::new() }
    }

    /// Opens one: connects or takes an accepted stream, and shakes hands, in the thread that reads from then on.
    pub(crate) fn start(
        &mut self,
        transport: TransportId,
        role: Role,
        stream: impl FnOnce() -> io::Result<TcpStream> + Send + 'static,
    ) {
        let (writer, texts) = mpsc::channel();
        self.writers.insert(transport, (writer, 0));
        let news = self.news.clone();
        thread::spawn(move || {
            let opened = stream().map_err(|_| OpenError::Unreachable).and_then(|stream| {
                let reading = Reading { stream, transport, news: news.clone(), writing: None };
                shake_hands(reading, role)
            });
            // Where the machine is gone, nobody wants the news.
            _ = match opened {
                Ok((reading, writing)) => {
                    _ = news.send(News::Opened(transport));
                    let written = news.clone();
                    thread::spawn(move || write(&writing, &texts, transport, &written));
                    let code = read(reading, transport, &news);
                    news.send(News::Closed(transport, code))
                }
                Err(error) => news.send(News::NotOpened(transport, error)),
            };
        });
    }

    /// Has a text written. Whether it gets there is the machines' affair.
    pub(crate) fn write(&self, transport: TransportId, text: String) {
        if let Some((writer, _)) = self.writers.get(&transport) {
            _ = writer.send(Message::text(text));
        }
    }

    /// Closes one behind what is to be written. What still comes on it names a dead transport, and changes nothing.
    pub(crate) fn close(&mut self, transport: TransportId, code: CloseCode) {
        if let Some((writer, _)) = self.writers.remove(&transport) {
            let frame = CloseFrame { code: code.get().into(), reason: code.text().into() };
            _ = writer.send(Message::Close(Some(frame)));
        }
    }

    /// Lets go of one that has ended.
    pub(crate) fn forget(&mut self, transport: TransportId) {
        self.writers.remove(&transport);
    }

    /// Takes in that more has left, and says how much has in all.
    pub(crate) fn on_written(&mut self, transport: TransportId, more: u64) -> u64 {
        self.writers.get_mut(&transport).map_or(0, |(_, written)| {
            *written += more;
            *written
        })
    }
}

/// A stream as the WebSocket sees it that reads. It tells how many bytes come, so that a large message on its way is life.
struct Reading {
    stream: TcpStream,
    transport: TransportId,
    news: SyncSender<News>,
    /// The WebSocket that writes on the same stream, after the handshake. What this one answers by itself, pongs and the end of
    /// a closing, must not get into the middle of a frame of that one.
    writing: Option<Writing>,
}

impl Read for Reading {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buf)?;
        _ = self.news.send(News::Moved(self.transport, read as u64, 0));
        Ok(read)
    }
}

impl Write for Reading {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Some(writing) = &self.writing else { return self.stream.write(buf) };
        writing.lock().get_mut().write_all(buf)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The WebSocket that writes, and whose turn it is to do so.
#[derive(Clone)]
struct Writing(Arc<Mutex<WebSocket<TcpStream>>>);

impl Writing {
    fn lock(&self) -> MutexGuard<'_, WebSocket<TcpStream>> {
        self.0.lock().expect("nothing panics while it writes")
    }
}

/// Makes two WebSockets of a stream: one to read from, one to write to.
fn shake_hands(stream: Reading, role: Role) -> Result<(WebSocket<Reading>, Writing), OpenError> {
    let second = second_handle(&stream.stream).map_err(|_| OpenError::Unreachable)?;
    let mut reading = match role {
        Role::Client => {
            let request = ClientRequestBuilder::new(Uri::from_static("ws://localhost/"));
            match tungstenite::client(request.with_sub_protocol(wire::SUBPROTOCOL), stream) {
                Ok((reading, _)) => reading,
                Err(HandshakeError::Failure(Error::Http(response))) => {
                    return Err(OpenError::Refused { status: response.status().as_u16(), retry_after: None });
                }
                Err(HandshakeError::Failure(_) | HandshakeError::Interrupted(_)) => return Err(OpenError::Unreachable),
            }
        }
        Role::Server => tungstenite::accept_hdr(stream, speak).map_err(|_| OpenError::Unreachable)?,
    };
    let writing = Writing(Arc::new(Mutex::new(WebSocket::from_raw_socket(second, role, None))));
    reading.get_mut().writing = Some(writing.clone());
    Ok((reading, writing))
}

fn second_handle(stream: &TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    stream.try_clone()
}

#[expect(clippy::result_large_err, clippy::unnecessary_wraps, reason = "the library's callback wants it so")]
fn speak(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(wire::SUBPROTOCOL));
    Ok(response)
}

/// Reads until the transport ends, and returns how.
fn read(mut ws: WebSocket<Reading>, transport: TransportId, news: &SyncSender<News>) -> CloseCode {
    loop {
        match ws.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => _ = news.send(News::Received(transport, message)),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Ok(Message::Close(frame)) => {
                _ = ws.flush();
                return frame.map_or(CloseCode::NO_STATUS, |frame| CloseCode::new(frame.code.into()));
            }
            Err(_) => return CloseCode::ABNORMAL,
        }
    }
}

/// Writes until there is nothing more to write, or nobody to write to.
fn write(ws: &Writing, texts: &Receiver<Message>, transport: TransportId, news: &SyncSender<News>) {
    let shutdown = |how| _ = ws.lock().get_ref().shutdown(how);
    for message in texts {
        let len = message.len() as u64;
        let is_last = message.is_close();
        if ws.lock().send(message).is_err() {
            // So that the thread that reads hears of it.
            return shutdown(Shutdown::Both);
        }
        if is_last {
            break;
        }
        _ = news.send(News::Moved(transport, 0, len));
    }
    shutdown(Shutdown::Write);
}
