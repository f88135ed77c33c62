//! Transports that were closed and have not hung up yet.
//!
//! Closing in good order takes a round trip: the closing frame has to leave, and the other side has to answer. That happens
//! beside everything else, for a little while, and for a bounded number of transports, so that strangers who come only to be
//! turned away cannot pile up.

use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use reattach_core::wire::CloseCode;

use crate::count::Count;
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
    leaving: Arc<Count>,
}

impl Closing {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Arc<Self> {
        Arc::new(Self { runtime, leaving: Arc::default() })
    }

    /// Waits until every transport that leaves has left.
    pub(crate) async fn all_left(&self) {
        self.leaving.none_left().await;
    }

    /// Sees a transport to its end beside everything else.
    pub(crate) fn see_off(&self, mut socket: Socket, code: CloseCode) {
        // Where the peer has closed first, its answer is queued already and this is refused.
        _ = socket.start_close(code);
        let leaving = self.leaving.one_more();
        if self.leaving.get() > MAX {
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
