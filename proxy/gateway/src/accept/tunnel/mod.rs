//! Connections that are carried on unread: looked into just far enough to know that they are not
//! for a governed host, by whatever address or port they go.
//!
//! The server's bytes go to the client from the start, so that protocols in which the server
//! speaks first need no waiting. Of the client's, a `ClientHello` or the head of a request is held
//! back until it is whole and judged; bodies, and what is neither, pass as they come.

mod held;
mod judge;
mod requests;
mod watch;
mod watched;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use countersign_core::{budget::Purse, destination::Authority, reason::Blame};
use countersign_identity::Caller;
use http::{Response, header};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use self::{
    judge::Judge,
    watched::{Stop, Watched},
};
use super::{
    Entrance, Lease,
    intercept::{Intercepted, Way},
    pump,
};
use crate::{
    app::Rooms,
    authorize::Asked,
    observe::{Outcome, Record},
    pipeline,
    refusal::{self, Refusal},
};

/// RFC 8446, section 6.2.
const ACCESS_DENIED: u8 = 49;
const INTERNAL_ERROR: u8 = 80;

/// One connection that is to be carried on.
#[derive(Debug)]
pub(super) struct Carried {
    /// The rooms of the gateway.
    pub(super) rooms: Arc<Rooms>,
    /// Where the connection came in.
    pub(super) entrance: Entrance,
    /// Who calls.
    pub(super) caller: Arc<Caller>,
    /// Where it goes.
    pub(super) authority: Authority,
    /// The address that was dialled for it.
    pub(super) address: SocketAddr,
    /// Whether policy granted it, to a target that is not decrypted.
    pub(super) granted: bool,
    /// How it came here.
    pub(super) way: Way,
    /// What it makes the gateway hold.
    pub(super) room: Arc<Purse>,
    /// Ends the connection.
    pub(super) closing: CancellationToken,
}

impl Carried {
    /// Carries bytes until one side closes, or until the client shows that they must not be.
    pub(super) async fn run<C>(self, client: C, mut upstream: TcpStream, record: Record)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let name = Arc::new(OnceLock::new());
        let judge = Judge {
            rooms: Arc::clone(&self.rooms),
            caller: Arc::clone(&self.caller),
            authority: self.authority.clone(),
            address: self.address,
            granted: self.granted,
            name: Arc::clone(&name),
        };
        let asked = Asked::Tunnel {
            authority: self.authority.clone(),
            name,
        };
        let limits = &self.rooms.limits;
        let bounds = pump::Bounds {
            lease: Lease::new(Arc::clone(&self.rooms), Arc::clone(&self.caller), asked),
            room: Arc::clone(&self.room),
            idle: limits.body_idle_timeout,
            closing: self.closing.clone(),
        };
        let limit = limits.handshake_timeout;
        let mut client = Watched::new(client, judge, record.bytes.clone(), limit, &self.room);
        let ended = pump::carry(&mut client, &mut upstream, &record.bytes, &bounds).await;
        match client.stopped() {
            None => {
                pump::conclude(record, ended, Outcome::Tunnelled);
                pump::farewell(&mut client, &mut upstream).await;
            }
            Some(Stop::Refused(refusal)) => {
                drop(upstream);
                tell(&mut client, &refusal, &record).await;
                pipeline::close(record, refusal);
            }
            Some(Stop::Intercept(authority)) => {
                drop(upstream);
                record.withdraw();
                let intercepted = Intercepted {
                    rooms: self.rooms,
                    entrance: self.entrance,
                    caller: self.caller,
                    authority,
                    way: self.way,
                    purse: self.room,
                    closing: self.closing,
                };
                Box::pin(intercepted.run(client.into_rewound())).await;
            }
        }
    }
}

/// Tells the client in a way that it understands, unless the server has spoken to it already.
async fn tell<C>(client: &mut Watched<C>, refusal: &Refusal, record: &Record)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let told = if record.bytes.response() > 0 {
        Vec::new()
    } else if client.greets() {
        alert(refusal).to_vec()
    } else {
        in_clear(&refusal::answer(refusal, &record.id.to_string()))
    };
    // The client may have left: whether it hears us is all the same.
    if client.write_all(&told).await.is_ok() {
        pump::last_words(client).await;
    }
}

/// Ends a TLS handshake in a way that a client understands.
pub(super) fn alert(refusal: &Refusal) -> [u8; 7] {
    let description = match refusal.reason.facts().blame {
        Blame::Caller | Blame::Operator => ACCESS_DENIED,
        Blame::Platform | Blame::Upstream | Blame::Gateway => INTERNAL_ERROR,
    };
    [21, 3, 3, 0, 2, 2, description]
}

/// An answer as HTTP/1.1 writes it, after which the connection is closed.
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
