//! Connections that are carried without decryption. They are inspected just enough to know that they are
//! not for a governed host, whatever address or port they go to.
//!
//! The server's bytes go to the client at once, so protocols in which the server speaks first do not wait.
//! Of the client's bytes, a `ClientHello` or a request head is held back until it is complete and checked;
//! bodies, and anything else, pass at once.

mod held;
mod look;
mod name_check;
mod requests;
mod watch;
mod watched;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use countersign_authorize::OpenConnection;
use countersign_core::{budget::Purse, destination::Authority, reason::Blame};
use countersign_identity::Caller;
use countersign_upstream::forward::Transport;
use http::{Response, header};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use self::{
    name_check::NameCheck,
    watched::{Stop, Watched},
};
use super::{
    AcceptContext,
    intercept::{InterceptMode, Intercepted},
};
use crate::{
    observe::{Outcome, Record},
    refusal::{self, Refusal},
    session::{AccessGuard, ConnectionMeta, close, pump},
};

/// RFC 8446, section 6.2.
const ACCESS_DENIED: u8 = 49;
const INTERNAL_ERROR: u8 = 80;

/// One connection to be carried.
#[derive(Debug)]
pub(super) struct CarriedTunnel {
    /// What all listeners share.
    pub(super) context: Arc<AcceptContext>,
    /// Where the connection came in.
    pub(super) meta: ConnectionMeta,
    /// Who calls.
    pub(super) caller: Arc<Caller>,
    /// Where it goes.
    pub(super) authority: Authority,
    /// The address that was dialled for it.
    pub(super) address: SocketAddr,
    /// Whether policy granted it, to a target that is not decrypted.
    pub(super) granted: bool,
    /// How the connection reached the gateway.
    pub(super) mode: InterceptMode,
    /// The memory that it takes.
    pub(super) room: Arc<Purse>,
    /// Ends the connection.
    pub(super) closing: CancellationToken,
}

impl CarriedTunnel {
    /// Carries bytes until one side closes, or until the client shows a name that it must not reach.
    pub(super) async fn run<C>(self, client: C, mut upstream: Transport, record: Record)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let name = Arc::new(OnceLock::new());
        let names = NameCheck {
            access: Arc::clone(&self.context.access),
            forwarder: Arc::clone(&self.context.forwarder),
            caller: Arc::clone(&self.caller),
            authority: self.authority.clone(),
            address: self.address,
            granted: self.granted,
            name: Arc::clone(&name),
        };
        let open = OpenConnection::Tunnel {
            authority: self.authority.clone(),
            name,
        };
        let limits = &self.context.limits;
        let bounds = pump::Bounds {
            guard: AccessGuard::new(
                Arc::clone(&self.context.access),
                self.context.lifecycle.drain.clone(),
                Arc::clone(&self.caller),
                open,
            ),
            room: Arc::clone(&self.room),
            idle: limits.body_idle_timeout,
            closing: self.closing.clone(),
        };
        let mut client = Watched::new(client, names, limits, record.bytes.clone(), &self.room);
        let ended = pump::carry(&mut client, &mut upstream, &record.bytes, &bounds).await;
        match client.stopped() {
            None => {
                pump::conclude(record, ended, Outcome::Tunnelled);
                pump::farewell(&mut client, &mut upstream).await;
            }
            Some(Stop::Refused(refusal)) => {
                drop(upstream);
                tell(&mut client, &refusal, &record).await;
                close(record, refusal);
            }
            Some(Stop::Intercept(authority)) => {
                drop(upstream);
                record.withdraw();
                let intercepted = Intercepted {
                    context: self.context,
                    meta: self.meta,
                    caller: self.caller,
                    authority,
                    mode: self.mode,
                    purse: self.room,
                    closing: self.closing,
                };
                Box::pin(intercepted.run(client.into_rewound())).await;
            }
        }
    }
}

/// Tells the client in its own protocol, unless the server has already sent something.
async fn tell<C>(client: &mut Watched<C>, refusal: &Refusal, record: &Record)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let told = if record.bytes.response() > 0 {
        Vec::new()
    } else if client.greets() {
        alert(refusal).to_vec()
    } else {
        in_clear(&refusal::answer(refusal, record))
    };
    // The client may have left; then there is nothing to tell.
    if client.write_all(&told).await.is_ok() {
        pump::last_words(client).await;
    }
}

/// The alert that refuses a TLS handshake.
pub(super) fn alert(refusal: &Refusal) -> [u8; 7] {
    let description = match refusal.reason.facts().blame {
        Blame::Caller | Blame::Operator => ACCESS_DENIED,
        Blame::Platform | Blame::Upstream | Blame::Gateway => INTERNAL_ERROR,
    };
    [21, 3, 3, 0, 2, 2, description]
}

/// A response in HTTP/1.1, after which the connection is closed.
fn in_clear(response: &Response<bytes::Bytes>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let rest = format!(
        "{}: close\r\n{}: {}\r\n\r\n",
        header::CONNECTION,
        header::CONTENT_LENGTH,
        response.body().len()
    );
    text.extend_from_slice(rest.as_bytes());
    text.extend_from_slice(response.body());
    text
}
