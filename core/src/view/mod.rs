//! What people see of a session: whether it works, what became of what they sent, what is asked, what is said.
//!
//! [`SessionViews`] is told what happens and answers with one [`SessionView`] for each session. Two rules hold of every view:
//!
//! - **An error belongs to its message.** It goes when that message is delivered, or when something else is sent in its session.
//!   Nothing else takes it away: no event of another session or of none, and no reconnecting, which proves nothing.
//! - **A session that works shows no error, and one that shows an error does not work.** Whether it works is the server's to say.
//!   Until the server has said anything about what was sent, the view expects it, for a while; any error ends that. While the
//!   server works, errors are kept back, and counted.
//!
//! ```text
//!             sent while attached                  the server works
//!   Idle ------------------------> Expected ---------------------------> Running
//!    ^                                |                                     |
//!    |--- an error, or too long ------'                                     |
//!    '--- the server works no more, or has lost its state ------------------'
//! ```
//!
//! A client's events go in as they come:
//!
//! ```
//! use reattach_core::client::Event;
//! use reattach_core::view::SessionViews;
//!
//! fn tell(views: &mut SessionViews, event: &Event) {
//!     match event {
//!         Event::Attached { resumed } => views.handle_attached(*resumed),
//!         Event::Detached { .. } => views.handle_detached(),
//!         Event::Delivered { id } => views.handle_delivered(*id),
//!         Event::Delayed { id } => views.handle_delayed(*id),
//!         Event::SendFailed(failed) => views.handle_send_failed(failed),
//!         _ => {}
//!     }
//! }
//! ```

mod config;
mod event;
mod session;
mod views;

pub use self::config::ViewConfig;
pub use self::event::SendError;
pub use self::event::SendProblem;
pub use self::event::SessionView;
pub use self::views::SessionViews;
