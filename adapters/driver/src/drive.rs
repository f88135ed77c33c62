//! The one event loop.
//!
//! A turn reads what has come, hands all of it to the machine in one go, does what the machine wants, and flushes once. It
//! keeps reading while a write is blocked. Its work is bounded: a busy socket gives way after a while. Between turns it waits
//! for the first of: the socket, a handle, the one timer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use async_tungstenite::tungstenite::Message;
use reattach_core::id::MessageId;
use reattach_core::id::TransportId;
use reattach_core::link::Lanes;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::OpenError;
use reattach_core::server::Answer;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Token;
use tracing::Instrument as _;
use tracing::Span;

use crate::alarm::Alarm;
use crate::closing::Closing;
use crate::machine::Machine;
use crate::machine::Output;
use crate::meter::Meter;
use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::shared::Shared;
use crate::socket::Frame;
use crate::socket::Socket;
use crate::targets;

/// A transport that was opened, with the credentials for its hello.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    pub(crate) token: Option<Token>,
}

/// What surrounds a machine and differs from one to the other.
pub(crate) trait Outside: Send + Unpin + 'static {
    /// Opens a transport.
    fn open(&mut self) -> Task<Result<Opened, OpenError>>;

    /// Carries an answer to the registry.
    fn answer(&mut self, answer: Answer);

    /// The machine is no longer driven.
    fn gone(&mut self);

    /// What the task is called in logs.
    fn span(&self) -> Span;
}

/// The task that drives one machine.
pub(crate) struct Driver<M: Machine, O: Outside> {
    shared: Arc<Shared<M>>,
    /// Gone once the machine is over: then all that is left is to wait for leases.
    outside: Option<O>,
    closing: Arc<Closing>,
    /// The live transport; for a moment also the one that is being replaced.
    sockets: Vec<(TransportId, Socket)>,
    opening: Option<(TransportId, Task<Result<Opened, OpenError>>)>,
    /// Set for the time at which there is something to do, or a sooner one.
    alarm: Alarm,
    news: News,
    outputs: Vec<Output<M::Event>>,
    meter: Meter,
    /// Whether there is something that has not been polled yet, and so cannot wake this task.
    has_unpolled: bool,
}

/// What has come and the machine has not been told.
#[derive(Default)]
struct News {
    opened: Option<(TransportId, Result<Option<Token>, OpenError>)>,
    messages: Vec<(TransportId, Message)>,
    closed: Vec<(TransportId, CloseCode)>,
}

/// The most messages that a round reads before the machine sees them.
const READS: usize = 64;
/// The most bytes of them, one message more or less.
const READ_BYTES: usize = 512 * 1024;
/// The most rounds of a turn before it gives way.
const ROUNDS: usize = 8;

impl<M: Machine, O: Outside> Driver<M, O> {
    pub(crate) fn spawn(shared: Arc<Shared<M>>, runtime: &Arc<dyn Runtime>, closing: Arc<Closing>, outside: O) {
        let (alarm, span) = (Alarm::new(runtime.timer()), outside.span());
        let driver = Self {
            shared,
            outside: Some(outside),
            closing,
            sockets: Vec::new(),
            opening: None,
            alarm,
            news: News::default(),
            outputs: Vec::new(),
            meter: Meter::new(M::SIDE),
            has_unpolled: false,
        };
        runtime.spawn(Task::new(driver.instrument(span)));
    }

