//! Where a steered connection was going before the kernel brought it here.

use std::{io, net::SocketAddr};

use countersign_types::Transparency;
use tokio::net::TcpStream;

/// The destination that the client dialled, IPv4 as such also on a socket for both families.
///
/// A connection that was not steered is either an error or tells the address it came to.
///
/// # Errors
/// When the kernel does not know: the connection was not redirected, or netfilter is not there.
pub fn original_destination(
    stream: &TcpStream,
    transparency: Transparency,
) -> io::Result<SocketAddr> {
    let local = canonical(stream.local_addr()?);
    match transparency {
        Transparency::Redirect => redirected_from(stream, local.is_ipv4()).map(canonical),
        Transparency::Tproxy => Ok(local),
    }
}

/// The address with a v4-mapped IPv6 address as the IPv4 address it is.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(target_os = "linux")]
fn redirected_from(stream: &TcpStream, ipv4: bool) -> io::Result<SocketAddr> {
    let socket = socket2::SockRef::from(stream);
    let found = if ipv4 {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    }?;
    found
        .as_socket()
        .ok_or_else(|| io::Error::other("the original destination is no IP address"))
}

#[cfg(not(target_os = "linux"))]
fn redirected_from(_stream: &TcpStream, _ipv4: bool) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}
