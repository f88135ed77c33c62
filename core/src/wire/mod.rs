//! The wire: frames as values, and as text. `PROTOCOL.md` beside the crate's manifest is the precise description.
//!
//! One frame is one compact JSON object; a WebSocket message carries one frame or several, separated by line breaks.
//! Reading is strict where a value matters and indifferent where it does not: unknown keys and unknown frame types are
//! ignored, so that later versions can add to them.

mod close;
mod decode;
mod encode;
mod fields;
mod frame;
mod names;
mod payload;
mod version;

pub use self::close::CloseCode;
pub use self::decode::MAX_REASON;
pub use self::decode::decode;
pub use self::decode::decode_generally;
pub use self::decode::next_line;
pub use self::encode::MESSAGE_OVERHEAD;
pub use self::encode::ephemeral as encode_ephemeral;
pub(crate) use self::encode::push_string;
pub use self::encode::separate;
pub use self::fields::DecodeError;
pub(crate) use self::fields::Fields;
pub use self::fields::Problem;
pub use self::frame::Ack;
pub use self::frame::Bye;
pub use self::frame::Challenge;
pub use self::frame::DEFAULT_HANDS;
pub use self::frame::Disposition;
pub use self::frame::Ephemeral;
pub use self::frame::Exception;
pub use self::frame::Frame;
pub use self::frame::Hello;
pub use self::frame::Limits;
pub use self::frame::MAX_HANDS;
pub use self::frame::MAX_WINDOW;
pub use self::frame::Message;
pub use self::frame::Ping;
pub use self::frame::Pong;
pub use self::frame::Receipt;
pub use self::frame::Report;
pub use self::frame::Token;
pub use self::frame::Void;
pub use self::frame::Welcome;
pub use self::payload::MAX_DEPTH;
pub use self::payload::Payload;
pub use self::payload::PayloadError;
pub use self::payload::UncheckedPayload;
pub(crate) use self::payload::is_deeper_than;
pub use self::version::SUBPROTOCOL;

/// The largest frame that is not a `msg`, in bytes: a hello with the longest token and a full list of exceptions. It is also
/// the most that an adapter should read before a hello was accepted.
pub const MAX_CONTROL_FRAME: usize = 128 * 1024;