    /// One turn. Returns whether the machine is over and everything is done.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..ROUNDS {
            let has_news = self.read(cx);
            // What a flush lets go makes room for more, so the machine is asked again until a flush changes nothing.
            loop {
                let is_over = self.exchange();
                let did_something = !self.outputs.is_empty();
                self.execute();
                let has_flushed = self.flush(cx);
                if is_over {
                    return true;
                }
                if !has_flushed && !did_something && self.news.closed.is_empty() {
                    break;
                }
            }
            if !has_news && !std::mem::take(&mut self.has_unpolled) {
                return false;
            }
        }
        cx.waker().wake_by_ref();
        false
    }

    /// Reads what has come. Returns whether anything did.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_news = self.poll_opening(cx);
        let mut bytes = 0;
        let mut index = 0;
        'sockets: while let Some((transport, socket)) = self.sockets.get_mut(index) {
            for _ in 0..READS {
                if bytes > READ_BYTES {
                    break;
                }
                match socket.poll_read(cx) {
                    Poll::Ready(Frame::Message(message)) => {
                        bytes += message.len();
                        has_news = true;
                        push(&mut self.news.messages, (*transport, message));
                    }
                    Poll::Ready(Frame::Closed { code, is_heard }) => {
                        has_news = true;
                        self.news.closed.push((*transport, code));
                        let (_, socket) = self.sockets.swap_remove(index);
                        if is_heard {
                            self.closing.see_off(socket, code);
                        }
                        continue 'sockets;
                    }
                    Poll::Pending => break,
                }
            }
            index += 1;
        }
        has_news
    }

    fn poll_opening(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((transport, opening)) = &mut self.opening else { return false };
        let Poll::Ready(opened) = Pin::new(opening).poll(cx) else { return false };
        let transport = *transport;
        self.opening = None;
        let opened = opened.map(|Opened { socket, token }| {
            push(&mut self.sockets, (transport, socket));
            token
        });
        self.news.opened = Some((transport, opened));
        true
    }

    /// Tells the machine what has come and asks it what to do. Returns whether it is over.
    fn exchange(&mut self) -> bool {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        for (transport, socket) in std::mem::take(&mut state.arrivals) {
            socket.lift_read_limit();
            push(&mut self.sockets, (transport, socket));
            self.has_unpolled = true;
        }
        let now = self.shared.now();
        let machine = &mut state.machine;
        let places_taken = machine.places_taken();
        // What came, or a timer, is what there is something new to take by: whoever decides, or lets a lane go, says so themselves.
        let mut may_deliver = !self.news.messages.is_empty();
        if let Some((transport, opened)) = self.news.opened.take() {
            machine.handle_opened(transport, opened, now);
        }
        for (transport, socket) in &mut self.sockets {
            if let Some((read, written)) = socket.progress() {
                machine.handle_progress(*transport, read, written, now);
            }
        }
        for (transport, message) in self.news.messages.drain(..) {
            if let Some(incoming) = Frame::incoming(&message) {
                machine.handle_received(transport, incoming, now);
            }
        }
        for (transport, code) in self.news.closed.drain(..) {
            machine.handle_closed(transport, code, now);
        }
        if machine.poll_timeout().is_some_and(|at| at <= now) {
            may_deliver = true;
            machine.handle_timeout(now);
        }
        state.begin_turn();
        if may_deliver && state.wants_requests() {
            self.shared.requests(state, now);
        }
        if let Some(requests) = &mut state.requests {
            requests.rpc.handle_timeout(now);
            requests.rpc.handle_room();
        }
        let (mut has_room, mut has_changed) = (false, false);
        // What is told may have something follow for the requests, and that for the connection.
        loop {
            while let Some(output) = state.machine.poll_output() {
                match output {
                    Output::Event(event) => {
                        count(&self.meter, M::outcome(&event));
                        if state.tell(&event, now) {
                            has_room = true;
                        } else {
                            tracing::debug!(target: targets::LINK, ?event);
                            has_changed = true;
                        }
                    }
                    output
                    @ (Output::Open { .. } | Output::Write { .. } | Output::Close { .. } | Output::Answer(_)) => {
                        push(&mut self.outputs, output);
                    }
                }
            }
            let is_pumped = state.pump(now) | state.fill(now) | (may_deliver && state.clear_abandoned(now));
            if !is_pumped && !state.close_if_due(now) {
                break;
            }
        }
        // A place may come free without a word: of a message whose sender was told long before that nobody can tell.
        has_room |= state.machine.places_taken() < places_taken;
        let is_over = state.machine.is_over();
        let has_delivery = state.has_incoming() || (may_deliver && state.machine.has_delivery_from(Lanes::All));
        if is_over {
            state.end_subscriptions();
        }
        self.meter.measure(|| state.machine.stats(), state.machine.is_attached());
        let wake_at = state.poll_timeout();
        state.armed = self.alarm.set_for().filter(|at| *at > now).into_iter().chain(wake_at).min();
        let woken = std::mem::take(&mut state.woken);
        drop(guard);
        woken.wake();
        if let Some(at) = wake_at {
            self.alarm.arm(at, now);
        }
        if has_changed {
            self.shared.notify_all();
        } else {
            if has_room {
                self.shared.room.notify(usize::MAX);
            }
            if has_delivery {
                self.shared.delivery.notify(usize::MAX);
            }
        }
        is_over
    }

    /// The machine is over, or has to be.
    fn finish(&mut self) {
        let Some(mut outside) = self.outside.take() else { return };
        let mut state = self.shared.lock();
        // What came before the peer's goodbye can still be taken.
        let now = self.shared.now();
        if !state.machine.is_over() {
            state.machine.disconnect(now);
        }
        state.is_driven = false;
        state.lingers = true;
        let arrivals = std::mem::take(&mut state.arrivals);
        while let Some(output) = state.machine.poll_output() {
            if let Output::Event(event) = output {
                count(&self.meter, M::outcome(&event));
                _ = state.tell(&event, now);
            }
        }
        _ = state.pump(now);
        _ = state.fill(now);
        self.meter.measure(|| state.machine.stats(), state.machine.is_attached());
        state.end_subscriptions();
        let woken = std::mem::take(&mut state.woken);
        drop(state);
        woken.wake();
        // The registry let them in at the very moment that the connection ended.
        for (_, socket) in arrivals {
            self.closing.see_off(socket, CloseCode::ENDED);
        }
        self.shared.notify_all();
        outside.gone();
    }

    /// The machine is over. Returns whether something that came before can be taken later, when a lease has ended.
    fn linger(&mut self) -> bool {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if state.machine.held_up_until(Lanes::All).is_some_and(|at| at <= now) {
            state.machine.handle_timeout(now);
        }
        let wake_at = state.machine.held_up_until(Lanes::All);
        let has_delivery = state.machine.has_delivery_from(Lanes::All);
        drop(state);
        if has_delivery {
            self.shared.delivery.notify(usize::MAX);
        }
        if let Some(at) = wake_at {
            self.alarm.arm(at, now);
        }
        // What is taken later may hold up what waits behind it.
        has_delivery || wake_at.is_some()
    }

    /// Does what the machine wants.
    fn execute(&mut self) {
        let outside = self.outside.as_mut().expect("the machine is driven");
        for output in self.outputs.drain(..) {
            match output {
                Output::Open { transport } => {
                    self.opening = Some((transport, outside.open()));
                    self.has_unpolled = true;
                }
                Output::Write { transport, text } => {
                    let Some(index) = self.sockets.iter().position(|(id, _)| *id == transport) else { continue };
                    if let Err(code) = self.sockets[index].1.feed(text) {
                        self.sockets.swap_remove(index);
                        self.news.closed.push((transport, code));
                    }
                }
                Output::Close { transport, code } => {
                    self.opening.take_if(|(id, _)| *id == transport);
                    if let Some(index) = self.sockets.iter().position(|(id, _)| *id == transport) {
                        let (_, socket) = self.sockets.swap_remove(index);
                        self.closing.see_off(socket, code);
                    }
                }
                Output::Answer(answer) => outside.answer(answer),
                Output::Event(_) => unreachable!("events were told under the lock"),
            }
        }
    }

    /// Flushes. Returns whether the machine has something to learn from it.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_flushed = false;
        let closed = &mut self.news.closed;
        self.sockets.retain_mut(|(transport, socket)| {
            if !socket.is_dirty() {
                return true;
            }
            match socket.poll_flush(cx) {
                Poll::Ready(Ok(())) => has_flushed = true,
                Poll::Ready(Err(code)) => {
                    closed.push((*transport, code));
                    return false;
                }
                Poll::Pending => {}
            }
            true
        });
        has_flushed
    }
}

/// Puts something into a list that mostly has one place. One made by `push` alone has four, which every idle connection would hold.
fn push<T>(list: &mut Vec<T>, item: T) {
    if list.capacity() == 0 {
        list.reserve_exact(1);
    }
    list.push(item);
}

fn count(meter: &Meter, told: Option<(MessageId, &Outcome)>) {
    if let Some((_, outcome)) = told {
        meter.count_outcome(outcome);
    }
}

impl<M: Machine, O: Outside> Future for Driver<M, O> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.register_driver(cx);
        loop {
            if this.outside.is_some() && this.turn(cx) {
                this.finish();
            }
            if this.outside.is_none() && !this.linger() {
                return Poll::Ready(());
            }
            // The clock was looked at in the turn; the timer only wakes.
            if this.alarm.poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<M: Machine, O: Outside> Drop for Driver<M, O> {
    /// The task ends: the machine is over, or the runtime goes down, or something panicked. Whoever waits is told the truth.
    fn drop(&mut self) {
        self.finish();
        self.shared.lock().lingers = false;
        self.shared.delivery.notify(usize::MAX);
    }
}
