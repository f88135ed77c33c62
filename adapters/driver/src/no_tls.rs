//! In place of TLS where the program was built without it: nobody has any of these types.

use std::io;

use reattach_core::reconnect::OpenError;

use crate::runtime::Io;

/// There is no TLS.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this program was built without; the features rustls-ring and rustls-aws-lc-rs bring it")]
pub(crate) struct TlsError;

#[derive(Clone, Debug)]
pub(crate) enum ClientTls {}

impl ClientTls {
    pub(crate) const fn platform() -> Result<Self, TlsError> {
        Err(TlsError)
    }

    #[expect(clippy::unused_async, reason = "it stands for one that waits")]
    pub(crate) async fn connect(&self, _: &str, _: Box<dyn Io>) -> Result<Box<dyn Io>, OpenError> {
        match *self {}
    }
}

/// What a stream that failed means.
pub(crate) const fn open_error(_: &io::Error) -> OpenError {
    OpenError::Unreachable
}

#[derive(Clone, Debug)]
pub(crate) enum ServerTls {}

impl ServerTls {
    #[expect(clippy::unused_async, reason = "it stands for one that waits")]
    pub(crate) async fn accept(&self, _: Box<dyn Io>) -> io::Result<Box<dyn Io>> {
        match *self {}
    }
}
