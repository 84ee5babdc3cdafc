//! A gateway between clients and APIs that speak byte for byte.

use std::time::Duration;

use bytes::Bytes;
use countersign_config::host::Host;
use countersign_tests::{
    client::{Answer, Failure, Stream},
    environment::DASHBOARD,
    fake::Protocol,
    resources::{Resource, Resources},
};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::client::TlsStream;

use super::{
    frames::{self, Fields},
    scripted::Scripted,
};
use crate::harness::{TestBed, exchange, soon};

/// An API that speaks HTTP/1.1 by script, and one that speaks HTTP/2.
pub(super) const H1: &str = "h1.example.test";
pub(super) const H2: &str = "h2.example.test";

/// What an operator writes so that the dashboard may use them.
fn resources() -> Resources {
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
    Resources::from([
        Resource::target("scripted", &[H1, H2]).bearer(),
        Resource::credential("scripted", "scripted").token_file("scripted"),
        Resource::access("dashboard-uses-scripted", DASHBOARD, "scripted")
            .credential_named("scripted")
            .allow(json!({"methods": methods, "paths": ["/**"]})),
    ])
}

pub(super) struct Bench {
    pub(super) bed: TestBed,
    pub(super) h1: Scripted,
    pub(super) h2: Scripted,
    /// How many records were looked at.
    read: usize,
}

/// What a client of HTTP/2 sees of its first stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer, which has ended.
    Answered,
    /// `RST_STREAM`, with its code.
    Reset(u32),
    /// GOAWAY, with its code, or the end of the connection.
    Over,
}

impl Bench {
    pub(super) async fn start() -> anyhow::Result<Self> {
        Self::with("").await
    }

    /// With more lines of the gateway's `spec`.
    pub(super) async fn with(spec: &str) -> anyhow::Result<Self> {
        let mut apis = Vec::new();
        let bed = TestBed::builder()
            .spec(spec)
            .tunnel_unmatched()
            .prepare(|env, gateway| {
                env.write_secret("scripted", "scripted-0f1e2d3c4b5a69788796a5b4c3d2e1f0")?;
                env.write_policy("scripted.yaml", resources())?;
                for (host, protocol) in [(H1, Protocol::Http1), (H2, Protocol::Http2)] {
                    let api = Scripted::start(&env.authority, host, protocol)?;
                    let name = Host::parse(host)?;
                    gateway.upstream.resolve.insert((name, 443), api.address);
                    apis.push(api);
                }
                Ok(())
            })
            .start()
            .await?;
        let h2 = apis.pop().expect("two APIs");
        let h1 = apis.pop().expect("two APIs");
        Ok(Self {
            bed,
            h1,
            h2,
            read: 0,
        })
    }

    /// A connection to `host` through an intercepted tunnel.
    pub(super) async fn tunnel(
        &self,
        host: &str,
        protocol: Protocol,
    ) -> anyhow::Result<TlsStream<Stream>> {
        Ok(self.bed.client().over(protocol).tls_stream(host).await?)
    }

    /// What comes back by HTTP/1.1 for these bytes, until the gateway closes.
    pub(super) async fn talk(&self, host: &str, bytes: &str) -> anyhow::Result<String> {
        let mut stream = self.tunnel(host, Protocol::Http1).await?;
        exchange(&mut stream, bytes).await
    }

    /// What comes back for bytes to the proxy itself; `TOKEN` is the pod's.
    pub(super) async fn to_proxy(&self, bytes: &str) -> anyhow::Result<String> {
        self.bed.to_proxy(bytes).await
    }

    /// An answer to an honest request.
    pub(super) async fn ask(
        &self,
        protocol: Protocol,
        method: Method,
        host: &str,
    ) -> anyhow::Result<Result<Answer, Failure>> {
        let mut request = Request::new(Full::<Bytes>::default());
        *request.method_mut() = method;
        *request.uri_mut() = format!("https://{host}/asked").parse()?;
        soon("an answer", self.bed.client().over(protocol).send(request)).await
    }

    /// What a client of HTTP/2 sees of stream 1 when it sends these fields, and data behind them.
    pub(super) async fn frames(
        &self,
        host: &str,
        fields: Fields<'_>,
        data: Option<&[u8]>,
    ) -> anyhow::Result<Outcome> {
        let mut bytes = frames::headers(1, fields, data.is_none());
        bytes.extend(
            data.map(|data| frames::data(1, data, true))
                .unwrap_or_default(),
        );
        self.raw_frames(host, &bytes).await
    }

    pub(super) async fn raw_frames(&self, host: &str, bytes: &[u8]) -> anyhow::Result<Outcome> {
        let mut stream = self.tunnel(host, Protocol::Http2).await?;
        stream.write_all(frames::PREFACE).await?;
        stream.write_all(&frames::settings()).await?;
        stream.write_all(bytes).await?;
        stream.flush().await?;
        let outcome = async {
            // The end of the connection is one of the outcomes.
            while let Ok(frame) = frames::read(&mut stream).await {
                let ended = frame.flags & frames::END_STREAM > 0;
                match (frame.kind, frame.id) {
                    (frames::RST_STREAM, 1) => {
                        let code = frame.payload.first_chunk::<4>();
                        return Outcome::Reset(code.copied().map_or(0, u32::from_be_bytes));
                    }
                    (frames::GOAWAY, 0) => return Outcome::Over,
                    (frames::HEADERS | frames::DATA, 1) if ended => return Outcome::Answered,
                    _ => {}
                }
            }
            Outcome::Over
        };
        soon("an outcome", outcome).await
    }

    /// The next record.
    pub(super) async fn record(&mut self) -> anyhow::Result<Value> {
        let next = async {
            loop {
                if let Some(record) = self.bed.gateway.decisions().all().get(self.read) {
                    return record.clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let record = soon("a record", next).await?;
        self.read += 1;
        Ok(record)
    }

    /// The next record, which is the only one.
    pub(super) async fn only_record(&mut self) -> anyhow::Result<Value> {
        let record = self.record().await?;
        let more = self.bed.gateway.decisions().all().split_off(self.read);
        anyhow::ensure!(more.is_empty(), "{record} and {more:?}");
        Ok(record)
    }

    /// The reasons of the next records, so many of them, after these frames on a new connection.
    pub(super) async fn recorded_of(
        &mut self,
        stream: &mut TlsStream<Stream>,
        bytes: &[u8],
        count: usize,
    ) -> anyhow::Result<Vec<String>> {
        stream.write_all(frames::PREFACE).await?;
        stream.write_all(&frames::settings()).await?;
        stream.write_all(bytes).await?;
        stream.flush().await?;
        let mut reasons = Vec::new();
        for _ in 0..count {
            let record = self.record().await?;
            reasons.push(record["reason"].as_str().unwrap_or_default().to_owned());
        }
        let more = self.bed.gateway.decisions().all().split_off(self.read);
        anyhow::ensure!(more.is_empty(), "{reasons:?} and {more:?}");
        Ok(reasons)
    }

    /// Forgets the records so far.
    pub(super) fn forget(&mut self) {
        self.read = self.bed.gateway.decisions().all().len();
    }
}
