//! The questions, in words.

use std::collections::BTreeMap;

use reattach_tokio::SessionWatch;
use reattach_tokio::core::messages::Choice;
use reattach_tokio::core::messages::PermissionId;
use reattach_tokio::core::permission::DialogMisuse;
use reattach_tokio::core::permission::Removed;
use reattach_tokio::core::permission::Status;

/// What was answered here.
#[derive(Debug, Default)]
pub(super) struct Questions {
    answered: BTreeMap<PermissionId, Choice>,
}

/// Why something was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unanswerable {
    /// No question is open.
    NoneOpen,
    /// Several are, and it was not said which is meant.
    Which(Vec<String>),
    /// None is called so.
    Unknown(String),
    /// It cannot be answered now.
    Misuse(DialogMisuse),
}

impl Questions {
    /// A dialog is new, or has changed. Returns what to say about it.
    pub(super) fn on_dialog(watch: &SessionWatch, id: &PermissionId) -> Option<String> {
        match &watch.dialogs().get(id)?.status {
            Status::Pending => Some(question(watch, id)),
            Status::Sending { .. } => None,
            Status::Retrying { retry, .. } => {
                Some(format!("{id}: no confirmation; the answer is sent again ({retry})"))
            }
            Status::Failed { .. } => Some(format!("{id}: nobody can tell whether the answer arrived; answer again")),
        }
    }

    /// A dialog is no longer there. Returns what to say about it.
    pub(super) fn on_removed(&mut self, me: &str, id: &PermissionId, why: &Removed) -> String {
        let own = self.answered.remove(id).map(|choice| done(choice.is_allow()));
        match (why, own) {
            (Removed::Confirmed(choice), _) => format!("{id}: {} by you", done(choice.is_allow())),
            (Removed::Decided { is_allowed, by }, own) => {
                let by = by.as_deref().map_or("somebody", |by| if by == me { "you" } else { by });
                let late = own.map(|own| format!("; your answer ({own}) came second")).unwrap_or_default();
                format!("{id}: {} by {by}{late}", done(*is_allowed))
            }
            (Removed::TimedOut, _) => format!("{id}: nobody answered in time, so it was denied"),
            (Removed::Cancelled, _) => format!("{id}: called off"),
            (Removed::Forgotten, Some(own)) => {
                format!("{id}: no longer open; nobody can tell whether your answer ({own}) was taken")
            }
            (Removed::Forgotten, None) => format!("{id}: no longer open"),
            (Removed::Forbidden, _) => format!("{id}: not yours to answer"),
            (why, _) => format!("{id}: gone ({why:?})"),
        }
    }

    /// Answers the question of this name, or of the only one that begins so; without a name, the only one that is open.
    pub(super) fn answer(
        &mut self,
        watch: &mut SessionWatch,
        named: Option<&str>,
        choice: Choice,
    ) -> Result<(), Unanswerable> {
        let open: Vec<_> = watch.dialogs().dialogs().into_iter().map(|(id, _)| id.clone()).collect();
        let is_meant = |id: &&PermissionId| named.is_none_or(|named| id.as_str().starts_with(named));
        let exact = open.iter().find(|id| Some(id.as_str()) == named);
        let meant: Vec<_> = exact.map_or_else(|| open.iter().filter(is_meant).collect(), |id| vec![id]);
        let id = match (meant.as_slice(), named) {
            ([id], _) => PermissionId::clone(id),
            ([], None) => return Err(Unanswerable::NoneOpen),
            ([], Some(named)) => return Err(Unanswerable::Unknown(named.to_owned())),
            (several, _) => return Err(Unanswerable::Which(several.iter().map(ToString::to_string).collect())),
        };
        watch.answer(&id, choice.clone()).map_err(Unanswerable::Misuse)?;
        self.answered.insert(id, choice);
        Ok(())
    }

    /// All that are open, in words.
    pub(super) fn list(watch: &SessionWatch) -> Vec<String> {
        watch.dialogs().dialogs().into_iter().map(|(id, _)| question(watch, id)).collect()
    }
}

/// A question, in words.
fn question(watch: &SessionWatch, id: &PermissionId) -> String {
    let Some(dialog) = watch.dialogs().get(id) else { return format!("{id}: no longer open") };
    let (tool, input) = (&dialog.request.tool_name, dialog.request.input.as_str());
    let stands = match &dialog.status {
        Status::Pending => "/allow, /deny, or /edit with another input",
        Status::Sending { .. } | Status::Retrying { .. } => "the answer is on its way",
        Status::Failed { .. } => "nobody can tell whether the answer arrived; answer again",
    };
    format!("{id}: may {tool} do this? {input} ({stands})")
}

const fn done(is_allowed: bool) -> &'static str {
    if is_allowed { "allowed" } else { "denied" }
}

impl std::fmt::Display for Unanswerable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoneOpen => f.write_str("no question is open"),
            Self::Which(several) => write!(f, "which? {}", several.join(", ")),
            Self::Unknown(id) => write!(f, "no question is open that is called {id}; /dialogs lists them"),
            Self::Misuse(misuse) => write!(f, "not answered: {misuse}"),
        }
    }
}

impl std::error::Error for Unanswerable {}
