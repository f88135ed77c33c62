//! Transports that were closed and have not hung up yet.
//!
//! Closing in good order takes a round trip: the closing frame has to leave, and the other side has to answer. That happens
//! beside everything else, for a little while, and for a bounded number of transports, so that strangers who come only to be
//! turned away cannot pile up.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use reattach_core::wire::CloseCode;

use crate::runtime::Runtime;
use crate::runtime::Task;
use crate::socket::Socket;

/// How long the other side may take to hang up.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many may take it at once. What comes on top gets its closing frame if the socket takes it at once, and is dropped.
const MAX: usize = 1_000;

/// Sees transports off.
pub(crate) struct Closing {
    runtime: Arc<dyn Runtime>,
    leaving: AtomicUsize,
}

/// Counts one transport while it leaves.
struct Leaving(Arc<Closing>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leaving.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Closing {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Arc<Self> {
        Arc::new(Self { runtime, leaving: AtomicUsize::new(0) })
    }

    /// Sees a transport to its end beside everything else.
    pub(crate) fn see_off(self: &Arc<Self>, mut socket: Socket, code: CloseCode) {
        // Where the peer has closed first, its answer is queued already and this is refused.
        _ = socket.start_close(code);
        let is_many = self.leaving.fetch_add(1, Ordering::Relaxed) >= MAX;
        let leaving = Leaving(Arc::clone(self));
        if is_many {
            _ = socket.poll_flush(&mut Context::from_waker(Waker::noop()));
            return;
        }
        let mut timer = self.runtime.timer();
        timer.set(PATIENCE);
        self.runtime.spawn(Task::new(std::future::poll_fn(move |cx| {
            let _leaving = &leaving;
            if timer.poll_elapsed(cx).is_ready() {
                return Poll::Ready(());
            }
            match socket.poll_flush(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                Poll::Ready(Ok(())) | Poll::Pending => socket.poll_hung_up(cx),
            }
        })));
    }
}
