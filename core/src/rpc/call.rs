//! What an application asks for.

use alloc::string::String;
use alloc::sync::Arc;

use core::time::Duration;

use crate::rpc::error::MAX_DEPTH;
use crate::rpc::error::MAX_METHOD;
use crate::rpc::error::RpcMisuse;
use crate::rpc::text;
use crate::wire::Payload;
use crate::wire::is_deeper_than;

/// A request or a notification to be sent.
///
/// ```
/// use core::time::Duration;
/// use reattach_core::rpc::Call;
/// use reattach_core::wire::Payload;
///
/// let call = Call::new("prompt")?
///     .with_params(Payload::from_json(r#"{"text":"hi"}"#)?)?
///     .long()
///     .idle(Duration::from_secs(60));
/// # assert!(call.is_long && call.timeout.is_none());
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// What is to be done.
    pub(super) method: Arc<str>,
    /// With what: an array or an object.
    pub(super) params: Option<Payload>,
    /// Whether it takes long: then [`Config::long_timeout`](crate::rpc::Config::long_timeout) holds for it.
    pub is_long: bool,
    /// How long it may take in all; `None` leaves it to the configuration.
    pub timeout: Option<Duration>,
    /// How long nothing may be heard of it; `None` is as long as it may take in all.
    pub idle: Option<Duration>,
}

impl Call {
    /// A call of a method without parameters.
    ///
    /// # Errors
    ///
    /// [`RpcMisuse::Method`].
    pub fn new(method: impl Into<String>) -> Result<Self, RpcMisuse> {
        let method = method.into();
        let is_reserved = method.starts_with("rpc.") || method.starts_with("$/");
        if method.is_empty() || method.len() > MAX_METHOD || is_reserved {
            return Err(RpcMisuse::Method);
        }
        Ok(Self { method: method.into(), params: None, is_long: false, timeout: None, idle: None })
    }

    /// With parameters.
    ///
    /// # Errors
    ///
    /// [`RpcMisuse::Params`], [`RpcMisuse::TooDeep`].
    pub fn with_params(mut self, params: Payload) -> Result<Self, RpcMisuse> {
        if !text::is_structure(params.as_str()) {
            return Err(RpcMisuse::Params);
        }
        check_depth(&params)?;
        self.params = Some(params);
        Ok(self)
    }

    /// It takes long.
    #[must_use]
    pub const fn long(mut self) -> Self {
        self.is_long = true;
        self
    }

    /// It may take no longer than this in all.
    #[must_use]
    pub const fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Something has to be heard of it within this: its response, or progress, which starts it over. The time that it may take
    /// in all stays what it is.
    #[must_use]
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// What is to be done.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// With what.
    #[must_use]
    pub const fn params(&self) -> Option<&Payload> {
        self.params.as_ref()
    }
}

/// Whether a value is shallow enough for what it stands in.
pub(super) fn check_depth(value: &Payload) -> Result<(), RpcMisuse> {
    if is_deeper_than(value.as_str(), MAX_DEPTH) { Err(RpcMisuse::TooDeep) } else { Ok(()) }
}
