//! A lane as a stream of bytes both ways, for code that is written against [`AsyncRead`] and [`AsyncWrite`].
//!
//! Bytes travel in ordinary messages of the lane, so the wire knows nothing of them. Each carries an array: how many bytes went
//! before, and its own bytes in Base64 (RFC 4648, 4); without the second it is the end. The count is what tells a reader that it
//! came in the middle: a server that has lost its state, with a client that goes on writing, would otherwise be read from there
//! without a word.

use std::collections::VecDeque;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use data_encoding::BASE64;
use event_listener::EventListener;
use futures_io::AsyncRead;
use futures_io::AsyncWrite;
use reattach_core::error::ApiMisuse;
use reattach_core::id::Code;
use reattach_core::id::Epoch;
use reattach_core::id::Lane;
use reattach_core::link::Outgoing;
use reattach_core::outcome::Outcome;
use reattach_core::wire::Payload;
use reattach_core::wire::UncheckedPayload;

use crate::client::Client;
use crate::connection::Connection;
use crate::held::Held;
use crate::received::Received;
use crate::shared::Receipt;
use crate::shared::Taken;

/// Two readers of one lane would each get a part of the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lane {lane:?} is read as a stream already")]
pub struct LaneInUse {
    /// Which lane.
    pub lane: Lane,
}

