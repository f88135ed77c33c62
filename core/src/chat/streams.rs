//! Where streams are collected.
//!
//! ```text
//!  begin ---> open ---- piece ----> open
//!              |------- end ------> ended as told       |
//!              |------- no room --> ended, too long     |  and nothing is added after that
//!              '------- lost -----> ended, lost         |
//! ```

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::chat::config::ChatConfig;
use crate::chat::event::ChatMisuse;
use crate::chat::event::Ended;
use crate::chat::event::Received;
use crate::chat::event::StreamKey;
use crate::id::SessionId;
use crate::messages::ChatStream;
use crate::messages::StreamEnd;

/// The streams that are collected.
///
/// They are values: a clone, or what [`ChatStreams::take`] gives and [`ChatStreams::put`] takes, goes on in the middle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChatStreams {
    config: ChatConfig,
    /// With the order in which they began.
    streams: BTreeMap<StreamKey, (u64, Stream)>,
    begun: u64,
    /// What all of them hold.
    bytes: usize,
    /// How many went to make room for others.
    dropped: u64,
}

/// What has come of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stream {
    text: String,
    end: Option<Ended>,
}

/// The longest words for people that are kept of an end, in bytes.
const MAX_ERROR: usize = 4 * 1024;

impl Stream {
    /// A stream that is open and of which this has come.
    #[must_use]
    pub const fn open(text: String) -> Self {
        Self { text, end: None }
    }

    /// What has come of the text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How it has ended; nothing while more is expected.
    #[must_use]
    pub const fn end(&self) -> Option<&Ended> {
        self.end.as_ref()
    }

    fn bytes(&self) -> usize {
        let error = match &self.end {
            Some(Ended::Told(StreamEnd::Failed { error })) => error.len(),
            Some(Ended::Told(StreamEnd::Complete | StreamEnd::Interrupted) | Ended::TooLong | Ended::Lost) | None => 0,
        };
        self.text.len() + error
    }
}

impl ChatStreams {
    /// None.
    #[must_use]
    pub const fn new(config: ChatConfig) -> Self {
        Self { config, streams: BTreeMap::new(), begun: 0, bytes: 0, dropped: 0 }
    }

    /// A stream is expected: a request was sent, or a message begins. Where there is no room the oldest that has ended goes, and
    /// then the oldest of which nothing has come.
    ///
    /// # Errors
    ///
    /// [`ChatMisuse::Open`]; [`ChatMisuse::Ended`] where the request has had its answer; [`ChatMisuse::TooMany`].
    pub fn begin(&mut self, key: StreamKey) -> Result<(), ChatMisuse> {
        self.put(key, Stream::default())
    }

    /// Puts a stream that began elsewhere: in an older life of this side, or in a snapshot. It goes on where it stands.
    ///
    /// # Errors
    ///
    /// As [`ChatStreams::begin`], and [`ChatMisuse::TooLong`].
    pub fn put(&mut self, key: StreamKey, stream: Stream) -> Result<(), ChatMisuse> {
        match self.streams.get(&key) {
            Some((_, Stream { end: None, .. })) => return Err(ChatMisuse::Open),
            Some((_, Stream { end: Some(_), .. })) if key.in_reply_to.is_some() => return Err(ChatMisuse::Ended),
            Some((_, Stream { end: Some(_), .. })) | None => {}
        }
        let open = self.streams.values().filter(|(_, stream)| !has_ended(stream));
        let open_bytes = open.map(|(_, stream)| stream.bytes()).sum();
        let limit = self.config.max_stream_bytes.min(self.config.max_bytes.saturating_sub(open_bytes));
        if stream.bytes() > limit {
            return Err(ChatMisuse::TooLong { limit });
        }
        let is_replaced = self.take(&key).is_some();
        let is_full = !is_replaced && self.streams.len() >= self.config.max_streams;
        if is_full && !self.drop_oldest(has_ended) && !self.drop_oldest(is_unbegun) {
            return Err(ChatMisuse::TooMany { limit: self.config.max_streams });
        }
        self.make_room(stream.bytes());
        self.begun += 1;
        self.bytes += stream.bytes();
        self.streams.insert(key, (self.begun, stream));
        Ok(())
    }

    /// Takes a stream out, as far as it has come. Nothing more is taken for it.
    pub fn take(&mut self, key: &StreamKey) -> Option<Stream> {
        let (_, stream) = self.streams.remove(key)?;
        self.bytes -= stream.bytes();
        Some(stream)
    }

    /// Drops all streams of a session.
    pub fn forget(&mut self, session: &SessionId) {
        for key in self.keys(session, |_| true) {
            self.take(&key);
        }
    }

    /// Takes in a message of a stream. One that names no request belongs to the only stream that is open in its session.
    pub fn handle_message(&mut self, message: &ChatStream) -> Received {
        let key = match self.find(StreamKey::of(message)) {
            Ok(key) => key,
            Err(received) => return received,
        };
        let added = self.add(&key, &message.delta);
        match &message.end {
            Some(end) if added == Received::Added => self.end(&key, Ended::Told(end.clone())),
            Some(_) | None => added,
        }
    }

