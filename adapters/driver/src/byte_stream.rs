//! A lane as a stream of bytes both ways, for code that is written against [`AsyncRead`] and [`AsyncWrite`].
//!
//! Bytes travel in ordinary messages of the lane, so the wire knows nothing of them. `PROTOCOL.md` of the core describes what is
//! in them, in its section 16. Each says how many bytes went before: that is what tells a reader that it came in the middle. A
//! server that has lost its state, with a client that goes on writing, would otherwise be read from there without a word.

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
use crate::receipt::Receipt;
use crate::received::Received;
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
    /// The connection has ended before the stream did, or a client has stopped trying ([`io::ErrorKind::UnexpectedEof`]). The
    /// latter may go on after [`Client::reconnect`].
    #[error("the connection ended before the stream did")]
    Ended,
    /// The other side's writer failed, or was dropped before it was closed ([`io::ErrorKind::ConnectionAborted`]).
    #[error("the stream was broken off by whoever wrote it")]
    Aborted,
    /// It was closed ([`io::ErrorKind::BrokenPipe`]).
    #[error("the stream was closed")]
    Closed,
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
            StreamError::Aborted => io::ErrorKind::ConnectionAborted,
            StreamError::Closed | StreamError::Failed(_) | StreamError::Unsendable(_) => io::ErrorKind::BrokenPipe,
            StreamError::NoBytes | StreamError::Misplaced { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// A lane as a stream of bytes both ways: [`AsyncRead`] and [`AsyncWrite`] of `futures`. Made with [`Client::byte_stream`] or
/// [`Connection::byte_stream`], on both sides for the same lane.
///
/// Bytes arrive once and in order, across any number of dropped sockets, or the reader gets an error that holds a [`StreamError`],
/// and so does the writer where a message of its did not arrive. But for [`StreamError::Ended`] an error is for good. A reader that
/// does not read stops its writer, and leaves room for other lanes.
///
/// - *Reading* takes messages out of the lane, which `recv` does not see while the stream is there. With manual acceptance each is
///   accepted when it is taken: a reader holds the bytes of one. The end comes when the writer was closed. Of bytes that a reader
///   cannot make sense of, the writer hears only where acceptance is manual: then they are rejected.
/// - *Writing* puts bytes into the outbox, as many as fit into a message, and waits for room there. *Flushing* is done at once,
///   for nothing is held back. *Closing* writes the end and waits until the other side has taken everything. A message that did
///   not arrive fails the next write, or the closing, and the other side is told that the stream is broken off.
///
/// It keeps the connection alive. Dropped before it was closed, once something was written, it breaks the stream off, if there is
/// room in the outbox to say so: closing is what makes sure that the other side hears of an end. What comes in the lane after it was dropped goes to whoever receives: a lane is for one stream. Dropping a future that reads or writes
/// loses nothing: bytes that it has not returned were not taken, and bytes whose write it did not report were not written.
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
    /// Bytes that came and were not read, from the place beside on.
    bytes: Vec<u8>,
    read: usize,
    has_ended: bool,
    error: Option<StreamError>,
}

