//! A collector of OpenTelemetry that keeps the spans it gets, by gRPC and over HTTP.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value as Any,
    trace::v1::Span,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::{
    Status,
    transport::{Server, server::TcpIncoming},
};

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    /// The word in YAML.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct Collector {
    received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        self.keep(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(super) async fn serve(&self, protocol: Protocol) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        match protocol {
            Protocol::Grpc => {
                let service = TraceServiceServer::new(self.clone());
                let serving = Server::builder()
                    .add_service(service)
                    .serve_with_incoming(TcpIncoming::from(listener));
                tokio::spawn(serving);
            }
            Protocol::Http => {
                tokio::spawn(self.clone().serve_http(listener));
            }
        }
        Ok(address)
    }

    async fn serve_http(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let collector = self.clone();
            let service = service_fn(move |request| {
                let collector = collector.clone();
                async move { Ok::<_, Infallible>(collector.answer(request).await) }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(serving);
        }
    }

    /// Takes what the specification of OTLP over HTTP has, and nothing else.
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        const PROTOBUF: &str = "application/x-protobuf";
        let is_protobuf = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind == PROTOBUF);
        let status = match (request.method(), request.uri().path()) {
            (&Method::POST, "/v1/traces") if is_protobuf => StatusCode::OK,
            (&Method::POST, "/v1/traces") => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::NOT_FOUND,
        };
        let body = request.into_body().collect().await;
        let body = body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let (status, answer) = match ExportTraceServiceRequest::decode(body) {
            Ok(message) if status == StatusCode::OK => {
                self.keep(message);
                (
                    status,
                    ExportTraceServiceResponse::default().encode_to_vec(),
                )
            }
            Ok(_) => (status, Vec::new()),
            Err(_) => (StatusCode::BAD_REQUEST, Vec::new()),
        };
        let mut response = Response::new(Full::from(answer));
        *response.status_mut() = status;
        let kind = http::HeaderValue::from_static(PROTOBUF);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    fn keep(&self, message: ExportTraceServiceRequest) {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(message);
    }

    pub(super) fn messages(&self) -> Vec<ExportTraceServiceRequest> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.clone()
    }

    /// Every span.
    pub(super) fn spans(&self) -> Vec<Span> {
        let resources = self
            .messages()
            .into_iter()
            .flat_map(|one| one.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The spans of whole requests.
    pub(super) fn requests(&self) -> Vec<Span> {
        let spans = self.spans();
        let is_step = |span: &Span| {
            spans
                .iter()
                .any(|other| other.span_id == span.parent_span_id)
        };
        spans
            .iter()
            .filter(|span| !is_step(span))
            .cloned()
            .collect()
    }

    /// The span of a step of a request.
    pub(super) fn step(&self, of: &Span, name: &str) -> Option<Span> {
        let mut spans = self.spans().into_iter();
        spans.find(|span| span.parent_span_id == of.span_id && span.name == name)
    }
}

/// A text among a span's attributes.
pub(super) fn text(span: &Span, name: &str) -> Option<String> {
    match attribute(span, name)? {
        Any::StringValue(text) => Some(text.clone()),
        other => panic!("{name} is {other:?}"),
    }
}

/// A number among a span's attributes.
pub(super) fn number(span: &Span, name: &str) -> Option<i64> {
    match attribute(span, name)? {
        Any::IntValue(number) => Some(*number),
        other => panic!("{name} is {other:?}"),
    }
}

fn attribute<'s>(span: &'s Span, name: &str) -> Option<&'s Any> {
    let found = span.attributes.iter().find(|one| one.key == name)?;
    found.value.as_ref()?.value.as_ref()
}