    /// Takes in a piece of the only stream that is open in a session.
    pub fn handle_piece(&mut self, session: &SessionId, delta: &str) -> Received {
        match self.find(StreamKey { session: session.clone(), in_reply_to: None }) {
            Ok(key) => self.add(&key, delta),
            Err(received) => received,
        }
    }

    /// Ends the streams that are open in a session. Returns how many were.
    pub fn handle_session_ended(&mut self, session: &SessionId, ended: &Ended) -> usize {
        let open = self.keys(session, |stream| stream.end.is_none());
        open.iter().filter(|key| self.end(key, ended.clone()) == Received::Ended).count()
    }

    /// The writers have lost their state: every stream that is open ends, for nobody goes on with it.
    pub fn handle_lost(&mut self) {
        for (_, stream) in self.streams.values_mut() {
            stream.end.get_or_insert(Ended::Lost);
        }
    }

    /// A stream.
    #[must_use]
    pub fn get(&self, key: &StreamKey) -> Option<&Stream> {
        self.streams.get(key).map(|(_, stream)| stream)
    }

    /// The streams of a session, in the order in which they began, each with its number: the later, the higher.
    #[must_use]
    pub fn of_session(&self, session: &SessionId) -> Vec<(u64, &StreamKey, &Stream)> {
        let from = StreamKey { session: session.clone(), in_reply_to: None };
        let of_session = self.streams.range(from..).take_while(|(key, _)| key.session == *session);
        let mut streams: Vec<_> = of_session.map(|(key, (number, stream))| (*number, key, stream)).collect();
        streams.sort_unstable_by_key(|(number, _, _)| *number);
        streams
    }

    /// How many streams are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// How many bytes they hold.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many streams went to make room for others.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The stream that a message belongs to, which is open.
    fn find(&self, key: StreamKey) -> Result<StreamKey, Received> {
        match self.get(&key) {
            Some(Stream { end: None, .. }) => return Ok(key),
            Some(Stream { end: Some(_), .. }) if key.in_reply_to.is_some() => return Err(Received::AfterEnd),
            None if key.in_reply_to.is_some() => return Err(Received::Unknown),
            Some(Stream { end: Some(_), .. }) | None => {}
        }
        let mut open = self.keys(&key.session, |stream| stream.end.is_none());
        match (open.pop(), open.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(_), false) => Err(Received::Ambiguous),
            (None, _) if self.keys(&key.session, |_| true).is_empty() => Err(Received::Unknown),
            (None, _) => Err(Received::AfterEnd),
        }
    }

    fn keys(&self, session: &SessionId, is_wanted: impl Fn(&Stream) -> bool) -> Vec<StreamKey> {
        let of_session = self.of_session(session).into_iter();
        of_session.filter(|(_, _, stream)| is_wanted(stream)).map(|(_, key, _)| key.clone()).collect()
    }

    fn add(&mut self, key: &StreamKey, delta: &str) -> Received {
        let Some((_, stream)) = self.streams.get(key) else { return Received::Unknown };
        // A text with a hole in it would say something that nobody has said: it ends where there is no room.
        let fits = stream.text.len() + delta.len() <= self.config.max_stream_bytes && self.make_room(delta.len());
        let Some((_, stream)) = self.streams.get_mut(key) else { return Received::Unknown };
        if !fits {
            stream.end = Some(Ended::TooLong);
            return Received::TooLong;
        }
        stream.text.push_str(delta);
        self.bytes += delta.len();
        Received::Added
    }

    fn end(&mut self, key: &StreamKey, mut ended: Ended) -> Received {
        if let Ended::Told(StreamEnd::Failed { error }) = &mut ended {
            let end = (0..=MAX_ERROR.min(error.len())).rev().find(|at| error.is_char_boundary(*at));
            error.truncate(end.unwrap_or(0));
            if !self.make_room(error.len()) {
                error.clear();
            }
        }
        let Some((_, stream)) = self.streams.get_mut(key) else { return Received::Unknown };
        stream.end = Some(ended);
        self.bytes += stream.bytes() - stream.text.len();
        Received::Ended
    }

    /// Makes room for so many bytes more, at the cost of the oldest streams that have ended. Whether there is some.
    fn make_room(&mut self, bytes: usize) -> bool {
        let ended = self.streams.values().filter(|(_, stream)| has_ended(stream));
        let to_gain = ended.map(|(_, stream)| stream.bytes()).sum::<usize>();
        if self.bytes - to_gain + bytes > self.config.max_bytes {
            return false;
        }
        while self.bytes + bytes > self.config.max_bytes && self.drop_oldest(has_ended) {}
        true
    }

    /// Drops the oldest stream of a kind. Whether there was one.
    fn drop_oldest(&mut self, is_wanted: fn(&Stream) -> bool) -> bool {
        let wanted = self.streams.iter().filter(|(_, (_, stream))| is_wanted(stream));
        let oldest = wanted.min_by_key(|(_, (number, _))| *number).map(|(key, _)| key.clone());
        let is_dropped = oldest.is_some_and(|key| self.take(&key).is_some());
        self.dropped += u64::from(is_dropped);
        is_dropped
    }
}

const fn has_ended(stream: &Stream) -> bool {
    stream.end.is_some()
}

fn is_unbegun(stream: &Stream) -> bool {
    stream.end.is_none() && stream.text.is_empty()
}
