//! Tests that the applied rules redirect: connections to addresses that nobody uses must arrive at the
//! port where the relay will listen.
//!
//! It runs before the relay, with another owner than the relay's, and binds the relay's port itself. An
//! IP family without a route out cannot leak and is skipped; at least one family must pass.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use countersign_core::files;
use socket2::{Domain, SockRef, Socket, Type};

use super::{Family, QUIC, Redirection};

/// A redirected connection stays within the machine.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Addresses for documentation (RFC 5737, RFC 3849), which nobody uses.
const NOBODY: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// Why the test failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Another process listens there.
    #[error(
        "cannot listen on {address} in the relay's place: {}",
        files::reason(source)
    )]
    Bind {
        /// The relay's address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A test connection was not redirected.
    #[error("a connection to {probe} did not come back: {reason}; apps can pass the relay by")]
    Leak {
        /// Its destination.
        probe: SocketAddr,
        /// What happened instead.
        reason: String,
    },
    /// UDP to port 443 is not rejected.
    #[error("UDP to {probe} was not rejected at once: {reason}; QUIC can pass the relay by")]
    Quic {
        /// Its destination.
        probe: SocketAddr,
        /// What happened instead.
        reason: String,
    },
    /// The rules do not redirect this process.
    #[error("the check must not run as the relay's own uid and gid, which pass")]
    Excluded,
    /// There is no destination for a test connection.
    #[error("nothing was proven: {0}")]
    Unproven(&'static str),
}

/// The result for one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Connections are redirected.
    Redirected(Family),
    /// There is no route out.
    NoRoute(Family),
}

/// Sends test connections in both families.
///
/// # Errors
/// When one is not redirected, or none could be sent.
pub fn check(redirection: &Redirection) -> Result<Vec<Finding>, CheckError> {
    let ours = (rustix::process::geteuid(), rustix::process::getegid());
    if (ours.0.as_raw(), ours.1.as_raw()) == (redirection.uid, redirection.gid) {
        return Err(CheckError::Excluded);
    }
    let mut findings = Vec::new();
    for family in [Family::V4, Family::V6] {
        if let Some(finding) = check_family(redirection, family)? {
            findings.push(finding);
        }
    }
    let proven = |finding: &Finding| matches!(finding, Finding::Redirected(_));
    if !findings.iter().any(proven) {
        return Err(CheckError::Unproven("there is no route out to probe"));
    }
    Ok(findings)
}

/// `None` if the machine does not have this family.
fn check_family(redirection: &Redirection, family: Family) -> Result<Option<Finding>, CheckError> {
    let probe = probe(redirection, family)?;
    let loopback: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let address = SocketAddr::new(loopback, redirection.port);
    let listener = match listen(address) {
        Ok(listener) => listener,
        Err(error) if family == Family::V6 && is_absent(&error) => return Ok(None),
        Err(source) => return Err(CheckError::Bind { address, source }),
    };
    if !is_routed(probe) {
        return Ok(Some(Finding::NoRoute(family)));
    }
    let leak = |reason: String| CheckError::Leak { probe, reason };
    let sent =
        TcpStream::connect_timeout(&probe, TIMEOUT).map_err(|error| leak(error.to_string()))?;
    let ours = sent.local_addr().map_err(|error| leak(error.to_string()))?;
    let original = came_back(&listener, ours).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => leak("something else answered it".to_owned()),
        _ => leak(error.to_string()),
    })?;
    if original != Some(probe) {
        return Err(leak(
            "it came back without its original destination".to_owned(),
        ));
    }
    if redirection.rejects_quic() {
        check_quic(SocketAddr::new(probe.ip(), QUIC))?;
    }
    Ok(Some(Finding::Redirected(family)))
}

/// A destination that is redirected and that nobody uses.
fn probe(redirection: &Redirection, family: Family) -> Result<SocketAddr, CheckError> {
    let address = NOBODY
        .into_iter()
        .find(|address| {
            address.is_ipv4() == (family == Family::V4) && !redirection.excludes(*address)
        })
        .ok_or(CheckError::Unproven("every address to probe is excluded"))?;
    let mut ports = [QUIC, 80]
        .into_iter()
        .chain(redirection.only_ports.iter().copied())
        .chain(1..=u16::MAX);
    let port = ports
        .find(|port| redirection.redirects(*port))
        .ok_or(CheckError::Unproven("every port is excluded"))?;
    Ok(SocketAddr::new(address, port))
}

/// The original destination of the connection from `ours`; it is queued before `connect` returns, so
/// there is no need to wait.
fn came_back(listener: &TcpListener, ours: SocketAddr) -> io::Result<Option<SocketAddr>> {
    loop {
        let (stream, peer) = listener.accept()?;
        if peer.port() != ours.port() {
            continue;
        }
        let socket = SockRef::from(&stream);
        let original = match ours {
            SocketAddr::V4(_) => socket.original_dst_v4()?,
            SocketAddr::V6(_) => socket.original_dst_v6()?,
        };
        return Ok(original.as_socket());
    }
}

/// A rejected datagram causes an ICMP error, which shows as a refused connection.
fn check_quic(probe: SocketAddr) -> Result<(), CheckError> {
    let exchange = || {
        let socket = UdpSocket::bind(any(probe))?;
        socket.connect(probe)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.send(&[0])?;
        socket.recv(&mut [0; 16])
    };
    match exchange() {
        // From a rule on this machine it can come immediately, and then as `EPERM`.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(CheckError::Quic {
            probe,
            reason: error.to_string(),
        }),
        Ok(_) => Err(CheckError::Quic {
            probe,
            reason: "something answered".to_owned(),
        }),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The relay binds the same port immediately afterwards.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(16)?;
    Ok(socket.into())
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// Whether this machine has a route there. This sends nothing: a router could answer that there is no
/// route, but then the packet has already left.
fn is_routed(probe: SocketAddr) -> bool {
    let connected = UdpSocket::bind(any(probe)).and_then(|socket| socket.connect(probe));
    !connected.is_err_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable
        )
    })
}

/// Any local address of the probe's family.
fn any(probe: SocketAddr) -> SocketAddr {
    match probe {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}