/// Why a stream of bytes cannot go on. It comes within an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The other side has lost its state, or took this one for gone: bytes that were on their way may be lost
    /// ([`io::ErrorKind::ConnectionReset`]).
    #[error("the connection began anew, and bytes on their way may be lost")]
    Reset,
    /// The connection has ended before the stream did ([`io::ErrorKind::UnexpectedEof`]).
    #[error("the connection ended before the stream did")]
    Ended,
    /// What was written did not arrive ([`io::ErrorKind::BrokenPipe`]).
    #[error("bytes that were written did not arrive: {0}")]
    Failed(Outcome),
    /// Something in the lane is no part of a stream ([`io::ErrorKind::InvalidData`]).
    #[error("a message in the lane is no part of a stream of bytes")]
    NoBytes,
    /// A part of the stream is missing: its bytes begin elsewhere ([`io::ErrorKind::InvalidData`]).
    #[error("the bytes that came follow byte {found}, and those before followed byte {expected}")]
    Misplaced {
        /// How many bytes had come.
        expected: u64,
        /// How many had gone before, as their sender says.
        found: u64,
    },
    /// It cannot be sent ([`io::ErrorKind::BrokenPipe`]).
    #[error("nothing can be sent: {0}")]
    Unsendable(ApiMisuse),
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::Reset => io::ErrorKind::ConnectionReset,
            StreamError::Ended => io::ErrorKind::UnexpectedEof,
            StreamError::Failed(_) | StreamError::Unsendable(_) => io::ErrorKind::BrokenPipe,
            StreamError::NoBytes | StreamError::Misplaced { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// A lane as a stream of bytes both ways: [`AsyncRead`] and [`AsyncWrite`] of `futures`. Made with [`Client::byte_stream`] or
/// [`Connection::byte_stream`], on both sides for the same lane.
///
/// Bytes arrive once and in order, across any number of dropped sockets, or the reader and the writer get an error that holds
/// a [`StreamError`]. An error is for good. A reader that does not read stops its writer, and leaves room for other lanes.
///
/// - *Reading* takes messages out of the lane, which `recv` does not see any more. With manual acceptance a message is accepted
///   once its last byte was read. The end comes when the writer was closed.
/// - *Writing* puts bytes into the outbox, as many as fit into a message, and waits for room there. *Flushing* is done at once,
///   for nothing is held back. *Closing* writes the end and waits until the other side has taken everything. A message that did
///   not arrive fails the next write, or the closing.
///
/// It keeps the connection alive. Dropped without closing it leaves its reader waiting for more, until the connection ends.
/// Dropping a future that reads or writes loses nothing: bytes that it has not returned were not taken, and bytes whose write
/// it did not report were not written.
#[derive(Debug)]
pub struct ByteStream {
    held: Held,
    lane: Lane,
    reader: Reader,
    writer: Writer,
}

#[derive(Debug, Default)]
struct Reader {
    listener: Option<EventListener>,
    /// The epoch in which bytes came.
    epoch: Option<Epoch>,
    /// How many bytes came.
    offset: u64,
    /// Bytes that came and were not read, from the place beside on, and the message that they came in.
    bytes: Vec<u8>,
    read: usize,
    message: Option<Received>,
    has_ended: bool,
    error: Option<StreamError>,
}

#[derive(Debug)]
struct Writer {
    listener: Option<EventListener>,
    epoch: Option<Epoch>,
    /// How many bytes were sent.
    offset: u64,
    /// The most bytes in a message.
    chunk: usize,
    /// Of what was sent, in order.
    receipts: VecDeque<Receipt>,
    has_ended: bool,
    error: Option<StreamError>,
}

/// The most bytes in a message: few enough that a lane has several under way within half of the default window.
const CHUNK: usize = 32 * 1024;

/// The most that surrounds the Base64 in a payload.
const AROUND: u64 = 32;

/// What a reader answers to a message that is no part of its stream, where it decides.
const NO_BYTES: &str = "no-bytes";

impl ByteStream {
    fn new(held: Held, lane: Lane) -> Result<Self, LaneInUse> {
        if !held.claim(&lane) {
            return Err(LaneInUse { lane });
        }
        let writer = Writer {
            listener: None,
            epoch: None,
            offset: 0,
            chunk: CHUNK,
            receipts: VecDeque::new(),
            has_ended: false,
            error: None,
        };
        Ok(Self { held, lane, reader: Reader::default(), writer })
    }

    /// The lane.
    #[must_use]
    pub const fn lane(&self) -> &Lane {
        &self.lane
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        self.held.release(&self.lane);
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { held, lane, reader, .. } = &mut *self;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        while reader.bytes.is_empty() && !reader.has_ended {
            if let Some(error) = &reader.error {
                return Poll::Ready(Err(error.clone().into()));
            }
            // Before the first byte any epoch will do.
            let epoch = reader.epoch.filter(|_| reader.offset > 0);
            match ready!(held.poll_recv_in(lane, epoch, &mut reader.listener, cx)) {
                Taken::Message(received, epoch) => {
                    reader.epoch = epoch;
                    reader.take_in(received);
                }
                Taken::InAnotherEpoch => reader.error = Some(StreamError::Reset),
                Taken::Nothing => reader.error = Some(StreamError::Ended),
            }
        }
        Poll::Ready(Ok(reader.read(buf)))
    }
}

impl Reader {
    /// Takes a message apart.
    fn take_in(&mut self, received: Received) {
        match part_of(received.payload()) {
            Some((offset, _)) if offset != self.offset => {
                self.refuse(received, StreamError::Misplaced { expected: self.offset, found: offset });
            }
            Some((_, Some(bytes))) => {
                self.offset += bytes.len() as u64;
                (self.bytes, self.read, self.message) = (bytes, 0, Some(received));
            }
            Some((_, None)) => {
                self.has_ended = true;
                accept(received);
            }
            None => self.refuse(received, StreamError::NoBytes),
        }
    }

    fn refuse(&mut self, received: Received, error: StreamError) {
        let code = Code::new(NO_BYTES).expect("it is a code");
        // Where nothing is to be decided its sender was told that it arrived, and it did.
        _ = received.reject(code, error.to_string());
        self.error = Some(error);
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        let left = &self.bytes[self.read..];
        let count = left.len().min(buf.len());
        buf[..count].copy_from_slice(&left[..count]);
        self.read += count;
        if self.read == self.bytes.len() {
            (self.bytes, self.read) = (Vec::new(), 0);
            if let Some(message) = self.message.take() {
                accept(message);
            }
        }
        count
    }
}

/// A lease that is over, or an epoch, is noticed when the next message is taken: here the bytes were read.
fn accept(received: Received) {
    _ = received.accept();
}

impl AsyncWrite for ByteStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.writer.has_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Self { held, lane, writer, .. } = &mut *self;
        writer.poll_send(Some(buf), held, lane, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { held, writer, .. } = &mut *self;
        Poll::Ready(writer.check(held, cx).map_err(io::Error::from))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { held, lane, writer, .. } = &mut *self;
        if !writer.has_ended {
            ready!(writer.poll_send(None, held, lane, cx))?;
            writer.has_ended = true;
        }
        writer.check(held, cx)?;
        if writer.receipts.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Writer {
    /// Sends as many of the bytes as fit into a message, or the end, once there is room. Returns how many it sent.
    fn poll_send(
        &mut self,
        bytes: Option<&[u8]>,
        held: &Held,
        lane: &Lane,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            self.check(held, cx)?;
            let bytes = bytes.map(|bytes| &bytes[..bytes.len().min(self.chunk)]);
            let message = Outgoing::from(payload(self.offset, bytes)).in_lane(lane.clone());
            match held.try_send(message) {
                Ok(receipt) => {
                    let count = bytes.map_or(0, <[u8]>::len);
                    self.listener = None;
                    self.offset += count as u64;
                    self.receipts.push_back(receipt);
                    return Poll::Ready(Ok(count));
                }
                Err(ApiMisuse::QueueFull) => {}
                Err(ApiMisuse::TooLarge { limit, .. }) if self.shrink(limit) => continue,
                Err(error) => {
                    let error = self.error.insert(StreamError::Unsendable(error));
                    return Poll::Ready(Err(error.clone().into()));
                }
            }
            match &mut self.listener {
                // Listening before another look: room that comes free between it and the wait is not missed.
                None => self.listener = Some(held.listen_for_room()),
                Some(listener) => {
                    ready!(Pin::new(listener).poll(cx));
                    self.listener = None;
                }
            }
        }
    }

    /// The other side takes no more than `limit` bytes of payload. Returns whether a message can be smaller.
    fn shrink(&mut self, limit: u64) -> bool {
        let fits = usize::try_from(limit.saturating_sub(AROUND) / 4 * 3).unwrap_or(usize::MAX);
        let is_smaller = (1..self.chunk).contains(&fits);
        if is_smaller {
            self.chunk = fits;
        }
        is_smaller
    }

    /// Whether what was sent has arrived so far. The task is woken when more is known.
    fn check(&mut self, held: &Held, cx: &mut Context<'_>) -> Result<(), StreamError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        while let Some(receipt) = self.receipts.front_mut() {
            match Pin::new(receipt).poll(cx) {
                Poll::Ready(Outcome::Delivered) => _ = self.receipts.pop_front(),
                Poll::Ready(outcome) => return Err(self.error.insert(StreamError::Failed(outcome)).clone()),
                Poll::Pending => break,
            }
        }
        let epoch = held.epoch();
        if self.offset > 0 && self.epoch.is_some() && epoch.is_some() && self.epoch != epoch {
            return Err(self.error.insert(StreamError::Reset).clone());
        }
        self.epoch = epoch.or(self.epoch);
        Ok(())
    }
}

