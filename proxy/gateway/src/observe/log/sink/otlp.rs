//! Records as log records of OTLP over gRPC, for a collector of OpenTelemetry.
//!
//! The body is the record as it is in files; what a collector filters and routes by is in attributes, with the names of
//! the semantic conventions where there is one.

use std::{fs, io, path::PathBuf, time::Duration};

use countersign_config::model::Collector;
use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use serde_json::Value;
use tokio::runtime::{self, Runtime};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the collector may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Sends records to a collector.
#[derive(Debug)]
pub(in crate::observe::log) struct Exporter {
    runtime: Runtime,
    client: LogsServiceClient<Channel>,
    resource: Resource,
}

/// Why nothing can be sent to a collector.
#[derive(Debug, thiserror::Error)]
pub(in crate::observe::log) enum SetupError {
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

impl Exporter {
    /// For a collector that need not be there yet.
    pub(super) fn new(collector: &Collector, gateway: &str) -> Result<Self, SetupError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SetupError::Runtime)?;
        let mut endpoint = Endpoint::from_shared(collector.endpoint.clone())
            .map_err(|_| SetupError::Endpoint)?
            .connect_timeout(CONNECT)
            .timeout(ANSWER);
        if collector.endpoint.starts_with("https:") {
            let mut tls = ClientTlsConfig::new();
            tls = match &collector.ca_file {
                Some(file) => {
                    let pem =
                        fs::read(file).map_err(|error| SetupError::Roots(file.clone(), error))?;
                    tls.ca_certificate(Certificate::from_pem(pem))
                }
                None => tls.with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(|_| SetupError::Endpoint)?;
        }
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        let resource = Resource {
            attributes: vec![
                text("service.name", "countersign"),
                text("service.version", env!("CARGO_PKG_VERSION")),
                text("countersign.gateway", gateway),
            ],
            ..Resource::default()
        };
        Ok(Self {
            client: LogsServiceClient::new(channel),
            resource,
            runtime,
        })
    }

    /// Sends lines, and waits for the collector's answer; returns how many records it refused for good.
    ///
    /// # Errors
    /// With a sentence, when it did not take them.
    pub(super) fn export(&mut self, lines: &[u8]) -> Result<u64, String> {
        let Self {
            runtime,
            client,
            resource,
        } = self;
        let request = request(resource, lines);
        // The collector answers in time, or the sink counts it as away.
        let exporting = async {
            tokio::time::timeout(CONNECT + ANSWER, client.export(request))
                .await
                .map_err(|_| Status::deadline_exceeded(""))?
        };
        match runtime.block_on(exporting) {
            Ok(answer) => {
                let partial = answer.into_inner().partial_success;
                let rejected = partial.map_or(0, |partial| partial.rejected_log_records);
                Ok(u64::try_from(rejected).unwrap_or_default())
            }
            Err(status) => Err(sentence(&status)),
        }
    }
}

/// Why the collector did not take what was sent.
fn sentence(status: &Status) -> String {
    let what = match status.code() {
        Code::Unavailable => "the collector cannot be reached, or takes nothing at the moment",
        Code::DeadlineExceeded | Code::Cancelled => "the collector did not answer in time",
        Code::Unauthenticated | Code::PermissionDenied => {
            "the collector wants an authentication that the gateway does not have"
        }
        Code::Unimplemented => "what answers there takes no logs by OTLP over gRPC",
        Code::ResourceExhausted => "the collector takes less at a time, or has no room",
        Code::Internal | Code::Unknown | Code::DataLoss => {
            "what answers there does not answer as a collector does"
        }
        _ => "the collector refused the records",
    };
    what.to_owned()
}

