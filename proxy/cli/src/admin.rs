//! Asks a gateway's admin endpoint.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest response, in bytes.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// The whole answer to a GET.
///
/// # Errors
/// When there is none in time, or it is not 200.
pub(super) fn get(admin: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    Ok(answer(admin, path)?.1)
}

/// The records that a gateway has after those of an earlier answer, and the number for the next one.
///
/// # Errors
/// As for [`get`].
pub(super) fn records_after(admin: SocketAddr, after: u64) -> anyhow::Result<(Bytes, u64)> {
    let (headers, lines) = answer(admin, &format!("/records?after={after}"))?;
    let next = headers
        .get("countersign-next")
        .and_then(|next| next.to_str().ok()?.parse().ok());
    let next = next.with_context(|| format!("{admin} is no gateway of this version"))?;
    Ok((lines, next))
}

fn answer(admin: SocketAddr, path: &str) -> anyhow::Result<(HeaderMap, Bytes)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let asking = async {
        let asking = tokio::time::timeout(TIMEOUT, ask(admin, path));
        asking.await.context("it did not respond in time")?
    };
    let (status, headers, body) = runtime.block_on(asking).with_context(|| {
        format!("cannot reach {admin}; check that it is the gateway's observe.admin")
    })?;
    if status == StatusCode::FORBIDDEN {
        // It says how else it can be asked.
        bail!("{admin}: {}", String::from_utf8_lossy(&body).trim_end());
    }
    Ok((headers, body))
}

async fn ask(admin: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, HeaderMap, Bytes)> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(header::HOST, admin.to_string())
        .body(Empty::<Bytes>::new())?;
    let answering = async {
        let answer = sender.send_request(request).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        if ![StatusCode::OK, StatusCode::FORBIDDEN].contains(&status) {
            bail!("the response status was {status}");
        }
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect();
        let body = body.await.map_err(|error| anyhow::anyhow!(error))?;
        Ok((status, headers, body.to_bytes()))
    };
    tokio::pin!(answering);
    tokio::select! {
        answer = &mut answering => answer,
        ended = connection => {
            ended?;
            answering.await
        }
    }
}