/// A part of a stream, or its end.
fn payload(offset: u64, bytes: Option<&[u8]>) -> Payload {
    let mut text = format!("[{offset}");
    if let Some(bytes) = bytes {
        text.reserve(BASE64.encode_len(bytes.len()) + 4);
        text.push_str(",\"");
        BASE64.encode_append(bytes, &mut text);
        text.push('"');
    }
    text.push(']');
    Payload::from_json(&text).expect("a number and a text without escapes are JSON")
}

/// Where a part of a stream begins and its bytes; none of them at the end.
fn part_of(payload: &UncheckedPayload) -> Option<(u64, Option<Vec<u8>>)> {
    let Ok((offset, text)) = payload.parse::<(u64, String)>() else {
        let (offset,) = payload.parse::<(u64,)>().ok()?;
        return Some((offset, None));
    };
    let bytes = BASE64.decode(text.as_bytes()).ok().filter(|bytes| !bytes.is_empty())?;
    Some((offset, Some(bytes)))
}

impl Client {
    /// A lane as a stream of bytes.
    ///
    /// # Errors
    ///
    /// [`LaneInUse`] while another stream of this lane is there.
    pub fn byte_stream(&self, lane: impl Into<Lane>) -> Result<ByteStream, LaneInUse> {
        ByteStream::new(Held::Client(self.clone()), lane.into())
    }
}

impl Connection {
    /// A lane as a stream of bytes.
    ///
    /// # Errors
    ///
    /// [`LaneInUse`] while another stream of this lane is there.
    pub fn byte_stream(&self, lane: impl Into<Lane>) -> Result<ByteStream, LaneInUse> {
        ByteStream::new(Held::Connection(self.clone()), lane.into())
    }
}
