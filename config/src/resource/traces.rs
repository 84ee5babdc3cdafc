//! `observe.traces` of a `Gateway`, and `traceparent` of a `TargetService`: how requests are traced.

use schemars::JsonSchema;
use serde::Deserialize;

/// Where spans of requests go. Without it none are made.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TracesSpec {
    /// The collector's URL, such as `http://otel-collector:4317`. With `protocol: http` and no path, `/v1/traces` is added.
    pub endpoint: String,
    /// How the collector is spoken to. Default: `grpc`.
    pub protocol: Option<OtlpProtocolSpec>,
    /// PEM roots for its certificate instead of the system's.
    pub ca_file: Option<String>,
    /// Which requests are traced.
    pub sampling: Option<SamplingSpec>,
}

/// The transport of OTLP.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OtlpProtocolSpec {
    /// gRPC, mostly at port 4317.
    Grpc,
    /// Protobuf over HTTP, mostly at port 4318.
    Http,
}

/// Which requests are traced. A caller's `traceparent` decides about its request.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SamplingSpec {
    /// The part of the requests without a `traceparent` that is traced: 0 to 1. Default: 0.1.
    pub ratio: Option<f64>,
    /// Whether every request that is refused or fails is traced. Default: `true`.
    pub refusals: Option<bool>,
}

/// What an API gets to know of the trace that a request belongs to.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TraceparentSpec {
    /// The headers `traceparent` and `tracestate`.
    Forward,
    /// Nothing: both are removed.
    Drop,
}
