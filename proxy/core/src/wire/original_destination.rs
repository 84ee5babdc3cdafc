//! The original destination of a redirected connection.

use std::{io, net::SocketAddr};

use countersign_types::Transparency;
use tokio::net::TcpStream;

/// The destination that the client connected to. IPv4 is returned as IPv4, also on a dual-stack socket.
///
/// For a connection that was not redirected it is an error, or its own local address.
///
/// # Errors
/// When the kernel does not know: the connection was not redirected, or netfilter is not available.
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

/// The address; a v4-mapped IPv6 address becomes IPv4.
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
        .ok_or_else(|| io::Error::other("the original destination is not an IP address"))
}

#[cfg(not(target_os = "linux"))]
fn redirected_from(_stream: &TcpStream, _ipv4: bool) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}
