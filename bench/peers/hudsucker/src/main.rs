//! hudsucker as its users would write it: intercepts everything, puts one header on, sends it on.
//! No identity, no policy, no record.
//!
//! ```text
//! countersign-bench-hudsucker DIRECTORY LISTEN UPSTREAM
//! ```
//!
//! `DIRECTORY` has the roots of the upstream (`roots.pem`), the credential (`credential`) and a
//! certificate authority (`peer-ca.pem`, `peer-ca.key`).

use std::{
    env,
    error::Error,
    fs,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hudsucker::{
    Body, HttpContext, HttpHandler, Proxy, RequestOrResponse,
    certificate_authority::RcgenAuthority,
    hyper::{
        Request, Uri,
        header::{AUTHORIZATION, HeaderValue},
    },
    rcgen::{Issuer, KeyPair},
};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

/// Dials one address, whatever is asked for: the stand-in has no name that resolves.
#[derive(Clone)]
struct Fixed(SocketAddr);

impl Service<Uri> for Fixed {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

#[derive(Clone)]
struct Inject(HeaderValue);

impl HttpHandler for Inject {
    async fn handle_request(
        &mut self,
        _: &HttpContext,
        mut request: Request<Body>,
    ) -> RequestOrResponse {
        request.headers_mut().insert(AUTHORIZATION, self.0.clone());
        request.into()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [directory, listen, upstream] = arguments.as_slice() else {
        return Err("usage: DIRECTORY LISTEN UPSTREAM".into());
    };
    let read = |name: &str| fs::read_to_string(format!("{directory}/{name}"));
    let key = KeyPair::from_pem(&read("peer-ca.key")?)?;
    let issuer = Issuer::from_ca_cert_pem(&read("peer-ca.pem")?, key)?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(read("roots.pem")?.as_bytes()) {
        roots.add(root?)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_all_versions()
        .wrap_connector(Fixed(upstream.parse()?));
    let credential = read("credential")?;
    let listener = TcpListener::bind(listen.parse::<SocketAddr>()?).await?;
    let proxy = Proxy::builder()
        .with_listener(listener)
        .with_ca(RcgenAuthority::new(
            issuer,
            1_000,
            aws_lc_rs::default_provider(),
        ))
        .with_http_connector(connector)
        .with_http_handler(Inject(format!("Bearer {}", credential.trim()).parse()?))
        .build()?;
    proxy.start().await?;
    Ok(())
}
