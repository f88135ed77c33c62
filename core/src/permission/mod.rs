//! Questions to people, each with one answer.
//!
//! The [`Broker`] stands where the program is that asks: the first valid answer wins, the others learn who won and what; a
//! question that nobody answers in time is denied. The [`Dialogs`] stand where people are: a dialog is shown until the broker has
//! confirmed what became of it, and an answer that did not arrive can be given again.
//!
//! Neither knows a connection. What the broker says goes to all who watch the session; an answer goes to the broker as a request,
//! and what comes back confirms it.

mod broker;
mod config;
mod dialogs;
mod event;
mod stats;

pub use self::broker::Broker;
pub use self::config::BrokerConfig;
pub use self::config::DialogsConfig;
pub use self::dialogs::Dialog;
pub use self::dialogs::Dialogs;
pub use self::dialogs::Status;
pub use self::event::AnswerError;
pub use self::event::AnswerFailed;
pub use self::event::Answered;
pub use self::event::BrokerOutput;
pub use self::event::DenyReason;
pub use self::event::DialogMisuse;
pub use self::event::DialogOutput;
pub use self::event::MAX_DEPTH;
pub use self::event::PermissionMisuse;
pub use self::event::Removed;
pub use self::event::Verdict;
pub use self::stats::BrokerStats;
pub use self::stats::DialogsStats;
