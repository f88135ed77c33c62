//! TLS, over any stream and on any runtime: rustls, with a crypto provider that is named and never guessed.
//!
//! rustls panics where a program links no provider, or two, and asks for "the" one. So each configuration here names its own:
//! the one of the feature `rustls-ring` or `rustls-aws-lc-rs`; where both are on, `aws-lc-rs`, as rustls itself prefers.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;

use futures_rustls::TlsAcceptor;
use futures_rustls::TlsConnector;
use reattach_core::reconnect::Insecure;
use reattach_core::reconnect::OpenError;
use rustls::CertificateError;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::client::ClientConfig;
use crate::runtime::Io;
use crate::server::ServerConfig;
use crate::targets;

/// What is wrong with what TLS was given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// It is not PEM (RFC 7468), or a key in it is of no known kind.
    #[error("the {what} cannot be read as PEM: {problem}")]
    Pem {
        /// What was read: certificates, or the key.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no certificate in it.
    #[error("there is no certificate in the PEM")]
    NoCertificate,
    /// A certificate or the key cannot be used, or they do not belong together.
    #[error("the certificate or the key cannot be used: {0}")]
    Unusable(rustls::Error),
    /// The certificates that the system trusts cannot be had.
    #[error("the certificates that the system trusts cannot be had: {0}")]
    Platform(rustls::Error),
}

/// Whom a client trusts to be the server it dials, and with which version and ciphers it speaks.
///
/// Default, without one: [`ClientTls::platform`].
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<rustls::ClientConfig>);

impl ClientTls {
    /// Whom the system trusts.
    ///
    /// # Errors
    ///
    /// [`TlsError::Platform`] where the system does not say.
    pub fn platform() -> Result<Self, TlsError> {
        static PLATFORM: OnceLock<ClientTls> = OnceLock::new();
        if let Some(platform) = PLATFORM.get() {
            return Ok(platform.clone());
        }
        let config = versions(rustls::ClientConfig::builder_with_provider(provider()))
            .with_platform_verifier()
            .map_err(TlsError::Platform)?
            .with_no_client_auth();
        // Reading the system's certificates takes milliseconds, and they hold for every client.
        Ok(PLATFORM.get_or_init(|| Self(Arc::new(config))).clone())
    }

    /// Whoever one of these certificates has signed (PEM), and nobody else.
    ///
    /// # Errors
    ///
    /// [`TlsError`] where there is no certificate that could be used.
    pub fn with_roots(certificates: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in chain(certificates)? {
            roots.add(certificate).map_err(TlsError::Unusable)?;
        }
        let config = versions(rustls::ClientConfig::builder_with_provider(provider()))
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// A configuration of the caller's own: client certificates, other verifiers, another provider.
    #[must_use]
    pub const fn with_config(config: Arc<rustls::ClientConfig>) -> Self {
        Self(config)
    }

    /// Does the client's half of the handshake.
    pub(crate) async fn connect(&self, host: &str, io: Box<dyn Io>) -> Result<Box<dyn Io>, OpenError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| OpenError::Insecure(Insecure::WrongName))?;
        match TlsConnector::from(Arc::clone(&self.0)).connect(name, io).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                tracing::debug!(target: targets::SOCKET, %error, "no secure channel");
                Err(open_error(&error))
            }
        }
    }
}

impl ClientConfig {
    /// Whom to trust behind `wss://`. Without it: [`ClientTls::platform`].
    #[must_use]
    pub fn with_tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }
}

/// Who a server says it is.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<rustls::ServerConfig>);

impl ServerTls {
    /// A chain of certificates, the server's own first, and its private key (PKCS #8, PKCS #1 or SEC1), both in PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`] where they cannot be read or do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| TlsError::Pem { what: "key", problem: error.to_string() })?;
        let config = versions(rustls::ServerConfig::builder_with_provider(provider()))
            .with_no_client_auth()
            .with_single_cert(chain(certificates)?, key)
            .map_err(TlsError::Unusable)?;
        Ok(Self(Arc::new(config)))
    }

    /// A configuration of the caller's own: client certificates, several names, another provider.
    #[must_use]
    pub const fn with_config(config: Arc<rustls::ServerConfig>) -> Self {
        Self(config)
    }

    /// Does the server's half of the handshake.
    pub(crate) async fn accept(&self, io: Box<dyn Io>) -> io::Result<Box<dyn Io>> {
        Ok(Box::new(TlsAcceptor::from(Arc::clone(&self.0)).accept(io).await?))
    }
}

impl ServerConfig {
    /// Speak TLS on every stream, and nothing else.
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }
}

#[cfg(feature = "rustls-aws-lc-rs")]
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(not(feature = "rustls-aws-lc-rs"))]
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn versions<S: rustls::ConfigSide>(
    builder: rustls::ConfigBuilder<S, rustls::WantsVersions>,
) -> rustls::ConfigBuilder<S, rustls::WantsVerifier> {
    builder.with_safe_default_protocol_versions().expect("the provider has the ciphers of TLS 1.2 and 1.3")
}

fn chain(certificates: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error: pem::Error| TlsError::Pem { what: "certificates", problem: error.to_string() };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
    match chain.map_err(unreadable)? {
        empty if empty.is_empty() => Err(TlsError::NoCertificate),
        chain => Ok(chain),
    }
}

/// What a handshake that failed means. What is not TLS's own fault may go away by itself.
pub(crate) fn open_error(error: &io::Error) -> OpenError {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return OpenError::Unreachable;
    };
    OpenError::Insecure(insecure(error))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors are open-ended")]
fn insecure(error: &rustls::Error) -> Insecure {
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Insecure::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Insecure::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Insecure::WrongName,
            CertificateError::UnknownIssuer => Insecure::UnknownIssuer,
            CertificateError::Revoked => Insecure::Revoked,
            _ => Insecure::BadCertificate,
        },
        rustls::Error::AlertReceived(_) | rustls::Error::PeerIncompatible(_) => Insecure::Refused,
        _ => Insecure::Protocol,
    }
}
