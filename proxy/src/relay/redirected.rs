//! Connections that steering rules redirected here, carried to the address they were meant for.

use std::{net::SocketAddr, sync::Arc};

use countersign_config::host::Host;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::{Shared, answer::RelayError, carry::carry, fleet::NoTunnel};
use crate::destination::Authority;

/// Carries one redirected connection, or closes it and says why.
pub(super) async fn serve(stream: TcpStream, shared: &Arc<Shared>) {
    let destination = match destination(&stream, shared) {
        Ok(destination) => destination,
        Err(error) => return closed(None, &error),
    };
    let authority = Authority::new(Host::Ip(destination.ip()), destination.port());
    match shared.fleet.tunnel(&authority).await {
        Ok(tunnel) => carry(stream, tunnel, shared.cut.clone()).await,
        Err(NoTunnel::Failed(error)) => closed(Some(destination), &error),
        Err(NoTunnel::Refused(refused)) => {
            tracing::warn!(
                gateway = %refused.gateway.name(),
                status = refused.response.status().as_u16(),
                target = %authority,
                %destination,
                "the gateway refused a redirected connection, which is closed"
            );
        }
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

/// Where the client was going, before the rules of iptables or nftables redirected it.
fn destination(stream: &TcpStream, shared: &Shared) -> Result<SocketAddr, RelayError> {
    let unknown = |error: std::io::Error| RelayError::NoDestination(error.to_string());
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
    let gateways = shared.fleet.known();
    let is_gateway = gateways.iter().any(|gateway| gateway.address() == original);
    if original == local || shared.own.contains(&original) || is_gateway {
        return Err(RelayError::Loop(original));
    }
    Ok(original)
}
