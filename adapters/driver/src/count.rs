//! A count of things that come and go, and can be waited for to be gone.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use event_listener::Event;

/// How many there are.
#[derive(Default)]
pub(crate) struct Count {
    number: AtomicUsize,
    none: Event,
}

/// One of them, as long as this lives.
pub(crate) struct Counted(Arc<Count>);

impl Count {
    /// Counts one more.
    pub(crate) fn one_more(self: &Arc<Self>) -> Counted {
        self.number.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(self))
    }

    pub(crate) fn get(&self) -> usize {
        self.number.load(Ordering::SeqCst)
    }

    /// Waits until there are none.
    pub(crate) async fn none_left(&self) {
        loop {
            let none = self.none.listen();
            if self.get() == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.number.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.notify(usize::MAX);
        }
    }
}
