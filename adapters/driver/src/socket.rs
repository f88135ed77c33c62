//! One WebSocket over one stream, with its bytes counted.
//!
//! The machines speak of texts; this turns them into WebSocket messages and back. It never parses what is in them. Writes go
//! into the WebSocket's buffer at once and leave with the next flush, so that a batch costs one system call; the machine's own
//! budget bounds how much can be in the buffer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite;
use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use futures_core::Stream as _;
use futures_io::AsyncRead;
use futures_io::AsyncWrite;
use futures_util::Sink as _;
use reattach_core::connection;
use reattach_core::connection::Incoming;
use reattach_core::wire;
use reattach_core::wire::CloseCode;

use crate::runtime::Io;

/// The bytes of a stream, counted where they meet the network: beneath TLS, where there is any.
#[derive(Debug)]
pub(crate) struct Counts {
    read: AtomicU64,
    written: AtomicU64,
    /// How many bytes may come before the peer is trusted with more.
    read_limit: AtomicU64,
}

impl Counts {
    /// Breaks the stream once this many bytes have come, whatever they are.
    pub(crate) fn limit_reads(&self, limit: u64) {
        self.read_limit.store(limit, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// A stranger has sent more than a stranger may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too much before an accepted hello")]
struct TooMuch;

/// A stream whose bytes are counted.
pub(crate) struct Counted {
    io: Box<dyn Io>,
    counts: Arc<Counts>,
}

impl Counted {
    /// Counts the bytes of a stream.
    pub(crate) fn new(io: Box<dyn Io>) -> (Self, Arc<Counts>) {
        let counts =
            Counts { read: AtomicU64::new(0), written: AtomicU64::new(0), read_limit: AtomicU64::new(u64::MAX) };
        let counts = Arc::new(counts);
        (Self { io, counts: Arc::clone(&counts) }, counts)
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.counts.read() >= self.counts.read_limit.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, TooMuch)));
        }
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Poll::Ready(Ok(read)) = &polled {
            self.counts.read.fetch_add(*read as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.counts.written.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// What came off a socket.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A text or a binary message.
    Message(Message),
    /// The socket is of no more use.
    Closed {
        /// The code that came, or what stands for the way it broke.
        code: CloseCode,
        /// Whether somebody may still be there to hear a last word.
        is_heard: bool,
    },
}

impl Frame {
    /// What it is to a machine, where it is a message.
    pub(crate) fn incoming(message: &Message) -> Option<Incoming<'_>> {
        match message {
            Message::Text(text) => Some(Incoming::Text(text.as_str())),
            Message::Binary(_) => Some(Incoming::Binary),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
        }
    }
}

/// One WebSocket.
pub(crate) struct Socket {
    ws: WebSocketStream<Box<dyn Io>>,
    counts: Arc<Counts>,
    /// Bytes of texts put in, in all.
    fed: u64,
    /// Of those, the ones that were known to have left at the last flush that went through, and the raw count then.
    flushed: (u64, u64),
    /// What was last told: the raw bytes read, and the bytes of texts that had left.
    told: (u64, u64),
    /// Whether something was put in that has not been flushed.
    is_dirty: bool,
    /// Whether what comes can no longer be read as WebSocket frames, though it may go on coming.
    is_unreadable: bool,
}

/// The most that is read in one go of what nobody is told: whoever sends without end shall not keep a thread, on runtimes that
/// leave it to their tasks to give way.
const READS: usize = 64;

/// Lets others have a turn.
fn give_way<T>(cx: &Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// The sizes that fit a machine's limits: one message of any size beside a full budget, and never a byte more.
pub(crate) fn sizes(config: &connection::Config) -> WebSocketConfig {
    const WRITE_BUFFER: usize = 64 * 1024;
    let max_payload = usize::try_from(config.link.max_payload).unwrap_or(usize::MAX / 4);
    let budget = usize::try_from(config.flow.write_budget).unwrap_or(usize::MAX / 8);
    let largest = max_payload.saturating_add(wire::MAX_CONTROL_FRAME);
    WebSocketConfig::default()
        // The library's 128 KiB would be allocated for every connection, idle or not.
        .read_buffer_size(8 * 1024)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(budget.saturating_mul(2).saturating_add(largest).saturating_add(2 * WRITE_BUFFER))
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest))
}

impl Socket {
    /// Takes a WebSocket whose handshake is done.
    pub(crate) fn new(ws: WebSocketStream<Box<dyn Io>>, counts: Arc<Counts>) -> Self {
        let (flushed, told) = ((0, counts.written()), (counts.read(), 0));
        Self { ws, counts, fed: 0, flushed, told, is_dirty: false, is_unreadable: false }
    }

