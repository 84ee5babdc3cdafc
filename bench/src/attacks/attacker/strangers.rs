//! What somebody does who proves nothing.

use std::{net::SocketAddr, sync::Arc};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Plan, connect, side_by_side};

/// Requests that are sent at once.
const PIPELINED: usize = 32;

/// Opens as many connections as there can be, and says nothing on them.
pub(super) async fn silent(plan: &'static Plan, address: SocketAddr, connections: usize) {
    side_by_side(plan, connections, |_| async move {
        while !plan.is_over() {
            if let Ok(mut stream) = connect(address).await {
                let _ = stream.read(&mut [0; 16]).await;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Has its proof refused and keeps the connection.
pub(super) async fn refused(plan: &'static Plan) {
    side_by_side(plan, 12_000, |_| async move {
        while !plan.is_over() {
            if let Ok(mut stream) = connect(plan.proxy).await
                && stream.write_all(request("").as_bytes()).await.is_ok()
            {
                while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {}
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Asks as fast as it is answered, without a proof or with a bad one.
pub(super) async fn refusals(plan: &'static Plan, token: &str) {
    let many: Arc<str> = request(token).repeat(PIPELINED).into();
    side_by_side(plan, 64, |_| {
        let many = Arc::clone(&many);
        async move {
            while !plan.is_over() {
                if let Ok(mut stream) = connect(plan.proxy).await {
                    while stream.write_all(many.as_bytes()).await.is_ok()
                        && matches!(stream.read(&mut [0; 16 * 1024]).await, Ok(1..))
                    {
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
}

fn request(token: &str) -> String {
    let proof = match token {
        "" => String::new(),
        token => format!("Proxy-Authorization: Bearer {token}\r\n"),
    };
    format!("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{proof}\r\n")
}
