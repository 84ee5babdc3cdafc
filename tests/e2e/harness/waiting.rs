//! Waiting within a deadline, and letting time pass without waiting.

use std::time::Duration;

/// The longest that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Fails a test that hangs instead of letting it hang.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, future)
        .await
        .map_err(|_| anyhow::anyhow!("{what} did not happen in time"))
}

/// Waits for what nothing announces: looks again every few milliseconds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Boxed: most look by a request, which takes much room.
    soon(what, Box::pin(looking)).await
}

/// Lets time pass by tokio's clock, which runs on afterwards: sockets and processes take real time.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
