//! Records as log records of OTLP over gRPC, for a collector of OpenTelemetry.
//!
//! The body is the record as it is in files; what a collector filters and routes by is in attributes, with the names of
//! the semantic conventions where there is one.

use countersign_config::model::Collector;
use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::observe::otlp::{self, SetupError};

/// Sends records to a collector.
#[derive(Debug)]
pub(in crate::observe::log) struct Exporter {
    runtime: Runtime,
    client: LogsServiceClient<Channel>,
    resource: Resource,
}

impl Exporter {
    /// For a collector that need not be there yet.
    pub(super) fn new(collector: &Collector, gateway: &str) -> Result<Self, SetupError> {
        let runtime = otlp::runtime()?;
        let channel = otlp::channel(collector, &runtime)?;
        Ok(Self {
            client: LogsServiceClient::new(channel),
            resource: otlp::resource(gateway),
            runtime,
        })
    }

    /// Sends lines, and waits for the collector's answer; returns how many records it refused for good.
    ///
    /// # Errors
    /// With a sentence, when it did not take them.
    pub(super) fn export(&mut self, lines: &[u8]) -> Result<u64, String> {
        let request = request(&self.resource, lines);
        let answer = otlp::answer(&self.runtime, self.client.export(request), "records")?;
        let rejected = answer
            .partial_success
            .map_or(0, |partial| partial.rejected_log_records);
        Ok(u64::try_from(rejected).unwrap_or_default())
    }
}

fn request(resource: &Resource, lines: &[u8]) -> ExportLogsServiceRequest {
    let lines = lines.split(|byte| *byte == b'\n');
    let records = lines.filter(|line| !line.is_empty()).map(record);
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource.clone()),
            scope_logs: vec![ScopeLogs {
                scope: Some(otlp::scope("countersign.decisions")),
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
        attributes: otlp::attributes(&value),
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

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::KeyValue;

    use super::*;
    use crate::observe::otlp::{number, text};

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
