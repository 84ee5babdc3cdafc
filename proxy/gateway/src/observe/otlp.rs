//! What logs and spans have in common when they go to a collector of OpenTelemetry: the connection, the resource, and the
//! attributes that are made from a record.

use std::{fs, io, path::PathBuf, time::Duration};

use countersign_config::model::Collector;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    resource::v1::Resource,
};
use serde_json::Value;
use tokio::runtime::{self, Runtime};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// How long a connection may take.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// How long the collector may take for an answer.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// Why nothing can be sent to a collector.
#[derive(Debug, thiserror::Error)]
pub(super) enum SetupError {
    /// No runtime.
    #[error("the system gave no runtime")]
    Runtime(#[source] io::Error),
    /// The file of roots.
    #[error("{} (caFile) cannot be read", .0.display())]
    Roots(PathBuf, #[source] io::Error),
    /// The URL, or its TLS.
    #[error("its URL or its roots cannot be used")]
    Endpoint,
}

/// A runtime for the thread that sends.
pub(super) fn runtime() -> Result<Runtime, SetupError> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SetupError::Runtime)
}

/// A channel to a collector that need not be there yet.
pub(super) fn channel(collector: &Collector, runtime: &Runtime) -> Result<Channel, SetupError> {
    let mut endpoint = Endpoint::from_shared(collector.endpoint.clone())
        .map_err(|_| SetupError::Endpoint)?
        .connect_timeout(CONNECT)
        .timeout(ANSWER);
    if collector.endpoint.starts_with("https:") {
        let mut tls = ClientTlsConfig::new();
        tls = match roots(collector)? {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        endpoint = endpoint.tls_config(tls).map_err(|_| SetupError::Endpoint)?;
    }
    let _inside = runtime.enter();
    Ok(endpoint.connect_lazy())
}

/// The roots of a collector's own, as PEM.
pub(super) fn roots(collector: &Collector) -> Result<Option<Vec<u8>>, SetupError> {
    let Some(file) = &collector.ca_file else {
        return Ok(None);
    };
    let read = fs::read(file).map(Some);
    read.map_err(|error| SetupError::Roots(file.clone(), error))
}

/// Waits for the collector's answer, which comes in time or counts as none.
///
/// # Errors
/// With a sentence, when the collector did not take what was sent, which is so many `what`.
pub(super) fn answer<T>(
    runtime: &Runtime,
    exporting: impl Future<Output = Result<tonic::Response<T>, Status>>,
    what: &str,
) -> Result<T, String> {
    let in_time = async {
        tokio::time::timeout(CONNECT + ANSWER, exporting)
            .await
            .map_err(|_| Status::deadline_exceeded(""))?
    };
    match runtime.block_on(in_time) {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(sentence(&status, what)),
    }
}

/// Who sends.
pub(super) fn resource(gateway: &str) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", "countersign"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("countersign.gateway", gateway),
        ],
        ..Resource::default()
    }
}

/// What part of the gateway made it.
pub(super) fn scope(name: &str) -> InstrumentationScope {
    InstrumentationScope {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Why the collector did not take what was sent.
fn sentence(status: &Status, what: &str) -> String {
    let what = match status.code() {
        Code::Unavailable => "the collector cannot be reached, or takes nothing at the moment",
        Code::DeadlineExceeded | Code::Cancelled => "the collector did not answer in time",
        Code::Unauthenticated | Code::PermissionDenied => {
            "the collector wants an authentication that the gateway does not have"
        }
        Code::Unimplemented => {
            return format!("what answers there takes no {what} by OTLP over gRPC");
        }
        Code::ResourceExhausted => "the collector takes less at a time, or has no room",
        Code::Internal | Code::Unknown | Code::DataLoss => {
            "what answers there does not answer as a collector does"
        }
        _ => return format!("the collector refused the {what}"),
    };
    what.to_owned()
}

/// What a record says, with the names of the semantic conventions where there is one.
pub(super) fn attributes(value: &Value) -> Vec<KeyValue> {
    const TEXTS: [(&str, &str); 17] = [
        ("countersign.record.id", "/id"),
        ("countersign.outcome", "/outcome"),
        ("countersign.reason", "/reason"),
        ("countersign.blame", "/blame"),
        ("countersign.event", "/event"),
        ("countersign.caller.subject", "/caller/subject"),
        ("countersign.workload", "/workload/name"),
        ("countersign.workload.owner", "/workload/owner"),
        ("countersign.policy", "/policy/name"),
        ("countersign.target", "/target/name"),
        ("countersign.credential", "/credential/name"),
        ("url.path", "/target/path"),
        ("k8s.pod.name", "/caller/pod"),
        ("k8s.node.name", "/caller/kubernetes/node"),
        ("k8s.job.name", "/caller/kubernetes/job"),
        ("k8s.cronjob.name", "/caller/kubernetes/cron_job"),
        ("network.peer.address", "/upstream/address"),
    ];
    let mut all = Vec::new();
    for (name, pointer) in TEXTS {
        if let Some(found) = value.pointer(pointer).and_then(Value::as_str) {
            all.push(text(name, found));
        }
    }
    if let Some(name) = value.pointer("/target/method").and_then(Value::as_str) {
        all.extend(method(name));
    }
    let revision = value.pointer("/policy/revision");
    let revision = revision.or_else(|| value.get("revision"));
    if let Some(revision) = revision.and_then(Value::as_str) {
        all.push(text("countersign.revision", revision));
    }
    if let Some(reason) = value["reason"]
        .as_str()
        .filter(|_| value["blame"].is_string())
    {
        all.push(text("error.type", reason));
    }
    let subject = value.pointer("/caller/subject").and_then(Value::as_str);
    let account = subject.and_then(|subject| subject.strip_prefix("system:serviceaccount:"));
    if let Some((namespace, _)) = account.and_then(|account| account.split_once(':')) {
        all.push(text("k8s.namespace.name", namespace));
    }
    let authority = value.pointer("/target/authority").and_then(Value::as_str);
    if let Some((host, port)) = authority.and_then(|authority| authority.rsplit_once(':')) {
        all.push(text("server.address", host));
        all.extend(port.parse().ok().map(|port| number("server.port", port)));
    }
    let status = value.pointer("/upstream/status").and_then(Value::as_i64);
    all.extend(status.map(|status| number("http.response.status_code", status)));
    all
}

/// A method; one that is not among the known ones is whatever its caller wrote, and no name to filter by.
fn method(name: &str) -> impl Iterator<Item = KeyValue> {
    let is_known = is_known_method(name);
    let first = text(
        "http.request.method",
        if is_known { name } else { "_OTHER" },
    );
    let original = (!is_known).then(|| text("http.request.method_original", name));
    [Some(first), original].into_iter().flatten()
}

/// Whether a method is one of those that the semantic conventions know.
pub(super) fn is_known_method(name: &str) -> bool {
    const KNOWN: [&str; 9] = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ];
    KNOWN.contains(&name)
}

/// A text.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Any::StringValue(value.to_owned()))
}

/// A number.
pub(super) fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Any::IntValue(value))
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
