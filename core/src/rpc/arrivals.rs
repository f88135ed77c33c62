//! What came: each thing is taken in where it belongs.

use crate::rpc::Rpc;
use crate::rpc::error::ErrorObject;
use crate::rpc::error::Failure;
use crate::rpc::event::Channel;
use crate::rpc::event::Event;
use crate::rpc::id;
use crate::rpc::queue::Unsent;
use crate::rpc::serving::BatchNo;
use crate::rpc::text;
use crate::rpc::text::Item;
use crate::rpc::text::NoResult;
use crate::time::Instant;
use crate::wire::Fields;
use crate::wire::Payload;

impl Rpc {
    pub(super) fn on_item(&mut self, channel: Channel, item: Item<'_>, batch: Option<BatchNo>, now: Instant) {
        match item {
            Item::Request { .. } if channel == Channel::Responses => {
                self.note_malformed("a request stands among the answers");
            }
            // Nobody waits for the answer any more.
            Item::Request { .. } if self.ended.is_some() => {}
            Item::Request { id, method, params } => {
                let params = params.map(Payload::of_known_parts);
                if self.serving.ask(id, batch, method.into(), params) {
                    self.stats.served += 1;
                } else {
                    self.stats.duplicates += 1;
                }
            }
            Item::Notification { method, params } if method == text::CANCEL => self.on_cancel(params),
            Item::Notification { method, params } if method == text::PROGRESS => self.on_progress(params, now),
            Item::Notification { .. } if channel == Channel::Responses => {
                self.note_malformed("a notification stands among the answers");
            }
            Item::Notification { method, params } => {
                self.serving.notify(method.into(), params.map(Payload::of_known_parts));
            }
            Item::Response { id, result } => self.on_response(id, result),
            Item::Complaint(error) => {
                self.stats.malformed += 1;
                self.queue.tell(Event::Complaint { error });
            }
            Item::Stray(problem) => self.note_malformed(problem),
            Item::Invalid { id, problem } => match batch {
                Some(batch) => {
                    self.note_malformed(problem);
                    let error = ErrorObject::new(ErrorObject::INVALID_REQUEST, problem);
                    self.serving.answer_in(batch, text::response(id, Err(&error)));
                }
                None => self.complain(ErrorObject::INVALID_REQUEST, id, problem),
            },
        }
    }

    fn on_response(&mut self, id: &str, result: Result<&str, NoResult>) {
        let waiting = id::parse(id).filter(|id| self.pending.contains(*id));
        let Some(id) = waiting else { return self.stats.unmatched += 1 };
        match result {
            Ok(result) => {
                self.pending.end(id);
                self.stats.results += 1;
                self.queue.tell(Event::Finished { id, result: Ok(Payload::of_known_parts(result)) });
            }
            Err(NoResult::Error(error)) => self.fail(id, Failure::Refused(error)),
            Err(NoResult::Bad(problem)) => self.fail(id, Failure::BadResponse { problem }),
        }
    }

    /// Whoever sent a request does not wait for it any more.
    fn on_cancel(&mut self, params: Option<&str>) {
        let fields = params.and_then(|params| Fields::parse("the parameters", params).ok());
        let id = fields.as_ref().and_then(|fields| fields.raw("id").ok().flatten());
        let Some(id) = id else { return self.note_malformed("a cancellation names no request") };
        let Some(asked) = self.serving.find(id) else { return };
        if !self.serving.drop_alone(asked) {
            let error = ErrorObject::new(ErrorObject::REQUEST_CANCELLED, "it was cancelled");
            let answer = self.serving.answer(asked, |id| text::response(Some(id), Err(&error))).flatten();
            if let Some(payload) = answer {
                self.queue.push(Unsent::response(payload));
            }
        }
        self.queue.tell(Event::Abandoned { id: asked });
    }

    fn on_progress(&mut self, params: Option<&str>, now: Instant) {
        let fields = params.and_then(|params| Fields::parse("the parameters", params).ok());
        let token = fields.as_ref().and_then(|fields| fields.raw("token").ok().flatten());
        let value = fields.as_ref().and_then(|fields| fields.raw("value").ok().flatten());
        let (Some(token), Some(value)) = (token, value) else {
            return self.note_malformed("progress names no request, or holds no value");
        };
        match id::parse(token) {
            Some(id) if self.pending.touch(id, now) => {
                self.queue.tell(Event::Progress { id, value: Payload::of_known_parts(value) });
            }
            Some(_) | None => self.stats.unmatched += 1,
        }
    }

    pub(super) fn note_malformed(&mut self, problem: &'static str) {
        self.stats.malformed += 1;
        self.queue.tell(Event::Malformed { problem });
    }

    /// Tells the other side that it sent something that makes no sense. Such a word is a response and is never answered, so two
    /// sides cannot go on complaining to each other.
    pub(super) fn complain(&mut self, code: i64, id: Option<&str>, problem: &'static str) {
        self.note_malformed(problem);
        let error = ErrorObject::new(code, problem);
        self.say(Unsent::response(Payload::of_known_parts(&text::response(id, Err(&error)))));
    }
}
