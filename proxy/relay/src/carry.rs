//! Carrying bytes between an app and its tunnel. How long either may be silent is the gateway's to
//! decide, which closes the tunnel then.

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio_util::sync::CancellationToken;

use super::fleet::Tunnel;

/// The size of the buffer in each direction, in bytes.
const BUFFER: usize = 8 * 1024;

/// Carries bytes until both sides have ended, one breaks, or `cut` says that time is up.
pub(super) async fn carry<C>(mut client: C, tunnel: Tunnel, cut: CancellationToken)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let Tunnel {
        stream: mut upstream,
        lease,
    } = tunnel;
    tokio::select! {
        ended = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a tunnel broke");
            }
        }
        () = cut.cancelled() => {}
    }
    drop(lease);
}
