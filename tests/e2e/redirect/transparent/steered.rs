//! The network of a test: addresses, steering rules, an environment and a gateway.

use std::{net::SocketAddr, time::Duration};

use countersign_config::model::{Listener, ListenerMode, Transparency};
use countersign_tests::{client::Client, environment::DASHBOARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::harness::{Builder, ExampleApi, PATIENCE, TestBed, soon};

/// Where an app's DNS says that Slack is: nobody is there.
pub(crate) const SLACK: &str = "203.0.113.10:443";
pub(crate) const SLACK_6: &str = "[2001:db8::10]:443";
/// Where somebody is that no target matches. Only connections from [`APP`] are steered there, so
/// that the gateway's own go through.
pub(crate) const STRANGER: &str = "203.0.113.20:7007";
pub(crate) const APP: &str = "10.9.0.3";

pub(crate) const LISTENER: &str = "127.0.0.1:15001";
pub(crate) const LISTENER_6: &str = "[::1]:15001";

/// How long silent clients are waited for, where there are some.
pub(crate) const SOON: Duration = Duration::from_millis(300);

pub(crate) const REDIRECT: &str = "
    iptables -t nat -A OUTPUT -p tcp -d 203.0.113.10 -j REDIRECT --to-ports 15001
    iptables -t nat -A OUTPUT -p tcp -s 10.9.0.3 -d 203.0.113.20 -j REDIRECT --to-ports 15001
    ip6tables -t nat -A OUTPUT -p tcp -d 2001:db8::10 -j REDIRECT --to-ports 15001
";

/// Of one machine's own connections `TPROXY` sees nothing until they come back in by loopback.
pub(crate) const TPROXY: &str = "
    iptables -t mangle -A OUTPUT -p tcp -d 203.0.113.10 -j MARK --set-mark 1
    iptables -t mangle -A PREROUTING -p tcp -d 203.0.113.10 -j TPROXY --on-ip 127.0.0.1 --on-port 15001 --tproxy-mark 1
    ip rule add fwmark 1 lookup 100
    ip route add local 0.0.0.0/0 dev lo table 100
    ip6tables -t mangle -A OUTPUT -p tcp -d 2001:db8::10 -j MARK --set-mark 1
    ip6tables -t mangle -A PREROUTING -p tcp -d 2001:db8::10 -j TPROXY --on-ip ::1 --on-port 15001 --tproxy-mark 1
    ip -6 rule add fwmark 1 lookup 100
    ip -6 route add local ::/0 dev lo table 100
";

/// A test bed whose gateway has two transparent listeners, one of each family.
pub(crate) fn transparent<'c>(transparency: Transparency) -> Builder<'c, ExampleApi> {
    TestBed::builder()
        .limits(|limits| limits.handshake_timeout = PATIENCE)
        .prepare(move |env, gateway| {
            env.write_secret("pod-token", &env.token("qa", DASHBOARD))?;
            let file = env.secret_directory().join("pod-token");
            gateway.listeners = [("steered", LISTENER), ("steered-6", LISTENER_6)]
                .map(|(name, address)| Listener {
                    name: name.to_owned(),
                    address: address.parse().expect("an address"),
                    mode: ListenerMode::Transparent(transparency),
                    tls: None,
                    own_token_file: Some(file.clone()),
                })
                .into();
            Ok(())
        })
}

/// One whose gateway lets unmatched connections pass.
pub(crate) fn tunnelling<'c>() -> Builder<'c, ExampleApi> {
    transparent(Transparency::Redirect)
        .tunnel_unmatched()
        .limits(|limits| limits.handshake_timeout = SOON)
        .gateway(|gateway| {
            gateway.upstream.allow_addresses = vec!["203.0.113.20/32".parse().expect("a range")];
        })
}

/// A client that dials this address, whatever name it asks for.
pub(crate) fn direct_client(bed: &TestBed, address: &str) -> Client {
    let address = address.parse().expect("an address");
    Client::direct(address, bed.gateway.roots())
}

/// The content of a `server_name` extension.
pub(crate) const SNI: &[u8] = b"\0\x10\0\0\x0dstranger.test";

/// A small `ClientHello` with these extensions.
pub(crate) fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (kind, content) in extensions {
        block.extend_from_slice(&kind.to_be_bytes());
        block.extend(prefixed(content));
    }
    let mut body = b"\x03\x03".to_vec();
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(b"\0\0\x02\x13\x01\x01\0");
    body.extend(prefixed(&block));
    let mut message = b"\x01\0".to_vec();
    message.extend(prefixed(&body));
    let mut record = b"\x16\x03\x01".to_vec();
    record.extend(prefixed(&message));
    record
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a small message");
    [&length.to_be_bytes(), bytes].concat()
}

/// Sends this and reads until the other side has ended.
pub(crate) async fn say(stream: &mut TcpStream, words: &[u8]) -> anyhow::Result<Vec<u8>> {
    stream.write_all(words).await?;
    let mut answer = Vec::new();
    match soon("the end", stream.read_to_end(&mut answer)).await? {
        Ok(_) => {}
        // What was not read of a refused client's words ends the connection so.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => return Err(error.into()),
    }
    Ok(answer)
}

/// A connection that comes from the app's address, as a steered one does.
pub(crate) async fn from_app(to: &str) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(APP.parse()?, 0))?;
    Ok(soon("a connection", socket.connect(to.parse()?)).await??)
}
