//! The requests of the other side: each is answered once, alone or with the rest of its batch.

use alloc::collections::BTreeMap;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::rpc::event::IncomingCall;
use crate::rpc::id::IncomingId;
use crate::rpc::text;
use crate::wire::Payload;

/// A request that has no answer yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Open {
    /// Its id as it stood in the request.
    id: Arc<str>,
    batch: Option<BatchNo>,
}

/// Numbers batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BatchNo(u64);

/// A batch that is not answered whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Batch {
    /// How many of its requests are open, and one more while it is being read.
    open: usize,
    answers: Vec<String>,
}

/// What the other side wants and has not got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Serving {
    numbers: u64,
    open: BTreeMap<IncomingId, Open>,
    by_id: BTreeMap<Arc<str>, IncomingId>,
    batches: BTreeMap<BatchNo, Batch>,
    /// What the application has not taken.
    queue: VecDeque<IncomingCall>,
}

impl Serving {
    /// How much is held: open requests, and notifications that were not taken.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.queue.iter().filter(|incoming| incoming.id.is_none()).count()
    }

    /// How many requests have no answer yet.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// How many bytes nobody has taken.
    pub(super) fn bytes(&self) -> u64 {
        let len = |incoming: &IncomingCall| incoming.params.as_ref().map_or(0, |params| params.len() as u64);
        self.queue.iter().map(len).sum()
    }

    pub(super) fn notify(&mut self, method: Arc<str>, params: Option<Payload>) {
        self.queue.push_back(IncomingCall { id: None, method, params });
    }

    /// Takes a request in. Returns whether it is new: an id of which one is open is not.
    pub(super) fn ask(&mut self, id: &str, batch: Option<BatchNo>, method: Arc<str>, params: Option<Payload>) -> bool {
        if self.by_id.contains_key(id) {
            return false;
        }
        self.numbers += 1;
        let (asked, id) = (IncomingId(self.numbers), Arc::<str>::from(id));
        self.by_id.insert(Arc::clone(&id), asked);
        self.open.insert(asked, Open { id, batch });
        if let Some(batch) = batch.and_then(|batch| self.batches.get_mut(&batch)) {
            batch.open += 1;
        }
        self.queue.push_back(IncomingCall { id: Some(asked), method, params });
        true
    }

    /// The next thing to do.
    pub(super) fn take(&mut self) -> Option<IncomingCall> {
        self.queue.pop_front()
    }

    pub(super) fn has_incoming(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The id of an open request.
    pub(super) fn id(&self, asked: IncomingId) -> Option<&str> {
        self.open.get(&asked).map(|open| &*open.id)
    }

    /// The open request of this id.
    pub(super) fn find(&self, id: &str) -> Option<IncomingId> {
        self.by_id.get(id).copied()
    }

    /// Answers a request: `write` makes the answer from its id. Returns what goes to the other side now, if that is not kept until
    /// the rest of a batch is answered; and whether the request was open.
    pub(super) fn answer(&mut self, asked: IncomingId, write: impl FnOnce(&str) -> String) -> Option<Option<Payload>> {
        let open = self.open.remove(&asked)?;
        self.by_id.remove(&open.id);
        self.queue.retain(|incoming| incoming.id != Some(asked));
        let answer = write(&open.id);
        Some(match open.batch {
            None => Some(Payload::of_known_parts(&answer)),
            Some(batch) => self.close(batch, Some(answer)),
        })
    }

    /// Lets go of a request that nobody waits for alone. Returns whether it was open and is not one of a batch.
    pub(super) fn drop_alone(&mut self, asked: IncomingId) -> bool {
        if self.open.get(&asked).is_none_or(|open| open.batch.is_some()) {
            return false;
        }
        self.answer(asked, |_| String::from("null")).is_some()
    }

    /// Begins to read a batch.
    pub(super) fn begin_batch(&mut self) -> BatchNo {
        self.numbers += 1;
        let number = BatchNo(self.numbers);
        self.batches.insert(number, Batch { open: 1, answers: Vec::new() });
        number
    }

    /// Adds an answer to a batch for something in it that is not open.
    pub(super) fn answer_in(&mut self, batch: BatchNo, answer: String) {
        if let Some(batch) = self.batches.get_mut(&batch) {
            batch.answers.push(answer);
        }
    }

    /// The batch was read. Returns its answer, if it is complete.
    pub(super) fn end_batch(&mut self, batch: BatchNo) -> Option<Payload> {
        self.close(batch, None)
    }

    fn close(&mut self, number: BatchNo, answer: Option<String>) -> Option<Payload> {
        let batch = self.batches.get_mut(&number)?;
        batch.answers.extend(answer);
        batch.open -= 1;
        if batch.open > 0 {
            return None;
        }
        let batch = self.batches.remove(&number)?;
        // A batch of notifications is not answered (JSON-RPC 2.0, section 6).
        (!batch.answers.is_empty()).then(|| text::batch(&batch.answers))
    }

    /// Nobody waits for any answer. Returns which of the requests the application knows of. Notifications stay.
    pub(super) fn abandon(&mut self) -> Vec<IncomingId> {
        self.queue.retain(|incoming| incoming.id.is_none());
        self.by_id.clear();
        self.batches.clear();
        core::mem::take(&mut self.open).into_keys().collect()
    }
}
