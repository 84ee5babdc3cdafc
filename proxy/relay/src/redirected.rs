//! Connections that the firewall rules redirected here.
//!
//! For a TLS client, the gateway is asked for the name in SNI and resolves it itself, so the app's DNS
//! does not decide where a credential goes. For HTTP in clear text it is asked for the `Host` of each
//! request, and for anything else for the original address.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use countersign_core::{
    destination::Authority,
    files,
    slots::{Share, Slot},
    wire::{
        first_bytes::{self, Detection},
        protocol::Protocol,
        rewound::Rewound,
        sniff::DetectedProtocol,
    },
};
use countersign_types::host::Host;
use socket2::SockRef;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{Shared, answer::RelayError, carry::carry, clear, pool::TunnelError};

/// How long a client may take to show its protocol; after that its server may speak first.
const FIRST_BYTES: Duration = Duration::from_secs(3);

/// The alerts that end a TLS handshake, so that the client's error message says whether it was refused,
/// or something is broken here (RFC 8446, section 6.2).
const ACCESS_DENIED: u8 = 49;
const INTERNAL_ERROR: u8 = 80;

/// Tunnels one redirected connection, or closes it and logs why.
pub(super) async fn serve(mut stream: TcpStream, shared: &Arc<Shared>, slot: &Arc<Slot>) {
    let destination = match destination(&stream, shared) {
        Ok(destination) => destination,
        Err(error) => return closed(None, &error),
    };
    let first = first_bytes::read(&mut stream, FIRST_BYTES).await;
    let clear = match &first.detection {
        Detection::Protocol(DetectedProtocol::Http1) => Some(Protocol::Http1),
        Detection::Protocol(DetectedProtocol::Http2) => Some(Protocol::Http2),
        Detection::Protocol(DetectedProtocol::Tls(_) | DetectedProtocol::Unknown)
        | Detection::Malformed(_)
        | Detection::Nothing
        | Detection::Left
        | Detection::Overrun(_) => None,
    };
    if let Some(protocol) = clear {
        let stream = Rewound::new(first.bytes, stream);
        let served = clear::serve(stream, protocol, destination, shared, slot);
        return Box::pin(served).await;
    }
    let is_tls = matches!(
        first.detection,
        Detection::Protocol(DetectedProtocol::Tls(_))
    );
    let authority = match authority(&first.detection, destination) {
        Ok(Some(authority)) => authority,
        Ok(None) => return tracing::debug!(%destination, "a client left without a word"),
        Err(error) => return closed(Some(destination), &error),
    };
    slot.asks();
    // Boxed: for most of its life a task only copies bytes, which needs less memory.
    let failed = match Box::pin(shared.pool.tunnel(&authority)).await {
        Ok(tunnel) => match slot.prove(|| Share::Own) {
            Ok(()) => {
                let stream = Rewound::new(first.bytes, stream);
                return carry(stream, tunnel, shared.cut.clone()).await;
            }
            Err(full) => TunnelError::Failed(full.into()),
        },
        Err(failed) => failed,
    };
    let description = match failed {
        TunnelError::Failed(error) => {
            closed(Some(destination), &error);
            INTERNAL_ERROR
        }
        TunnelError::Refused(refused) => {
            tracing::warn!(
                gateway = %refused.gateway.name(),
                status = refused.response.status().as_u16(),
                target = %authority,
                %destination,
                "the gateway refused a redirected connection, which is closed"
            );
            ACCESS_DENIED
        }
    };
    if is_tls && let Err(error) = stream.write_all(&[21, 3, 3, 0, 2, 2, description]).await {
        tracing::debug!(%error, "the client left before it was told");
    }
}

/// What to ask a gateway for; `None` if the client has left.
fn authority(
    detection: &Detection,
    destination: SocketAddr,
) -> Result<Option<Authority>, RelayError> {
    let by_address = Authority::new(Host::Ip(destination.ip()), destination.port());
    let hello = match detection {
        Detection::Protocol(DetectedProtocol::Tls(hello)) => hello,
        Detection::Protocol(
            DetectedProtocol::Http1 | DetectedProtocol::Http2 | DetectedProtocol::Unknown,
        )
        | Detection::Nothing => {
            return Ok(Some(by_address));
        }
        Detection::Malformed(malformed) => return Err(RelayError::Hello(malformed.0)),
        Detection::Left | Detection::Overrun(_) => return Ok(None),
    };
    let Some(name) = &hello.server_name else {
        return Ok(Some(by_address));
    };
    match Host::parse(name) {
        Ok(name @ Host::Name(_)) => Ok(Some(Authority::new(name, destination.port()))),
        // An address is not allowed in SNI (RFC 6066, section 3): such a client has no name.
        Ok(Host::Ip(_)) => Ok(Some(by_address)),
        Err(error) => Err(RelayError::Hello(error.0)),
    }
}

fn closed(destination: Option<SocketAddr>, error: &RelayError) {
    let destination = destination.map(tracing::field::display);
    tracing::warn!(
        reason = error.code(),
        destination,
        %error,
        "a redirected connection was closed"
    );
}

/// The original destination of the client, before the rules of iptables or nftables redirected it.
fn destination(stream: &TcpStream, shared: &Shared) -> Result<SocketAddr, RelayError> {
    let unknown = |error: std::io::Error| RelayError::NoDestination(files::reason(&error));
    let socket = SockRef::from(stream);
    let local = stream.local_addr().map_err(unknown)?;
    let original = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    let original = original
        .map_err(unknown)?
        .as_socket()
        .ok_or_else(|| RelayError::NoDestination("it is no internet address".to_owned()))?;
    let gateways = shared.pool.known();
    let is_gateway = gateways.iter().any(|gateway| gateway.address() == original);
    if original == local || shared.own.contains(&original) || is_gateway {
        return Err(RelayError::Loop(original));
    }
    Ok(original)
}

#[cfg(test)]
mod tests {
    use countersign_core::wire::sniff::{ClientHello, Malformed};
    use rstest::rstest;

    use super::*;

    fn hello(name: Option<&str>) -> Detection {
        Detection::Protocol(DetectedProtocol::Tls(ClientHello {
            server_name: name.map(str::to_owned),
            encrypted: false,
            early_data: false,
        }))
    }

    #[rstest]
    #[case::name(hello(Some("Slack.com")), Some("slack.com:8443"))]
    #[case::no_name(hello(None), Some("192.0.2.7:8443"))]
    #[case::address(hello(Some("203.0.113.9")), Some("192.0.2.7:8443"))]
    #[case::server_speaks_first(Detection::Nothing, Some("192.0.2.7:8443"))]
    #[case::something_else(Detection::Protocol(DetectedProtocol::Unknown), Some("192.0.2.7:8443"))]
    #[case::gone(Detection::Left, None)]
    fn a_name_is_asked_for_by_name(#[case] detection: Detection, #[case] expected: Option<&str>) {
        let destination = "192.0.2.7:8443".parse().unwrap();
        let asked = authority(&detection, destination).unwrap();
        let asked = asked.map(|authority| authority.to_string());
        assert_eq!(asked.as_deref(), expected);
    }

    #[rstest]
    #[case(hello(Some("slack..com")))]
    #[case(Detection::Malformed(Malformed("the ClientHello is not complete")))]
    fn what_names_no_host_is_not_carried(#[case] detection: Detection) {
        let destination = "192.0.2.7:8443".parse().unwrap();
        assert!(matches!(
            authority(&detection, destination),
            Err(RelayError::Hello(_))
        ));
    }
}
