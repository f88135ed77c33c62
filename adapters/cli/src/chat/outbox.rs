//! What was typed, on its way to the agent: one message after the other, each until it is known what became of it.
//!
//! A message has the name that it was given when it was typed, and the agent takes each name once. So one of which nobody can tell
//! whether it was taken is sent again, as long as the session is in the life in which it was sent; in another, the agent would know
//! nothing of the first time, and it is said that nobody can tell. The request names that life, so that this cannot be missed.

use std::time::Duration;

use reattach_tokio::Client;
use reattach_tokio::core::error::ApiMisuse;
use reattach_tokio::core::id::Code;
use reattach_tokio::core::id::Epoch;
use reattach_tokio::core::id::MessageId;
use reattach_tokio::core::outcome::NotDelivered;
use reattach_tokio::core::outcome::Outcome;
use reattach_tokio::core::outcome::Unknown;
use reattach_tokio::core::rpc::Call;
use reattach_tokio::core::rpc::Failure;
use reattach_tokio::core::rpc::RpcMisuse;
use reattach_tokio::core::wire::Payload;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::chat::memory::Typed;
use crate::chat::seen::request;
use crate::messages::ANOTHER_LIFE;
use crate::messages::SEND;
use crate::messages::Send;

/// How long a message may wait for the agent to take it, from when it was typed.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a request that finds no room waits before it is tried again.
const NO_ROOM: Duration = Duration::from_millis(50);
/// How many outcomes are told ahead.
const AHEAD: usize = 256;

/// The way to the agent.
#[derive(Debug)]
pub(super) struct Outbox {
    /// What goes in: messages, and the life of the session. Nothing once it has ended.
    open: Option<Open>,
    outcomes: mpsc::Receiver<(MessageId, Outcome)>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Open {
    /// As many as whoever sends lets wait: what was kept must find room, however much it is.
    typed: mpsc::UnboundedSender<(Typed, Instant)>,
    epochs: watch::Sender<Option<Epoch>>,
}

struct Delivering {
    client: Client,
    epochs: watch::Receiver<Option<Epoch>>,
}

impl Outbox {
    pub(super) fn new(client: Client) -> Self {
        let (typed, mut waiting) = mpsc::unbounded_channel::<(Typed, Instant)>();
        let (tell, outcomes) = mpsc::channel(AHEAD);
        let (epochs, seen) = watch::channel(None);
        let mut delivering = Delivering { client, epochs: seen };
        let task = tokio::spawn(async move {
            while let Some((typed, at)) = waiting.recv().await {
                let message_id = typed.message_id;
                let outcome = delivering.deliver(typed, at + PATIENCE).await;
                if tell.send((message_id, outcome)).await.is_err() {
                    return;
                }
            }
        });
        Self { open: Some(Open { typed, epochs }), outcomes, task }
    }

    /// Has a message sent.
    pub(super) fn send(&self, typed: Typed) {
        if let Some(open) = &self.open {
            // The other end goes after this one.
            _ = open.typed.send((typed, Instant::now()));
        }
    }

    /// Whether anything can be sent.
    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The session is in this life.
    pub(super) fn on_epoch(&self, epoch: Option<Epoch>) {
        let Some(Open { epochs, .. }) = &self.open else { return };
        epochs.send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
    }

    /// What became of the next message. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<(MessageId, Outcome)> {
        self.outcomes.recv().await
    }

    /// Nothing more can be sent, for the client has ended or is about to. [`Outbox::next`] says what became of the rest, and then
    /// that there is no more.
    pub(super) fn end(&mut self) {
        self.open = None;
    }

    /// Stops at once. What has no outcome is left without one.
    pub(super) fn stop(&mut self) {
        self.open = None;
        self.task.abort();
    }
}

impl Delivering {
    async fn deliver(&mut self, typed: Typed, deadline: Instant) -> Outcome {
        let Typed { message_id, message, sent, .. } = typed;
        // In which life it may have been taken, and why that is not known.
        let mut doubt = sent.map(|sent| (sent.epoch, Unknown::Restored));
        let mut refused_in = None;
        loop {
            let epoch = match timeout_at(deadline, self.another_life_than(refused_in)).await {
                Ok(Some(epoch)) => epoch,
                Ok(None) => return undelivered(doubt, NotDelivered::Closed),
                Err(_) => return undelivered(doubt, NotDelivered::Deadline),
            };
            if let Some((_, reason)) = doubt.filter(|(life, _)| *life != epoch) {
                return Outcome::Unknown { reason };
            }
            let send = Send { message: message.clone(), message_id: request(message_id), epoch: Some(epoch) };
            let response = match call(&send, deadline).and_then(|call| self.client.call(call)) {
                Ok(response) => response,
                Err(RpcMisuse::TooManyPending { .. } | RpcMisuse::QueueFull) => {
                    tokio::time::sleep(NO_ROOM).await;
                    continue;
                }
                Err(RpcMisuse::TooLarge { .. }) => return undelivered(doubt, NotDelivered::TooLarge),
                Err(_) => return undelivered(doubt, NotDelivered::Closed),
            };
            let failure = match response.await {
                Ok(_) => return Outcome::Delivered,
                Err(error) => error.failure,
            };
            match failure {
                Failure::Refused(error) if error.code == ANOTHER_LIFE => refused_in = Some(epoch),
                // What was taken before is not refused.
                Failure::Refused(error) => {
                    let code = Code::new(&error.code.to_string()).expect("a number is a code");
                    return Outcome::Rejected { code, reason: error.message };
                }
                Failure::NotDelivered(reason) if is_worth_another(reason) => {}
                Failure::NotDelivered(reason) => return undelivered(doubt, reason),
                Failure::NotSent(ApiMisuse::TooLarge { .. }) => return undelivered(doubt, NotDelivered::TooLarge),
                Failure::NotSent(_) => return undelivered(doubt, NotDelivered::Closed),
                Failure::Unknown(reason) => doubt = Some((epoch, reason)),
                Failure::EpochEnded => doubt = Some((epoch, Unknown::InHands)),
                Failure::Ended { .. } => return Outcome::Unknown { reason: Unknown::EpochEnded },
                Failure::Rejected { code } if doubt.is_none() => {
                    return Outcome::Rejected { code, reason: String::new() };
                }
                Failure::Rejected { .. }
                | Failure::TimedOut { .. }
                | Failure::Idle { .. }
                | Failure::Cancelled
                | Failure::BadResponse { .. }
                | _ => return Outcome::Unknown { reason: Unknown::Abandoned },
            }
        }
    }

    /// The life that the session is in, once it is known and is another one. `None` once nobody says any more.
    async fn another_life_than(&mut self, refused_in: Option<Epoch>) -> Option<Epoch> {
        *self.epochs.wait_for(|epoch| epoch.is_some() && *epoch != refused_in).await.ok()?
    }
}

fn call(send: &Send, deadline: Instant) -> Result<Call, RpcMisuse> {
    let params = Payload::new(send).expect("three strings are JSON");
    Ok(Call::new(SEND)?.with_params(params)?.within(deadline.saturating_duration_since(Instant::now())))
}

/// Whether the server lost its state before it came to a message: there may be another state by now.
const fn is_worth_another(reason: NotDelivered) -> bool {
    matches!(reason, NotDelivered::Forgotten | NotDelivered::Expired | NotDelivered::Shutdown)
}

/// This time it was certainly not taken.
fn undelivered(doubt: Option<(Epoch, Unknown)>, reason: NotDelivered) -> Outcome {
    match doubt {
        Some((_, reason)) => Outcome::Unknown { reason },
        None => Outcome::NotDelivered { reason },
    }
}
