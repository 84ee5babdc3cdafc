//! Listening sockets.

use std::{io, net::SocketAddr};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

/// How many connections can wait to be accepted. The kernel limits it to `net.core.somaxconn`, 4096 by
/// default. If the queue is full, a client's system retries only after a second.
const BACKLOG: u32 = 65_535;

/// Listens on an address.
///
/// # Errors
/// When it is in use, not local, or not permitted.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_with(address, |_| Ok(()))
}

/// The same with a socket whose options are set first.
///
/// # Errors
/// The same, and when an option cannot be set.
pub fn listen_with(
    address: SocketAddr,
    set: impl FnOnce(SockRef<'_>) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    set(SockRef::from(&socket))?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The same with a socket that can respond from addresses that are not local.
///
/// # Errors
/// The same, and without `CAP_NET_ADMIN`.
#[cfg(target_os = "linux")]
pub fn listen_transparent(address: SocketAddr) -> io::Result<TcpListener> {
    listen_with(address, |options| {
        if address.is_ipv4() {
            options.set_ip_transparent_v4(true)
        } else {
            options.set_ip_transparent_v6(true)
        }
    })
}

#[cfg(not(target_os = "linux"))]
pub fn listen_transparent(_address: SocketAddr) -> io::Result<TcpListener> {
    Err(io::ErrorKind::Unsupported.into())
}
