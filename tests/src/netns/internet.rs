//! What the internet has: the environment's Slack and Qase at public addresses, names, a stranger who
//! tells everybody from where he was called, and a site without TLS.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::{AbortHandle, JoinSet},
};

use super::{
    names::{self, Names},
    namespace::Namespace,
};
use crate::{environment::Environment, fake::Server};

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, last))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

const SLACK: [IpAddr; 2] = [v4(10), v6(0x10)];
const QASE: [IpAddr; 2] = [v4(20), v6(0x20)];
/// The name server.
pub(super) const NAMES: IpAddr = v4(53);
const OTHERS: [IpAddr; 2] = [v4(99), v6(0x99)];

/// Every address of the internet.
pub(super) const ADDRESSES: [IpAddr; 7] = [
    SLACK[0], SLACK[1], QASE[0], QASE[1], NAMES, OTHERS[0], OTHERS[1],
];

/// Whoever sends a line here is told from which address it came. Its name is `stranger.test`.
pub const STRANGER: SocketAddr = SocketAddr::new(OTHERS[0], 7007);
/// The same over IPv6.
pub const STRANGER_6: SocketAddr = SocketAddr::new(OTHERS[1], 7007);
/// The site without TLS: it answers every request with the request's head. It has every name, also
/// those of Slack, to whom asks the wrong name server.
pub const CLEAR: SocketAddr = SocketAddr::new(OTHERS[0], 80);

/// The internet, as long as this lives.
#[derive(Debug)]
pub struct Internet {
    serving: Vec<AbortHandle>,
}

impl Internet {
    /// Puts the environment into the namespace.
    pub fn start(namespace: &Namespace, env: &Environment) -> anyhow::Result<Self> {
        let mut names = Names::new();
        let apis = [
            (env.slack.server(), env.slack.hosts(), SLACK),
            (env.qase.server(), env.qase.hosts(), QASE),
        ];
        for (server, hosts, addresses) in apis {
            for address in addresses {
                server.listen_also(listen(namespace, SocketAddr::new(address, 443))?);
            }
            names.extend(
                hosts
                    .iter()
                    .map(|host| ((*host).to_owned(), addresses.into())),
            );
        }
        for name in ["stranger.test", "git.test"] {
            names.insert(name.to_owned(), OTHERS.into());
        }
        let socket = namespace.inside(|| std::net::UdpSocket::bind((NAMES, 53)))??;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let mut serving = vec![tokio::spawn(names::serve(socket, Arc::new(names))).abort_handle()];
        for address in [STRANGER, STRANGER_6] {
            let strangers = each(listen(namespace, address)?, tell);
            serving.push(tokio::spawn(strangers).abort_handle());
        }
        let clear = each(listen(namespace, CLEAR)?, echo_head);
        serving.push(tokio::spawn(clear).abort_handle());
        Ok(Self { serving })
    }

    /// Puts another server at `git.test`, port 443.
    pub fn add_git(&self, namespace: &Namespace, server: &Server) -> anyhow::Result<()> {
        for address in OTHERS {
            server.listen_also(listen(namespace, SocketAddr::new(address, 443))?);
        }
        Ok(())
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        for serving in &self.serving {
            serving.abort();
        }
    }
}

fn listen(namespace: &Namespace, address: SocketAddr) -> io::Result<TcpListener> {
    let listener = namespace.inside(|| std::net::TcpListener::bind(address))??;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn each<F>(listener: TcpListener, serve: fn(TcpStream, SocketAddr) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut open = JoinSet::new();
    while let Ok((stream, from)) = listener.accept().await {
        open.spawn(serve(stream, from));
        while open.try_join_next().is_some() {}
    }
}

async fn tell(mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    stream.read_u8().await?;
    let from = from.ip().to_canonical();
    stream.write_all(format!("{from}\n").as_bytes()).await?;
    stream.shutdown().await?;
    // What is left unread would end the connection with a reset, and with it the answer.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}

async fn echo_head(mut stream: TcpStream, _from: SocketAddr) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let length = head.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.write_all(&head).await?;
    stream.shutdown().await
}
