//! A connection as a stream of what comes and a sink for what goes, for code that is written against `futures`.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use event_listener::EventListener;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_util::FutureExt as _;
use futures_util::Sink;
use futures_util::StreamExt as _;
use reattach_core::error::ApiMisuse;
use reattach_core::link::Outgoing;

use crate::client::Client;
use crate::connection::Connection;
use crate::held::Held;
use crate::received::Received;
use crate::runtime::Task;
use crate::runtime::Timer;

/// What comes on a connection, as a [`Stream`]. It ends when `recv` returns `None`: a client whose trying stopped may go on
/// after [`Client::reconnect`], and then a new stream is to be made.
///
/// It keeps the connection alive. A message that was not yielded was not taken.
#[derive(Debug)]
pub struct MessageStream {
    held: Held,
    listener: Option<EventListener>,
    is_over: bool,
}

impl Stream for MessageStream {
    type Item = Received;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        let received = ready!(this.held.poll_recv(&mut this.listener, cx));
        this.is_over = received.is_none();
        Poll::Ready(received)
    }
}

impl FusedStream for MessageStream {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

/// What goes on a connection, as a [`Sink`].
///
/// A sink has one message more than the outbox: the one that waits for room. *Flushed* means that everything is in the outbox,
/// and will have its outcome, which is among the connection's events; `send` of the connection gives a receipt for each instead.
/// *Closing* the sink closes the connection, with [`MessageSink::PATIENCE`] for what waits for room, and again for the outcomes;
/// it fails where what waited was not sent, and the connection is closed all the same. A sink that is dropped keeps what is in
/// the outbox and loses the message that waits for room.
pub struct MessageSink {
    held: Held,
    /// What waits for room.
    waiting: Option<Outgoing>,
    listener: Option<EventListener>,
    closing: Option<Task<()>>,
    /// How long closing it waits for room.
    patience: Option<Box<dyn Timer>>,
    /// Why what waited was not sent, when it was closed.
    fault: Option<ApiMisuse>,
    is_closed: bool,
}

impl std::fmt::Debug for MessageSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageSink").field("held", &self.held).field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl MessageSink {
    /// How long closing it waits for room, and then for outcomes: as long as the other side has to answer a withdrawal.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// Ready once nothing waits for room.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiMisuse>> {
        while let Some(message) = self.waiting.take() {
            match self.held.try_send(message.clone()) {
                Err(ApiMisuse::QueueFull) => self.waiting = Some(message),
                result => {
                    self.listener = None;
                    return Poll::Ready(result.map(drop));
                }
            }
            match &mut self.listener {
                // Listening before another look: room that comes free between it and the wait is not missed.
                None => self.listener = Some(self.held.listen_for_room()),
                Some(listener) => {
                    ready!(listener.poll_unpin(cx));
                    self.listener = None;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<M: Into<Outgoing>> Sink<M> for MessageSink {
    type Error = ApiMisuse;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ApiMisuse>> {
        self.poll_room(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), ApiMisuse> {
        let message = message.into();
        match self.held.try_send(message.clone()) {
            Err(ApiMisuse::QueueFull) => {
                self.waiting = Some(message);
                Ok(())
            }
            result => result.map(drop),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ApiMisuse>> {
        self.poll_room(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ApiMisuse>> {
        let this = &mut *self;
        if this.is_closed {
            return Poll::Ready(Ok(()));
        }
        if this.closing.is_none() {
            let patience = match this.poll_room(cx) {
                Poll::Ready(result) => {
                    this.fault = result.err();
                    Self::PATIENCE
                }
                Poll::Pending => {
                    let timer = this.patience.get_or_insert_with(|| this.held.timer(Self::PATIENCE));
                    ready!(timer.poll_elapsed(cx));
                    this.waiting = None;
                    this.fault = Some(ApiMisuse::QueueFull);
                    Duration::ZERO
                }
            };
            this.closing = Some(this.held.close(patience));
        }
        ready!(this.closing.as_mut().expect("it was just begun").poll_unpin(cx));
        (this.closing, this.is_closed) = (None, true);
        Poll::Ready(this.fault.take().map_or(Ok(()), Err))
    }
}

/// Both halves in one: what `futures` calls a duplex. [`Duplex::split`] takes it apart.
#[derive(Debug)]
pub struct Duplex {
    stream: MessageStream,
    sink: MessageSink,
}

impl Duplex {
    /// The two halves. Each keeps the connection alive.
    #[must_use]
    pub fn split(self) -> (MessageSink, MessageStream) {
        (self.sink, self.stream)
    }
}

impl Stream for Duplex {
    type Item = Received;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        self.stream.poll_next_unpin(cx)
    }
}

impl<M: Into<Outgoing>> Sink<M> for Duplex {
    type Error = ApiMisuse;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ApiMisuse>> {
        Sink::<M>::poll_ready(Pin::new(&mut self.sink), cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), ApiMisuse> {
        Pin::new(&mut self.sink).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ApiMisuse>> {
        Sink::<M>::poll_flush(Pin::new(&mut self.sink), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ApiMisuse>> {
        Sink::<M>::poll_close(Pin::new(&mut self.sink), cx)
    }
}

impl From<Held> for Duplex {
    fn from(held: Held) -> Self {
        let stream = MessageStream { held: held.clone(), listener: None, is_over: false };
        Self {
            stream,
            sink: MessageSink {
                held,
                waiting: None,
                listener: None,
                closing: None,
                patience: None,
                fault: None,
                is_closed: false,
            },
        }
    }
}

impl Client {
    /// The client as a stream and a sink.
    #[must_use]
    pub fn duplex(&self) -> Duplex {
        Held::Client(self.clone()).into()
    }
}

impl Connection {
    /// The connection as a stream and a sink.
    #[must_use]
    pub fn duplex(&self) -> Duplex {
        Held::Connection(self.clone()).into()
    }
}
