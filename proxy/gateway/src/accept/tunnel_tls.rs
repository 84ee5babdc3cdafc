//! The TLS handshake with a client in its tunnel, in the name of the destination.

use std::{io, sync::Arc};

use countersign_config::host::Host;
use countersign_core::{
    budget::Purse, destination::Authority, reason::Reason, tls_error, wire::meter::Overrun,
};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{AcceptContext, metered::Metered};
use crate::{ca::CaError, refusal::Refusal};

/// A handshake that is to be made.
pub(super) struct TunnelTls<'t> {
    /// What all listeners share.
    pub(super) context: &'t AcceptContext,
    /// The authority in CONNECT, or in SNI. It was decided that it is decrypted.
    pub(super) authority: &'t Authority,
    /// The memory that the tunnel takes.
    pub(super) purse: &'t Arc<Purse>,
}

/// A client's stream once it is decrypted. It is boxed because a TLS session has more than a kilobyte and is moved
/// several times.
pub(super) type Decrypted<IO> = Box<TlsStream<Metered<IO>>>;

impl TunnelTls<'_> {
    /// The stream, and whether SNI names another host than CONNECT did.
    pub(super) async fn greet<IO>(&self, stream: IO) -> Result<(Decrypted<IO>, bool), Refusal>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let limit = self.context.limits.handshake_timeout;
        // Boxed, so that the future of the connection does not hold the handshake's.
        let handshake = Box::pin(self.handshake(stream));
        tokio::time::timeout(limit, handshake)
            .await
            .unwrap_or_else(|_| {
                let detail =
                    format!("the client did not finish the TLS handshake within {limit:?}");
                Err(Refusal::new(Reason::ClientTls, detail))
            })
    }

    async fn handshake<IO>(&self, stream: IO) -> Result<(Decrypted<IO>, bool), Refusal>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = Metered::new(stream, self.purse);
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
            .await
            .map_err(|error| client_tls(&error))?;
        let hello = start.client_hello();
        // Without SNI, the name in CONNECT is the only one.
        let fronted = hello
            .server_name()
            .is_some_and(|name| Host::parse(name).ok().as_ref() != Some(self.authority.host()));
        let leaf = self.context.ca.leaf_in_time(self.authority.host()).await;
        let config = leaf.map_err(|error| {
            let reason = match &error {
                CaError::NotSigned(_) => Reason::InterceptionUnavailable,
                _ => Reason::Internal,
            };
            Refusal::new(reason, format!("no certificate: {error}"))
        })?;
        let mut stream = start.into_stream(config).await.map_err(|error| {
            // A client that fronted wants the certificate of another host.
            let refused = self.refused_leaf(&error).filter(|_| !fronted);
            refused.unwrap_or_else(|| self.no_handshake(&error))
        })?;
        stream.get_mut().0.greeted();
        Ok((Box::new(stream), fronted))
    }

    /// The refusal, if the client says that it does not accept the certificate that was issued for it.
    fn refused_leaf(&self, error: &io::Error) -> Option<Refusal> {
        let Some(rustls::Error::AlertReceived(alert)) = tls_error::find(error) else {
            return None;
        };
        let alert = tls_error::is_about_certificate(*alert).then(|| tls_error::alert(*alert))?;
        let (host, root) = (self.authority.host(), self.context.ca.root_place());
        let remedy = self.trusts_the_one_before().unwrap_or_else(|| {
            "mount the bundle with that root in the pod, and set the CA variable of its language"
                .to_owned()
        });
        let detail = format!(
            "the client says that {alert}; it was issued for {host} by the root in {root}: {remedy}"
        );
        Some(Refusal::new(Reason::OwnCertificate, detail))
    }

    /// The refusal of a client that left after it was shown a certificate, or broke off otherwise.
    fn no_handshake(&self, error: &io::Error) -> Refusal {
        let left = error.kind() == io::ErrorKind::UnexpectedEof;
        match self.trusts_the_one_before().filter(|_| left) {
            Some(why) if Overrun::of(error).is_none() => Refusal::new(
                Reason::ClientTls,
                format!("the client left within the TLS handshake: {why}"),
            ),
            Some(_) | None => client_tls(error),
        }
    }

    /// What is wrong with most clients that do not accept a root which replaced another.
    fn trusts_the_one_before(&self) -> Option<String> {
        let at = self.context.ca.replaced_another_at()?;
        Some(format!(
            "this root replaced another at {at:.0}, and the client probably still trusts the one before; give its pod the bundle with the new root, and restart it"
        ))
    }
}

fn client_tls(error: &io::Error) -> Refusal {
    if let Some(overrun) = Overrun::of(error) {
        return overrun.into();
    }
    let departed = error.kind() == io::ErrorKind::UnexpectedEof;
    let detail = if departed {
        "the client left within the TLS handshake; most often it does not trust the gateway's root"
            .to_owned()
    } else {
        format!("no TLS with the client: {}", tls_error::of_handshake(error))
    };
    Refusal::new(Reason::ClientTls, detail)
}
