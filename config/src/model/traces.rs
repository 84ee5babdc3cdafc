//! Collectors of OpenTelemetry, and how requests are traced.

use std::path::PathBuf;

use http::HeaderName;

/// The header with the trace that a request belongs to (W3C Trace Context, section 3.2).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header with what tracing systems add to it (section 3.3).
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A collector that is spoken to by OTLP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Its URL, `http` or `https`.
    pub endpoint: String,
    /// PEM roots for its certificate instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Where spans of requests go, and of which.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// Where they go.
    pub collector: Collector,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// The part of the requests without a `traceparent` that is traced: 0 to 1.
    pub ratio: f64,
    /// Whether every request that is refused or fails is traced.
    pub refusals: bool,
}

impl Traces {
    /// The part that is traced unless the operator says otherwise.
    pub const RATIO: f64 = 0.1;
}

/// The transport of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http,
}
