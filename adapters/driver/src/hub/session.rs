//! A session, as the server's application holds it.

use std::time::Duration;

use reattach_core::id::ConnectionId;
use reattach_core::id::SessionId;
use reattach_core::messages::PermissionRequest;
use reattach_core::permission::PermissionMisuse;
use reattach_core::session::Cursor;
use reattach_core::session::Generation;
use reattach_core::session::Offset;
use reattach_core::session::Resume;
use reattach_core::session::SessionMisuse;
use reattach_core::wire::Payload;

use crate::hub::Hub;
use crate::hub::Question;
use crate::hub::log;

/// One session. Cheap to clone; it lasts until it is removed, whether or not anybody holds it.
#[derive(Clone, Debug)]
pub struct Session {
    hub: Hub,
    id: SessionId,
}

impl Session {
    pub(super) const fn new(hub: Hub, id: SessionId) -> Self {
        Self { hub, id }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &SessionId {
        &self.id
    }

    /// Tells everybody who watches. Returns the event's number. It is kept for who comes later, within the bounds of the log.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`], [`SessionMisuse::TooLarge`], [`SessionMisuse::TooDeep`].
    pub fn publish(&self, event: &Payload) -> Result<Offset, SessionMisuse> {
        self.hub.shared().change(|state, now| state.hub.publish(&self.id, event, now))
    }

    /// Says what everything up to now amounts to, for who comes when the log does not reach back far enough. A snapshot serves as
    /// long as the log keeps what comes after it: renew it at least that often.
    ///
    /// # Errors
    ///
    /// As [`Session::publish`].
    pub fn set_snapshot(&self, snapshot: Payload) -> Result<(), SessionMisuse> {
        self.hub.shared().change(|state, _| state.hub.set_snapshot(&self.id, snapshot))
    }

    /// Asks the people who watch, and those who come to watch while it is open. The first valid answer decides; without one within
    /// the configured time (300 s) it is denied.
    ///
    /// # Errors
    ///
    /// [`PermissionMisuse`]. Nobody was asked then.
    pub fn ask(&self, request: PermissionRequest) -> Result<Question, PermissionMisuse> {
        self.ask_within(request, None)
    }

    /// The same with a time of its own.
    ///
    /// # Errors
    ///
    /// As [`Session::ask`].
    pub fn ask_within(
        &self,
        request: PermissionRequest,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Question, PermissionMisuse> {
        let (id, timeout) = (request.id.clone(), timeout.into());
        let (question, promise) = Question::new(id.clone(), self.hub.shared().clone());
        let asked = self.hub.shared().change(|state, now| {
            state.hub.ask(&self.id, request, timeout, now)?;
            state.verdicts.insert(id.clone(), promise);
            if state.is_closed {
                // Nobody keeps the time any more.
                _ = state.hub.cancel(&id, now);
            }
            Ok(())
        });
        match asked {
            Ok(()) => {
                log::asked(&self.id, &id);
                Ok(question)
            }
            Err(misuse) => {
                // One of the same name may be open, which is not this one's to take back.
                question.forget();
                Err(misuse)
            }
        }
    }

    /// Makes a connection the owner, whoever was before.
    ///
    /// # Errors
    ///
    /// As [`reattach_core::session::Sessions::own`].
    pub fn own(&self, connection: ConnectionId) -> Result<Generation, SessionMisuse> {
        self.hub.shared().change(|state, _| state.hub.sessions_mut().own(connection, &self.id))
    }

    /// A connection begins to take the session up, which takes a while: see
    /// [`Sessions::begin_resume`](reattach_core::session::Sessions::begin_resume).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn begin_resume(&self, connection: ConnectionId) -> Result<Resume, SessionMisuse> {
        self.hub.shared().change(|state, _| state.hub.sessions_mut().begin_resume(connection, &self.id))
    }

    /// The session was taken up.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`]; [`SessionMisuse::UnknownConnection`] where the connection is gone.
    pub fn finish_resume(&self, resume: Resume) -> Result<Generation, SessionMisuse> {
        self.hub.shared().change(|state, _| state.hub.sessions_mut().finish_resume(resume))
    }

    /// Taking the session up failed, or was given up.
    pub fn fail_resume(&self, resume: Resume) {
        self.hub.shared().change(|state, _| state.hub.sessions_mut().fail_resume(resume));
    }

    /// Where its log stands now: behind the newest event, in this life of the session. `None` once it has ended.
    #[must_use]
    pub fn end(&self) -> Option<Cursor> {
        self.hub.shared().lock().hub.sessions().log(&self.id).map(reattach_core::session::Log::end)
    }

    /// The connection that owns it.
    #[must_use]
    pub fn owner(&self) -> Option<ConnectionId> {
        let state = self.hub.shared().lock();
        state.hub.sessions().ownership(&self.id).and_then(reattach_core::session::Ownership::owner)
    }

    /// How many connections watch, those included that cannot be reached at the moment.
    #[must_use]
    pub fn observers(&self) -> usize {
        self.hub.shared().lock().hub.sessions().observers(&self.id)
    }

    /// How many of them can be reached now.
    #[must_use]
    pub fn reachable(&self) -> usize {
        self.hub.shared().lock().hub.sessions().reachable(&self.id).count()
    }

    /// Ends the session. Whoever watches is told, and its questions are denied.
    ///
    /// # Errors
    ///
    /// [`SessionMisuse::UnknownSession`].
    pub fn remove(&self) -> Result<(), SessionMisuse> {
        self.hub.shared().change(|state, now| state.hub.remove(&self.id, now))
    }
}