fn request(resource: &Resource, lines: &[u8]) -> ExportLogsServiceRequest {
    let lines = lines.split(|byte| *byte == b'\n');
    let records = lines.filter(|line| !line.is_empty()).map(record);
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource.clone()),
            scope_logs: vec![ScopeLogs {
                scope: Some(InstrumentationScope {
                    name: "countersign.decisions".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                log_records: records.collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

fn record(line: &[u8]) -> LogRecord {
    let value: Value = serde_json::from_slice(line).unwrap_or_default();
    let time = value["time"].as_str().and_then(|time| time.parse().ok());
    let time = time.map_or(0, |time: Timestamp| {
        u64::try_from(time.as_nanosecond()).unwrap_or_default()
    });
    let severity = severity(&value);
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: severity.into(),
        severity_text: severity
            .as_str_name()
            .trim_start_matches("SEVERITY_NUMBER_")
            .to_owned(),
        body: Some(AnyValue {
            value: Some(Any::StringValue(String::from_utf8_lossy(line).into_owned())),
        }),
        attributes: attributes(&value),
        trace_id: trace_id(&value).unwrap_or_default(),
        event_name: value["schema"].as_str().unwrap_or_default().to_owned(),
        ..LogRecord::default()
    }
}

fn severity(value: &Value) -> SeverityNumber {
    let outcome = value["outcome"].as_str();
    let event = value["event"].as_str();
    let schema = value["schema"].as_str().unwrap_or_default();
    match (outcome, event) {
        (Some("failed"), _) | (_, Some("reload_rejected")) => SeverityNumber::Error,
        (Some("refused"), _) => SeverityNumber::Warn,
        _ if schema.starts_with("countersign.dropped/") => SeverityNumber::Error,
        _ if schema.starts_with("countersign.summary/") => SeverityNumber::Warn,
        _ => SeverityNumber::Info,
    }
}

/// The trace of the caller, as bytes.
fn trace_id(value: &Value) -> Option<Vec<u8>> {
    let text = value["trace_id"].as_str()?;
    let id = u128::from_str_radix(text, 16).ok()?;
    (text.len() == 32).then(|| id.to_be_bytes().to_vec())
}

fn attributes(value: &Value) -> Vec<KeyValue> {
    const TEXTS: [(&str, &str); 18] = [
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
        ("http.request.method", "/target/method"),
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

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Any::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Any::IntValue(value))
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_its_severity_its_trace_and_names_to_filter_by() {
        let line = br#"{"schema":"countersign.decision/v1","time":"2026-11-23T05:10:03.412Z","id":"0194","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","outcome":"refused","reason":"request_not_allowed","blame":"operator","caller":{"subject":"system:serviceaccount:qa:nightly","pod":"nightly-1"},"target":{"authority":"slack.com:443","method":"POST","path":"/api/x"},"revision":"9f2c1a","upstream":null}"#;
        let record = record(line);
        assert_eq!(record.time_unix_nano, 1_795_410_603_412_000_000);
        assert_eq!(
            (&*record.severity_text, record.trace_id.len()),
            ("WARN", 16)
        );
        assert_eq!(record.event_name, "countersign.decision/v1");
        let Some(Any::StringValue(body)) = record.body.and_then(|body| body.value) else {
            panic!("the body is a text");
        };
        assert_eq!(body.as_bytes(), line);
        let has = |wanted: &KeyValue| record.attributes.contains(wanted);
        for wanted in [
            text("error.type", "request_not_allowed"),
            text("k8s.namespace.name", "qa"),
            text("server.address", "slack.com"),
            number("server.port", 443),
            text("countersign.revision", "9f2c1a"),
        ] {
            assert!(has(&wanted), "{wanted:?} is not in {:?}", record.attributes);
        }
        assert!(
            record
                .attributes
                .iter()
                .all(|one| !one.key.contains("status"))
        );
    }

    #[test]
    fn what_is_no_record_is_sent_all_the_same() {
        let record = record(b"not JSON");
        assert_eq!((record.time_unix_nano, &*record.severity_text), (0, "INFO"));
        assert!(record.attributes.is_empty());
    }
}
