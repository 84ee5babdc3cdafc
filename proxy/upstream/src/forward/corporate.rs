//! Connects through a corporate HTTP proxy, by CONNECT (RFC 9110, section 9.3.6).
//!
//! That proxy then resolves the name, so its addresses cannot be checked here: the proxy's own policy
//! decides what it may reach. An authority that is an address is checked as always.

use std::net::SocketAddr;

use countersign_core::destination::Authority;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::error::ForwardError;

/// The most bytes that are read of the response to CONNECT.
const MOST_HEAD: usize = 16 * 1024;

/// Asks the proxy behind `stream` for a tunnel to `authority`.
pub(super) async fn open_tunnel(
    stream: &mut TcpStream,
    proxy: SocketAddr,
    authority: &Authority,
) -> Result<(), ForwardError> {
    let refused = |reason: String| ForwardError::ProxyRefused { proxy, reason };
    let broken = |error: std::io::Error| refused(error.kind().to_string());
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;

    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await.map_err(broken)? == 0 {
            return Err(refused("it closed the connection".into()));
        }
        if let Some(end) = find_end(&head) {
            if end < head.len() {
                // In TLS the client speaks first, so these bytes are not from the upstream.
                return Err(refused("it sent something before the tunnel stood".into()));
            }
            return match status(&head) {
                Some(200..=299) => Ok(()),
                Some(status) => Err(refused(format!("it answered {status}"))),
                None => Err(refused("its answer is not HTTP".into())),
            };
        }
        if head.len() > MOST_HEAD {
            return Err(refused("its answer has no end".into()));
        }
    }
}

/// The first byte behind the head.
fn find_end(head: &[u8]) -> Option<usize> {
    head.windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

fn status(head: &[u8]) -> Option<u16> {
    let rest = head
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, rest) = rest.split_at_checked(3)?;
    if !matches!(rest.first(), Some(b' ' | b'\r')) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::net::TcpListener;

    use super::*;

    #[rstest]
    #[case("HTTP/1.1 200 Connection established\r\n\r\n", None)]
    #[case("HTTP/1.0 200\r\nVia: x\r\n\r\n", None)]
    #[case(
        "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        Some("it answered 407")
    )]
    #[case("HTTP/1.1 2000 OK\r\n\r\n", Some("its answer is not HTTP"))]
    #[case("SSH-2.0-OpenSSH\r\n\r\n", Some("its answer is not HTTP"))]
    #[case(
        "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200",
        Some("it sent something before the tunnel stood")
    )]
    #[case("HTTP/1.1 200 OK\r\n", Some("it closed the connection"))]
    #[tokio::test]
    async fn only_a_clean_success_opens_a_tunnel(
        #[case] answer: &'static str,
        #[case] expected: Option<&str>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        let authority = Authority::new(
            countersign_config::host::Host::parse("slack.com").unwrap(),
            443,
        );
        let result = open_tunnel(&mut stream, address, &authority).await;
        assert_eq!(
            server.await.unwrap(),
            "CONNECT slack.com:443 HTTP/1.1\r\nHost: slack.com:443\r\n\r\n"
        );
        match (result, expected) {
            (Ok(()), None) => {}
            (Err(ForwardError::ProxyRefused { reason, .. }), Some(expected)) => {
                assert_eq!(reason, expected);
            }
            (result, expected) => panic!("{result:?} instead of {expected:?}"),
        }
    }
}
