//! Answers that come in pieces: collected where people read them, and told to their end where they are written.
//!
//! [`ChatStreams`] collects. Each stream has one end, and nothing is added after it; what belongs to no stream that is known
//! changes nothing, and is named. [`StreamWriter`] writes one stream, and gives its end away once. Neither knows a connection:
//! the lane of a session keeps the order of its pieces and loses none of them, so a stream that was cut in its middle goes on
//! where it stood.

mod config;
mod event;
mod streams;
mod writer;

pub use self::config::ChatConfig;
pub use self::event::ChatMisuse;
pub use self::event::Ended;
pub use self::event::Received;
pub use self::event::StreamKey;
pub use self::streams::ChatStreams;
pub use self::streams::Stream;
pub use self::writer::StreamWriter;
