//! TCP connections to addresses that were checked.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::sleep};

use super::{error::ForwardError, resolve::Addresses};

/// The next address is tried if the one before has not responded for this long (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// When TCP probes an idle connection, and how often: a dead peer is noticed after about a minute and a
/// half, and a NAT keeps the mapping.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(45);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// Dials the addresses, starting the next one when the last is slow or failed; the first established
/// connection is used.
pub(super) async fn dial(addresses: &Addresses) -> Result<(TcpStream, SocketAddr), ForwardError> {
    let mut waiting = addresses.iter().copied();
    let mut attempts = FuturesUnordered::new();
    attempts.extend(waiting.next().map(connect));
    let mut last = None;
    loop {
        let more_to_try = waiting.len() > 0;
        tokio::select! {
            biased;
            Some((address, result)) = attempts.next() => match result {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => {
                    last = Some(refused(address, &error));
                    attempts.extend(waiting.next().map(connect));
                }
            },
            () = sleep(STAGGER), if more_to_try => attempts.extend(waiting.next().map(connect)),
            else => break,
        }
    }
    Err(last.unwrap_or_else(|| ForwardError::NoAddress {
        name: "the host".into(),
    }))
}

/// Whose fault a failed attempt is: what fails before a packet leaves is not the upstream's.
fn refused(address: SocketAddr, error: &io::Error) -> ForwardError {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let used_up = match errno {
        Some(Errno::MFILE | Errno::NFILE) => Some("open files"),
        Some(Errno::ADDRNOTAVAIL) => Some("local ports"),
        Some(Errno::NOBUFS | Errno::NOMEM) => Some("socket memory"),
        _ => None,
    };
    if let Some(what) = used_up {
        return ForwardError::NoSocket { address, what };
    }
    let reason = error.kind();
    match reason {
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::PermissionDenied => ForwardError::Unreachable { address, reason },
        _ => ForwardError::Connect { address, reason },
    }
}

async fn connect(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let connected = async {
        let stream = TcpStream::connect(address).await?;
        // Requests are written completely, so waiting for more data only delays them.
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(stream)
    };
    (address, connected.await)
}

/// Whether dialling `address` would reach one of the gateway's own listeners, `own`.
///
/// A listener on the unspecified address is reached by each address of this machine. A load balancer or a
/// cluster's service address in front of the gateway cannot be recognised here; such an address is private,
/// and private addresses are not dialled unless allowed.
pub(super) fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let ip = address.ip().to_canonical();
    own.iter().any(|listener| {
        let listening = listener.ip().to_canonical();
        listener.port() == address.port()
            && (listening == ip
                || ip.is_unspecified()
                || (listening.is_unspecified() && is_of_this_machine(ip)))
    })
}

/// Asks the kernel which source address it would use: for an address of this machine it is that address.
/// Nothing is sent.
fn is_of_this_machine(ip: IpAddr) -> bool {
    if ip.is_loopback() {
        return true;
    }
    let unspecified: IpAddr = if ip.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let source = UdpSocket::bind((unspecified, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    // Without a route the address cannot be reached.
    source.is_ok_and(|source| source.ip() == ip)
}

#[cfg(test)]
mod tests {
    use countersign_core::reason::Reason;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Errno::CONNREFUSED, Reason::UpstreamConnect)]
    #[case(Errno::CONNRESET, Reason::UpstreamConnect)]
    #[case(Errno::HOSTUNREACH, Reason::UpstreamConnect)]
    #[case(Errno::NETUNREACH, Reason::NetworkUnreachable)]
    #[case(Errno::PERM, Reason::NetworkUnreachable)]
    #[case(Errno::ACCESS, Reason::NetworkUnreachable)]
    #[case(Errno::MFILE, Reason::Overloaded)]
    #[case(Errno::ADDRNOTAVAIL, Reason::Overloaded)]
    fn what_fails_before_a_packet_leaves_is_not_the_upstreams_fault(
        #[case] errno: Errno,
        #[case] expected: Reason,
    ) {
        let error = io::Error::from_raw_os_error(errno.raw_os_error());
        let address = SocketAddr::from(([192, 0, 2, 1], 443));
        assert_eq!(refused(address, &error).reason(), expected);
    }

    #[rstest]
    #[case("127.0.0.1:3128", "127.0.0.1:3128", true)]
    #[case("127.0.0.1:3129", "127.0.0.1:3128", false)]
    #[case("127.0.0.2:3128", "127.0.0.1:3128", false)]
    #[case("127.0.0.2:3128", "0.0.0.0:3128", true)]
    #[case("[::1]:3128", "[::]:3128", true)]
    #[case("[::ffff:127.0.0.1]:3128", "127.0.0.1:3128", true)]
    #[case("0.0.0.0:3128", "127.0.0.1:3128", true)]
    #[case("1.1.1.1:3128", "0.0.0.0:3128", false)]
    #[case("1.1.1.1:443", "0.0.0.0:3128", false)]
    fn t30_own_listeners_are_recognised(
        #[case] address: SocketAddr,
        #[case] listener: SocketAddr,
        #[case] expected: bool,
    ) {
        assert_eq!(is_own(address, &[listener]), expected);
    }
}
