//! The stand-in API: over TLS, h2 or HTTP/1.1, and for nobody without the real credential.

use std::{convert::Infallible, fs, path::Path, sync::Arc};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{client::Repeated, files};

/// The answer to a small request: about what `chat.postMessage` answers.
const SMALL: usize = 1024;

type Answer = Response<Either<Full<Bytes>, Repeated>>;

/// What the stand-in holds.
struct Api {
    authorization: HeaderValue,
    small: Bytes,
}

/// Serves until it is killed; says its address on standard output first.
pub(crate) async fn run(directory: &Path) -> anyhow::Result<()> {
    // Squid cannot be told of another port than a name's own; in a network of our own it is free.
    let listener = match TcpListener::bind(("127.0.0.1", files::OWN_PORT)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind("127.0.0.1:0").await?,
    };
    files::say(&format!("{}\n", listener.local_addr()?))?;
    serve_on(listener, directory).await
}

/// Serves for ever on a listener that is there already.
pub(crate) async fn serve_on(listener: TcpListener, directory: &Path) -> anyhow::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(directory)?));
    let credential = fs::read_to_string(directory.join(files::CREDENTIAL))?;
    let api = Arc::new(Api {
        authorization: format!("Bearer {}", credential.trim()).parse()?,
        small: Bytes::from(vec![b'x'; SMALL]),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, api) = (acceptor.clone(), Arc::clone(&api));
        tokio::spawn(async move {
            // A client that goes away is its own affair: the load counts what it did not get.
            let _ = serve(stream, &acceptor, api).await;
        });
    }
}

async fn serve(stream: TcpStream, acceptor: &TlsAcceptor, api: Arc<Api>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(api.answer(request).await) }
    });
    let stream = TokioIo::new(stream);
    if h2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(stream, service)
            .await?;
    } else {
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(stream, service)
            .await?;
    }
    Ok(())
}

impl Api {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let mut sent = request.headers().get_all(header::AUTHORIZATION).iter();
        if sent.next() != Some(&self.authorization) || sent.next().is_some() {
            return status(StatusCode::UNAUTHORIZED);
        }
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/small") => {
                let mut response = Response::new(Either::Left(Full::new(self.small.clone())));
                response.headers_mut().insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                );
                response
            }
            (&Method::POST, "/upload" | "/json") => match drain(request.into_body()).await {
                Ok(bytes) => Response::new(Either::Left(Full::new(Bytes::from(bytes.to_string())))),
                Err(_) => status(StatusCode::BAD_REQUEST),
            },
            // What another workload must not pay for.
            (&Method::GET, "/rejected") => status(StatusCode::UNAUTHORIZED),
            (&Method::GET, path) => match path.strip_prefix("/download/").map(str::parse) {
                Some(Ok(bytes)) => {
                    let mut response = Response::new(Either::Right(Repeated::new(bytes)));
                    response.headers_mut().insert(
                        header::CONTENT_TYPE,
                        HeaderValue::from_static("application/octet-stream"),
                    );
                    response
                }
                Some(Err(_)) | None => status(StatusCode::NOT_FOUND),
            },
            _ => status(StatusCode::NOT_FOUND),
        }
    }
}

/// Reads a body to its end and counts it.
pub(crate) async fn drain(mut body: Incoming) -> hyper::Result<u64> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
        }
    }
    Ok(bytes)
}

fn status(status: StatusCode) -> Answer {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

fn tls(directory: &Path) -> anyhow::Result<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(directory.join(files::CERTIFICATE))?;
    let key = PrivateKeyDer::from_pem_file(directory.join(files::KEY))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .context("the stand-in's certificate does not fit its key")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
