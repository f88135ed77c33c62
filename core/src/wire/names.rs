//! The type strings of the frames, each in one place (S002-09), and the header that the hot path looks for.

/// The key that holds the type.
pub(super) const TYPE: &str = "t";

pub(super) const HELLO: &str = "hello";
pub(super) const CHALLENGE: &str = "challenge";
pub(super) const WELCOME: &str = "welcome";
pub(super) const MESSAGE: &str = "msg";
pub(super) const VOID: &str = "void";
pub(super) const ACK: &str = "ack";
pub(super) const PING: &str = "ping";
pub(super) const PONG: &str = "pong";
pub(super) const BYE: &str = "bye";

/// How a reliable message starts when written by this crate.
pub(super) const MESSAGE_HEADER: &str = concat!("{\"t\":\"", "msg", "\",\"seq\":");
/// The rest of its envelope, in the order in which this crate writes it.
pub(super) const ID_HEADER: &str = ",\"id\":\"";
pub(super) const LANE_HEADER: &str = ",\"lane\":\"";
pub(super) const IDEMPOTENT_HEADER: &str = ",\"idem\":true";
pub(super) const HANDS_HEADER: &str = ",\"hands\":";
/// How an `ack` starts when written by this crate, and the rest of it where nothing is listed.
pub(super) const ACK_HEADER: &str = concat!("{\"t\":\"", "ack", "\",\"received\":");
pub(super) const SETTLED_HEADER: &str = ",\"settled\":";
pub(super) const NO_HEADER: &str = ",\"no\":";
pub(super) const SEEN_HEADER: &str = ",\"seen\":";
/// What stands between the envelope and the payload.
pub(super) const PAYLOAD_HEADER: &str = ",\"d\":";
