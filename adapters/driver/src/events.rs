//! Events for whoever wants to hear them, each subscriber with a bounded queue of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use event_listener::Event;

/// What a connection, or a hub, tells from the moment of subscription on.
///
/// The newest [`Events::CAPACITY`] events wait to be read; older ones are dropped and counted.
#[derive(Debug)]
pub struct Events<E>(Arc<Subscription<E>>);

#[derive(Debug)]
pub(crate) struct Subscription<E> {
    queue: Mutex<EventQueue<E>>,
    arrived: Event,
}

#[derive(Debug)]
struct EventQueue<E> {
    events: VecDeque<E>,
    missed: u64,
    is_ended: bool,
}

impl<E> Subscription<E> {
    pub(crate) fn new() -> Self {
        let queue = EventQueue { events: VecDeque::new(), missed: 0, is_ended: false };
        Self { queue: Mutex::new(queue), arrived: Event::new() }
    }

    fn lock(&self) -> MutexGuard<'_, EventQueue<E>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, event: E) {
        let mut queue = self.lock();
        if queue.events.len() == Events::<E>::CAPACITY {
            queue.events.pop_front();
            queue.missed += 1;
        }
        queue.events.push_back(event);
        drop(queue);
        self.arrived.notify(usize::MAX);
    }

    pub(crate) fn end(&self) {
        self.lock().is_ended = true;
        self.arrived.notify(usize::MAX);
    }
}

impl<E> Events<E> {
    pub(crate) const fn new(subscription: Arc<Subscription<E>>) -> Self {
        Self(subscription)
    }

    /// The most events that wait: the outcomes of more than a full outbox.
    pub const CAPACITY: usize = 1_024;

    /// The next event; `None` once the connection has ended, or the hub, and everything was read. Cancel-safe.
    pub async fn next(&mut self) -> Option<E> {
        loop {
            let arrived = self.0.arrived.listen();
            {
                let mut queue = self.0.lock();
                if let Some(event) = queue.events.pop_front() {
                    return Some(event);
                }
                if queue.is_ended {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// How many events were dropped because nobody read them.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.0.lock().missed
    }
}