    /// The peer is trusted with as much as the limits say.
    pub(crate) fn lift_read_limit(&self) {
        self.counts.limit_reads(u64::MAX);
    }

    /// The next message, or the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Frame> {
        for _ in 0..READS {
            return Poll::Ready(match ready!(Pin::new(&mut self.ws).poll_next(cx)) {
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(CloseCode::NO_STATUS, |frame| CloseCode::new(frame.code.into()));
                    Frame::Closed { code, is_heard: true }
                }
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => Frame::Message(message),
                // Pings are answered by the library; both count as progress by their bytes.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => {
                    let code = code_of(&error);
                    self.is_unreadable = code != CloseCode::ABNORMAL;
                    Frame::Closed { code, is_heard: self.is_unreadable }
                }
                None => Frame::Closed { code: CloseCode::ABNORMAL, is_heard: false },
            });
        }
        give_way(cx)
    }

    /// Waits until the other side has hung up, after the closing frame has left. Bytes that can no longer be read are thrown
    /// away: if they stayed in the system's buffer, it would reset the stream, and the closing frame might be lost with it.
    pub(crate) fn poll_hung_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut thrown_away = [0; 4096];
        for _ in 0..READS {
            if self.is_unreadable {
                self.lift_read_limit();
                if let Ok(0) | Err(_) = ready!(Pin::new(self.ws.get_mut()).poll_read(cx, &mut thrown_away)) {
                    return Poll::Ready(());
                }
                continue;
            }
            match ready!(self.poll_read(cx)) {
                Frame::Message(_) => {}
                Frame::Closed { is_heard: true, .. } if self.is_unreadable => {}
                Frame::Closed { .. } => return Poll::Ready(()),
            }
        }
        give_way(cx)
    }

    /// Puts a text in. It leaves with the next flush.
    pub(crate) fn feed(&mut self, text: String) -> Result<(), CloseCode> {
        self.fed += text.len() as u64;
        self.is_dirty = true;
        let sent = Pin::new(&mut self.ws).start_send(Message::text(text));
        sent.map_err(|error| code_of(&error))
    }

    /// Flushes what was put in. Ready once all of it has left.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseCode>> {
        if !self.is_dirty {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.ws).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.is_dirty = false;
                self.flushed = (self.fed, self.counts.written());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(code_of(&error))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The bytes that came since this was asked last, and the bytes of texts that have left in all; nothing where neither has
    /// changed.
    ///
    /// While a flush is blocked the latter is reckoned from the raw bytes, which are a few more for each message. It never
    /// says that everything has left before it has.
    pub(crate) fn progress(&mut self) -> Option<(u64, u64)> {
        let (flushed, raw_then) = self.flushed;
        let written = if self.is_dirty {
            (flushed + (self.counts.written() - raw_then)).min(self.fed.saturating_sub(1).max(flushed))
        } else {
            self.fed
        };
        let (told_read, told_written) = self.told;
        let now_read = self.counts.read();
        self.told = (now_read, written);
        let read = now_read - told_read;
        (read > 0 || written > told_written).then_some((read, written))
    }

    /// Whether something was put in that has not left.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Puts the closing frame in, behind everything else; where the peer has closed first, the answer to that stands there
    /// already. Codes that must not be sent are left out.
    pub(crate) fn start_close(&mut self, code: CloseCode) -> Result<(), CloseCode> {
        let is_sendable = !matches!(code, CloseCode::NO_STATUS | CloseCode::ABNORMAL);
        let frame = is_sendable.then(|| CloseFrame { code: code.get().into(), reason: code.text().into() });
        self.is_dirty = true;
        let sent = Pin::new(&mut self.ws).start_send(Message::Close(frame));
        sent.map_err(|error| code_of(&error))
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("fed", &self.fed).finish_non_exhaustive()
    }
}

fn code_of(error: &tungstenite::Error) -> CloseCode {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError;
    match error {
        Error::Capacity(_) => CloseCode::TOO_BIG,
        Error::Utf8(_) => CloseCode::NOT_UTF8,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
            CloseCode::ABNORMAL
        }
        Error::Protocol(_) => CloseCode::WEBSOCKET_ERROR,
        Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<TooMuch>()) => CloseCode::TOO_BIG,
        Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Tls(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => CloseCode::ABNORMAL,
    }
}