#[derive(Debug)]
struct Writer {
    listener: Option<EventListener>,
    /// The epoch in which the first bytes were sent, where there was one, and how many had begun by then.
    begun: Option<(Option<Epoch>, u64)>,
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
            begun: None,
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
        if self.writer.offset > 0 && !self.writer.has_ended && self.writer.error.is_none() {
            self.writer.break_off(&self.held, &self.lane);
        }
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
                Taken::Nothing => return Poll::Ready(Err(StreamError::Ended.into())),
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
            Some((_, part)) => {
                // Its lease began a moment ago. An epoch that ends in between leaves its bytes with nobody.
                if received.accept().is_err() {
                    self.error = Some(StreamError::Reset);
                    return;
                }
                match part {
                    Part::Bytes(bytes) => {
                        self.offset += bytes.len() as u64;
                        (self.bytes, self.read) = (bytes, 0);
                    }
                    Part::End => self.has_ended = true,
                    Part::Abort => self.error = Some(StreamError::Aborted),
                }
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
        }
        count
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.writer.has_ended {
            return Poll::Ready(Err(StreamError::Closed.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Self { held, lane, writer, .. } = &mut *self;
        writer.poll_send(Some(buf), held, lane, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { held, lane, writer, .. } = &mut *self;
        Poll::Ready(writer.check(held, lane, cx).map_err(io::Error::from))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { held, lane, writer, .. } = &mut *self;
        if !writer.has_ended {
            ready!(writer.poll_send(None, held, lane, cx))?;
            writer.has_ended = true;
        }
        writer.check(held, lane, cx)?;
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
            self.check(held, lane, cx)?;
            let bytes = bytes.map(|bytes| &bytes[..bytes.len().min(self.chunk)]);
            let len = bytes.map_or(0, |bytes| BASE64.encode_len(bytes.len())) as u64;
            if held.has_room(lane, len + AROUND) {
                let part = bytes.map_or(Part::End, Part::Bytes);
                match held.try_send(Outgoing::from(payload(self.offset, &part)).in_lane(lane.clone())) {
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
    fn check(&mut self, held: &Held, lane: &Lane, cx: &mut Context<'_>) -> Result<(), StreamError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        while let Some(receipt) = self.receipts.front_mut() {
            match Pin::new(receipt).poll(cx) {
                Poll::Ready(Outcome::Delivered) => _ = self.receipts.pop_front(),
                Poll::Ready(outcome) => {
                    self.break_off(held, lane);
                    return Err(self.error.insert(StreamError::Failed(outcome)).clone());
                }
                Poll::Pending => break,
            }
        }
        let is_done = self.has_ended && self.receipts.is_empty();
        if !is_done && self.has_begun_anew(held) {
            return Err(self.error.insert(StreamError::Reset).clone());
        }
        Ok(())
    }

    /// Whether the connection is in another epoch than when the first bytes were sent.
    fn has_begun_anew(&mut self, held: &Held) -> bool {
        let now = held.epoch();
        if self.offset == 0 {
            self.begun = Some(now);
        }
        match (self.begun, now) {
            (Some((Some(first), _)), (Some(current), _)) => first != current,
            // They were sent before the very first.
            (Some((None, before)), (Some(_), count)) if count > before + 1 => true,
            (Some((None, _)), (Some(_), _)) => {
                self.begun = Some(now);
                false
            }
            (_, (None, _)) | (None, _) => false,
        }
    }

    /// Tells the reader that nothing more comes, as well as that goes.
    fn break_off(&self, held: &Held, lane: &Lane) {
        _ = held.try_send(Outgoing::from(payload(self.offset, &Part::Abort)).in_lane(lane.clone()));
    }
}

/// A part of a stream.
enum Part<B> {
    Bytes(B),
    End,
    /// The stream is broken off.
    Abort,
}

/// A part of a stream, behind so many bytes.
fn payload(offset: u64, part: &Part<&[u8]>) -> Payload {
    let mut text = format!("[{offset}");
    match part {
        Part::Bytes(bytes) => {
            text.reserve(BASE64.encode_len(bytes.len()) + 4);
            text.push_str(",\"");
            BASE64.encode_append(bytes, &mut text);
            text.push('"');
        }
        Part::End => {}
        Part::Abort => text.push_str(",null"),
    }
    text.push(']');
    Payload::from_json(&text).expect("a number and a text without escapes are JSON")
}

/// How many bytes went before a part of a stream, and the part.
fn part_of(payload: &UncheckedPayload) -> Option<(u64, Part<Vec<u8>>)> {
    let Ok((offset, text)) = payload.parse::<(u64, Option<String>)>() else {
        let (offset,) = payload.parse::<(u64,)>().ok()?;
        return Some((offset, Part::End));
    };
    let Some(text) = text else { return Some((offset, Part::Abort)) };
    let bytes = BASE64.decode(text.as_bytes()).ok().filter(|bytes| !bytes.is_empty())?;
    Some((offset, Part::Bytes(bytes)))
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
