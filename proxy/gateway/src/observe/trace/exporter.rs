//! Sends spans to a collector by OTLP, over gRPC or as protobuf over HTTP.

use std::sync::Arc;

use countersign_config::model::{OtlpProtocol, Traces};
use countersign_core::{chain, ciphers};
use http::{StatusCode, header::CONTENT_TYPE};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_client::TraceServiceClient,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use reqwest::redirect::Policy;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use super::{
    super::otlp::{self, ANSWER, CONNECT, SetupError},
    spans::Finished,
};

/// The longest answer of a collector that is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// What an answer that is none says.
const NO_COLLECTOR: &str = "what answers there does not answer as a collector does";

/// The sending end.
#[derive(Debug)]
pub(super) struct Exporter {
    runtime: Runtime,
    way: Way,
    resource: Resource,
}

#[derive(Debug)]
enum Way {
    Grpc(TraceServiceClient<Channel>),
    Http(reqwest::Client, String),
}

impl Exporter {
    /// For a collector that need not be there yet.
    pub(super) fn new(traces: &Traces, gateway: &str) -> Result<Self, SetupError> {
        let runtime = otlp::runtime()?;
        let collector = &traces.collector;
        let way = match traces.protocol {
            OtlpProtocol::Grpc => {
                let channel = otlp::channel(collector, &runtime)?;
                Way::Grpc(TraceServiceClient::new(channel))
            }
            OtlpProtocol::Http => {
                let roots = otlp::roots(collector)?;
                Way::Http(client(roots.as_deref())?, collector.endpoint.clone())
            }
        };
        Ok(Self {
            runtime,
            way,
            resource: otlp::resource(gateway),
        })
    }

    /// Sends requests, and waits for the collector's answer; returns how many spans it refused for good.
    ///
    /// # Errors
    /// With a sentence, when it did not take them.
    pub(super) fn export(&mut self, requests: Vec<Finished>) -> Result<u64, String> {
        let spans = requests
            .into_iter()
            .flat_map(Finished::into_spans)
            .collect();
        let request = message(&self.resource, spans);
        let partial = match &mut self.way {
            Way::Grpc(client) => {
                otlp::answer(&self.runtime, client.export(request), "spans")?.partial_success
            }
            Way::Http(client, url) => {
                let body = request.encode_to_vec();
                self.runtime.block_on(post(client, url, body))?
            }
        };
        let rejected = partial.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(rejected).unwrap_or_default())
    }
}

fn message(resource: &Resource, spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![ScopeSpans {
                scope: Some(otlp::scope("countersign.requests")),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// A client that trusts only these roots, or the system's.
fn client(roots: Option<&[u8]>) -> Result<reqwest::Client, SetupError> {
    let roots = match roots {
        Some(pem) => chain::of_pem(pem).ok_or(SetupError::Endpoint)?,
        None => chain::system().0,
    };
    let tls = chain::trusting(Arc::new(roots), ciphers::provider());
    let mut tls = tls.map_err(|_| SetupError::Endpoint)?.with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .timeout(CONNECT + ANSWER)
        .build()
        .map_err(|_| SetupError::Endpoint)
}

async fn post(
    client: &reqwest::Client,
    url: &str,
    body: Vec<u8>,
) -> Result<Option<ExportTracePartialSuccess>, String> {
    const PROTOBUF: &str = "application/x-protobuf";
    let sent = client
        .post(url)
        .header(CONTENT_TYPE, PROTOBUF)
        .body(body)
        .send();
    let mut response = sent.await.map_err(|error| unsent(&error))?;
    if !response.status().is_success() {
        return Err(declined(response.status()));
    }
    let mut read = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unsent(&error))? {
        read.extend_from_slice(&chunk);
        if read.len() > ANSWER_BYTES {
            return Err(NO_COLLECTOR.to_owned());
        }
    }
    let kind = response.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| !kind.as_bytes().starts_with(PROTOBUF.as_bytes())) {
        return Err(NO_COLLECTOR.to_owned());
    }
    let answer = ExportTraceServiceResponse::decode(&*read);
    let answer = answer.map_err(|_| NO_COLLECTOR.to_owned())?;
    Ok(answer.partial_success)
}

/// Why nothing was sent, or no answer came.
fn unsent(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "the collector did not answer in time"
    } else if error.is_connect() {
        "the collector cannot be reached"
    } else {
        NO_COLLECTOR
    };
    what.to_owned()
}

/// Why the collector took nothing, by its status.
fn declined(status: StatusCode) -> String {
    let why = match status.as_u16() {
        401 | 403 => "the collector wants an authentication that the gateway does not have",
        404 | 405 | 415 => "what answers there takes no spans by OTLP over HTTP",
        413 => "the collector takes less at a time",
        429 | 502..=504 => "the collector takes nothing at the moment",
        _ => "the collector refused the spans",
    };
    format!("{why} (status {})", status.as_u16())
}
