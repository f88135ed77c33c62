//! A connection whose messages are of two types: what goes, and what comes.

use std::marker::PhantomData;

use reattach_core::error::ApiMisuse;
use reattach_core::link::Outgoing;
use reattach_core::wire::Payload;
use reattach_core::wire::PayloadError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::connection::Connection;
use crate::receipt::Receipt;
use crate::received::Received;

/// A connection whose messages are typed: it sends `Tx` and takes `Rx`. `C` is a [`Client`] or a [`Connection`], and everything
/// else about it is asked of [`Typed::inner`].
#[derive(Clone, Debug)]
pub struct Typed<C, Tx, Rx> {
    inner: C,
    types: PhantomData<fn(Tx) -> Rx>,
}

/// A message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It cannot be written as JSON.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The connection does not take it.
    #[error(transparent)]
    Misuse(#[from] ApiMisuse),
}

/// A message that came and is of the type that was asked for.
#[derive(Debug)]
pub struct TypedMessage<Rx> {
    /// What was sent.
    pub value: Rx,
    /// The message as it came, to decide about it.
    pub received: Received,
}

/// A message that came and is of another type. With automatic acceptance its sender was told that it was delivered, for it was;
/// with manual acceptance it is undecided, and [`Received::reject`] tells the sender.
#[derive(Debug, thiserror::Error)]
#[error("a message is not of the type that was asked for: {error}")]
pub struct Mistyped {
    /// What is wrong with it.
    pub error: PayloadError,
    /// The message as it came.
    pub received: Box<Received>,
}

impl<C, Tx, Rx> Typed<C, Tx, Rx> {
    /// The connection.
    pub const fn inner(&self) -> &C {
        &self.inner
    }

    /// The connection without its types.
    pub fn into_inner(self) -> C {
        self.inner
    }
}

fn read<Rx: DeserializeOwned>(received: Received) -> Result<TypedMessage<Rx>, Mistyped> {
    match received.payload().parse() {
        Ok(value) => Ok(TypedMessage { value, received }),
        Err(error) => Err(Mistyped { error, received: Box::new(received) }),
    }
}

fn write(value: &impl Serialize) -> Result<Outgoing, SendError> {
    Ok(Payload::new(value)?.into())
}

macro_rules! typed {
    ($connection:ident) => {
        impl $connection {
            /// The same connection with types for what goes and what comes.
            #[must_use]
            pub fn typed<Tx: Serialize, Rx: DeserializeOwned>(&self) -> Typed<Self, Tx, Rx> {
                Typed { inner: self.clone(), types: PhantomData }
            }
        }

        impl<Tx: Serialize, Rx: DeserializeOwned> Typed<$connection, Tx, Rx> {
            /// Sends a value, waiting for room in the outbox first. The receipt can be awaited for the one outcome.
            ///
            /// Cancel-safe: dropped before it returns, nothing was sent.
            ///
            /// # Errors
            ///
            /// [`SendError`].
            pub async fn send(&self, value: &Tx) -> Result<Receipt, SendError>
            where
                Tx: Sync,
            {
                let message = write(value)?;
                Ok(self.inner.send(message).await?)
            }

            /// Sends a value with what else a message has: a lane, a deadline, an id.
            ///
            /// Cancel-safe: dropped before it returns, nothing was sent.
            ///
            /// # Errors
            ///
            /// [`SendError`].
            pub async fn send_as(
                &self,
                value: &Tx,
                change: impl FnOnce(Outgoing) -> Outgoing + Send,
            ) -> Result<Receipt, SendError>
            where
                Tx: Sync,
            {
                let message = change(write(value)?);
                Ok(self.inner.send(message).await?)
            }

            /// Takes the next message. `None` once the connection has ended and everything was taken.
            ///
            /// Cancel-safe: dropped before it returns, no message was taken.
            ///
            /// # Errors
            ///
            /// [`Mistyped`], with the message, where it is of another type. The next one can be taken after it.
            pub async fn recv(&self) -> Option<Result<TypedMessage<Rx>, Mistyped>> {
                self.inner.recv().await.map(read)
            }
        }
    };
}

typed!(Client);
typed!(Connection);
