//! The operator's own servers, misbehaving or replaced by an attacker: none of them blocks us, fills our
//! memory or receives our token elsewhere.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use countersign_config::model::{Cluster, VaultAuth, VaultServer};
use countersign_control_plane::kube::{Kube, KubeError};
use countersign_core::clock::Clock;
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::vault::{Vault, VaultError};

/// What a server sends for every request.
#[derive(Debug, Clone, Copy)]
enum Astray {
    /// Nothing.
    Silent,
    /// A head, and then a byte from time to time.
    Drips,
    /// A head that never ends.
    EndlessHead,
    /// A body that never ends.
    EndlessBody,
    /// A body with an enormous announced length.
    Announced,
    /// A redirect to itself, with a distinct path.
    Redirects(u16),
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

/// What a server has done.
#[derive(Debug, Default)]
struct Seen {
    /// Requests to the path that it redirects to.
    followed: AtomicUsize,
    /// Requests for which it has begun its response, if it sends one.
    answered: AtomicUsize,
}

/// A server, and what it has done.
async fn server(astray: Astray) -> (String, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<Seen>::default();
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, address, astray, Arc::clone(&noted)));
        }
    });
    (format!("http://{address}"), seen)
}

async fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    astray: Astray,
    seen: Arc<Seen>,
) -> std::io::Result<()> {
    let mut request = vec![0; 4096];
    let read = stream.read(&mut request).await?;
    if String::from_utf8_lossy(&request[..read]).contains(" /elsewhere ") {
        seen.followed.fetch_add(1, Ordering::SeqCst);
    }
    match astray {
        Astray::Silent => {
            seen.answered.fetch_add(1, Ordering::SeqCst);
            std::future::pending().await
        }
        Astray::Drips => {
            stream.write_all(HEAD).await?;
            stream.write_all(b"content-length: 1000000\r\n\r\n").await?;
            seen.answered.fetch_add(1, Ordering::SeqCst);
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Astray::EndlessHead => {
            stream.write_all(HEAD).await?;
            loop {
                stream.write_all(b"x-more: and more of it\r\n").await?;
            }
        }
        Astray::EndlessBody => {
            stream.write_all(HEAD).await?;
            stream
                .write_all(b"transfer-encoding: chunked\r\n\r\n")
                .await?;
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
            loop {
                stream.write_all(chunk.as_bytes()).await?;
            }
        }
        Astray::Announced => {
            stream.write_all(HEAD).await?;
            stream
                .write_all(b"content-length: 99999999999\r\n\r\n{")
                .await?;
            seen.answered.fetch_add(1, Ordering::SeqCst);
            std::future::pending().await
        }
        Astray::Redirects(status) => {
            let head = format!(
                "HTTP/1.1 {status} Elsewhere\r\nlocation: http://{address}/elsewhere\r\n\
                 content-length: 0\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await
        }
    }
}

/// The kind of client.
#[derive(Debug, Clone, Copy)]
enum Asks {
    ForASecret,
    ToWatch,
    ForAReview,
    Vault,
}

/// Sends a request; returns the error. After the server has responded as far as it will, tokio's clock
/// advances.
async fn asked(asks: Asks, url: &str, until: Option<&Seen>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, "our-own-token").unwrap();
    let kube = Kube::new(&Cluster {
        url: url.to_owned(),
        ca_file: None,
        token_file: token_file.clone(),
    });
    let asking = async {
        match asks {
            Asks::ForASecret => kube.read_secret("qa", "slack").await.map(drop),
            Asks::ToWatch => match kube.watch_secret("qa", "slack", "1").await {
                Ok(mut watch) => watch.next().await.map(drop),
                Err(error) => Err(error),
            },
            Asks::ForAReview => match kube.post(["tokenreviews"], b"{}".to_vec()).await {
                Ok(answer) => Err(KubeError::Rejected {
                    status: answer.status.as_u16(),
                    reason: "".into(),
                }),
                Err(error) => Err(error),
            },
            Asks::Vault => {
                let server = VaultServer {
                    address: url.to_owned(),
                    namespace: None,
                    ca_file: None,
                    auth: VaultAuth::TokenFile(token_file.clone()),
                };
                let vault = Vault::new(&server, Clock::system());
                let read = vault.read("secret", "slack").await;
                return read
                    .map(drop)
                    .map_err(|error: VaultError| error.to_string());
            }
        }
        .map_err(|error: KubeError| error.to_string())
    };
    tokio::pin!(asking);
    // More than any timeout: that of a watch, and its end.
    for _ in 0..600 {
        let soon = Duration::from_millis(if until.is_some() { 50 } else { 30_000 });
        match tokio::time::timeout(soon, &mut asking).await {
            Ok(done) => return done.unwrap_err(),
            Err(_elapsed) => {
                if until.is_some_and(|seen| seen.answered.load(Ordering::SeqCst) == 0) {
                    continue;
                }
                tokio::time::pause();
                tokio::time::advance(Duration::from_secs(5)).await;
                tokio::time::resume();
            }
        }
    }
    panic!("it is still waited for")
}

#[rstest]
#[tokio::test]
async fn nobody_is_held_up_or_filled(
    #[values(Asks::ForASecret, Asks::ToWatch, Asks::ForAReview, Asks::Vault)] asks: Asks,
    #[values(
        Astray::Silent,
        Astray::Drips,
        Astray::EndlessHead,
        Astray::EndlessBody,
        Astray::Announced
    )]
    astray: Astray,
) {
    let (url, seen) = server(astray).await;
    let is_too_large = match (astray, asks) {
        (Astray::EndlessBody, _) => true,
        // A watch may be of any length, and has an end of its own.
        (Astray::Announced, asks) => !matches!(asks, Asks::ToWatch),
        (_, _) => false,
    };
    // Only a timeout ends these.
    let time_passes = !is_too_large && !matches!(astray, Astray::EndlessHead);
    let told = asked(asks, &url, time_passes.then_some(&*seen)).await;
    let expected = match (is_too_large, astray, asks) {
        (true, ..) => "too large",
        (false, Astray::Silent, Asks::ToWatch) => "does not respond",
        (false, ..) => "no complete response",
    };
    assert!(told.contains(expected), "{told}");
    assert!(!told.contains("our-own-token"));
}

#[rstest]
#[tokio::test]
async fn nobody_is_sent_elsewhere(
    #[values(Asks::ForASecret, Asks::ToWatch, Asks::ForAReview, Asks::Vault)] asks: Asks,
    #[values(301, 302, 303, 307, 308)] status: u16,
) {
    let (url, seen) = server(Astray::Redirects(status)).await;
    let told = asked(asks, &url, None).await;
    assert_eq!(seen.followed.load(Ordering::SeqCst), 0, "{told}");
    let expected = match asks {
        Asks::Vault => "redirects to another server".to_owned(),
        _ => status.to_string(),
    };
    assert!(told.contains(&expected), "{told}");
}
