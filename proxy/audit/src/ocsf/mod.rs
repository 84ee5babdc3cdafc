//! Records as events of the Open Cybersecurity Schema Framework (OCSF 1.9), for SIEMs.
//!
//! What was sent on is an HTTP Activity (4002), what was refused an Authorize Session (3003), and what happened to
//! the gateway an Application Lifecycle (6002). The record as it is in files is under `unmapped`, so that nothing is
//! lost. Sinks of a gateway write them, and commands that show records.

mod attest;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use attest::EventChain;

/// The version of the schema.
const VERSION: &str = "1.9.0";

const HTTP_ACTIVITY: u64 = 4002;
const AUTHORIZE_SESSION: u64 = 3003;
const APPLICATION_LIFECYCLE: u64 = 6002;
const BASE_EVENT: u64 = 0;

/// `Other`, in most lists of OCSF.
const OTHER: u64 = 99;

/// The events of some lines of a decision log, a line each, as the next ones of a chain.
pub fn events(lines: &[u8], chain: &mut EventChain) -> Vec<u8> {
    let mut events = Vec::with_capacity(lines.len() * 2);
    let lines = lines.split(|byte| *byte == b'\n');
    for line in lines.filter(|line| !line.is_empty()) {
        let record: Value = serde_json::from_slice(line).unwrap_or_default();
        let mut event = event(&record);
        chain.attest(&mut event);
        events.extend_from_slice(event.to_string().as_bytes());
        events.push(b'\n');
    }
    events
}

fn event(record: &Value) -> Value {
    let (class, activity) = class(record);
    let mut event = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            event.insert(name.to_owned(), value);
        }
    };
    put("class_uid", json!(class));
    put("category_uid", json!(class / 1000));
    put("activity_id", json!(activity));
    put("type_uid", json!(class * 100 + activity));
    put("time", time(&record["time"]));
    put("severity_id", json!(severity(record)));
    put("metadata", metadata(record));
    put("message", message(record));
    match class {
        HTTP_ACTIVITY | AUTHORIZE_SESSION => {
            let refused = class == AUTHORIZE_SESSION;
            let failed = refused || record["outcome"] == "failed";
            put("status_id", json!(if failed { 2 } else { 1 }));
            put("status_code", record["reason"].clone());
            put("status_detail", record["detail"].clone());
            // Of the profile for security controls: allowed or denied; allowed or blocked.
            put("action_id", json!(if refused { 2 } else { 1 }));
            put("disposition_id", json!(if refused { 2 } else { 1 }));
            put("src_endpoint", endpoint(&record["caller"]["client"]));
            put("dst_endpoint", destination(record));
            put("actor", json!({ "user": user(record) }));
            put("http_request", http_request(record));
            if refused {
                put("user", user(record));
            } else {
                put("http_response", http_response(record));
                put("traffic", traffic(record));
                put("duration", duration(record));
            }
            put("policy", policy(record));
        }
        APPLICATION_LIFECYCLE => put("app", product()),
        _ => {}
    }
    put("unmapped", json!({ "countersign": record }));
    Value::Object(event)
}

/// The class and what was done.
fn class(record: &Value) -> (u64, u64) {
    match (record["outcome"].as_str(), record["event"].as_str()) {
        (Some("refused"), _) => (AUTHORIZE_SESSION, OTHER),
        (Some(_), _) => (HTTP_ACTIVITY, method(&record["target"]["method"])),
        (_, Some("started")) => (APPLICATION_LIFECYCLE, 3),
        (_, Some("stopped")) => (APPLICATION_LIFECYCLE, 4),
        (_, Some("reloaded")) => (APPLICATION_LIFECYCLE, 8),
        (_, Some(_)) => (APPLICATION_LIFECYCLE, OTHER),
        (None, None) => (BASE_EVENT, OTHER),
    }
}

fn method(method: &Value) -> u64 {
    // A tunnel has no method.
    match method.as_str().unwrap_or("CONNECT") {
        "CONNECT" => 1,
        "DELETE" => 2,
        "GET" => 3,
        "HEAD" => 4,
        "OPTIONS" => 5,
        "POST" => 6,
        "PUT" => 7,
        "TRACE" => 8,
        _ => OTHER,
    }
}

/// Informational, low, medium or high.
fn severity(record: &Value) -> u64 {
    let schema = record["schema"].as_str().unwrap_or_default();
    match (record["outcome"].as_str(), record["event"].as_str()) {
        (Some("refused" | "failed"), _) => 2,
        (_, Some("reload_rejected")) => 3,
        _ if schema.starts_with("countersign.dropped/") => 4,
        _ => 1,
    }
}

fn time(time: &Value) -> Value {
    let time = time
        .as_str()
        .and_then(|time| time.parse::<Timestamp>().ok());
    time.map_or(json!(0), |time| json!(time.as_millisecond()))
}

fn product() -> Value {
    json!({ "name": "Countersign", "vendor_name": "Countersign", "version": env!("CARGO_PKG_VERSION") })
}

fn metadata(record: &Value) -> Value {
    let mut metadata = json!({
        "version": VERSION,
        "product": product(),
        "profiles": ["network_proxy", "security_control", "record_integrity"],
        "log_name": record["schema"],
    });
    for (name, from) in [("uid", "id"), ("correlation_uid", "trace_id")] {
        if record[from].is_string() {
            metadata[name] = record[from].clone();
        }
    }
    metadata
}

fn message(record: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match (record["outcome"].as_str(), record["event"].as_str()) {
        (Some(outcome), _) => {
            let target = &record["target"];
            let method = target["method"].as_str().unwrap_or("CONNECT");
            let what = format!(
                "{method} {}{}",
                text(&target["authority"]),
                text(&target["path"])
            );
            json!(format!("{what}: {outcome} ({})", text(&record["reason"])))
        }
        (_, Some(event)) => json!(format!("the gateway: {event}")),
        (None, None) => json!(text(&record["schema"])),
    }
}

/// An address and a port.
fn endpoint(address: &Value) -> Value {
    match address
        .as_str()
        .and_then(|text| text.parse::<std::net::SocketAddr>().ok())
    {
        Some(address) => json!({ "ip": address.ip().to_string(), "port": address.port() }),
        None => Value::Null,
    }
}

fn destination(record: &Value) -> Value {
    let authority = record["target"]["authority"].as_str();
    let Some((host, port)) = authority.and_then(|authority| authority.rsplit_once(':')) else {
        return Value::Null;
    };
    let mut destination = json!({ "hostname": host, "svc_name": record["target"]["name"] });
    if let Ok(port) = port.parse::<u16>() {
        destination["port"] = json!(port);
    }
    if let Some(ip) = endpoint(&record["upstream"]["address"]).get("ip") {
        destination["ip"] = ip.clone();
    }
    destination
}

fn user(record: &Value) -> Value {
    let caller = &record["caller"];
    let name = caller["subject"].as_str().unwrap_or("unknown");
    let mut user = json!({ "name": name, "type_id": 4, "type": "Service" });
    if let Some(issuer) = caller["issuer"].as_str() {
        user["domain"] = json!(issuer);
    }
    user
}

fn http_request(record: &Value) -> Value {
    let target = &record["target"];
    let Some((host, port)) = target["authority"]
        .as_str()
        .and_then(|authority| authority.rsplit_once(':'))
    else {
        return Value::Null;
    };
    let mut url = json!({ "hostname": host, "scheme": "https" });
    if let Ok(port) = port.parse::<u16>() {
        url["port"] = json!(port);
    }
    if target["path"].is_string() {
        url["path"] = target["path"].clone();
    }
    json!({ "http_method": target["method"].as_str().unwrap_or("CONNECT"), "url": url, "uid": record["id"] })
}

fn http_response(record: &Value) -> Value {
    match &record["upstream"]["status"] {
        Value::Number(status) => json!({ "code": status }),
        _ => Value::Null,
    }
}

fn traffic(record: &Value) -> Value {
    let bytes = &record["bytes"];
    json!({ "bytes_out": bytes["request"], "bytes_in": bytes["response"] })
}

fn duration(record: &Value) -> Value {
    let total = record["timing_us"]["total"].as_u64();
    total.map_or(Value::Null, |micros| json!(micros / 1000))
}

fn policy(record: &Value) -> Value {
    let policy = &record["policy"];
    if policy["name"].is_string() {
        return json!({ "name": policy["name"], "version": policy["revision"], "is_applied": true });
    }
    match &record["nearest"]["policy"] {
        Value::String(name) => {
            json!({ "name": name, "version": record["revision"], "is_applied": false })
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(record: &Value) -> Value {
        let line = format!("{record}\n");
        let events = events(
            line.as_bytes(),
            &mut EventChain::new("chain".to_owned(), "main"),
        );
        assert!(events.ends_with(b"}\n"));
        serde_json::from_slice(&events).unwrap()
    }

    #[test]
    fn each_kind_of_line_has_its_class() {
        let request = json!({"target": {"name": "slack", "authority": "slack.com:443", "method": "POST", "path": "/api/x"}});
        let with = |more: Value| {
            let mut record = request.clone();
            let more = more.as_object().unwrap().clone();
            record.as_object_mut().unwrap().extend(more);
            made(&record)
        };
        let permitted = with(
            json!({"outcome": "permitted", "reason": "permitted", "time": "2026-11-23T05:10:03.412Z", "upstream": {"status": 200, "address": "192.0.2.7:443"}}),
        );
        assert_eq!(permitted["type_uid"], 400_206);
        assert_eq!(permitted["category_uid"], 4);
        assert_eq!(permitted["time"], 1_795_410_603_412_i64);
        assert_eq!(permitted["http_response"]["code"], 200);
        assert_eq!(permitted["dst_endpoint"]["ip"], "192.0.2.7");
        let refused = with(
            json!({"outcome": "refused", "reason": "request_not_allowed", "nearest": {"policy": "qa/p"}, "revision": "9f"}),
        );
        assert_eq!(refused["type_uid"], 300_399);
        assert_eq!(
            (&refused["status_id"], &refused["action_id"]),
            (&json!(2), &json!(2))
        );
        assert_eq!(
            refused["policy"],
            json!({"name": "qa/p", "version": "9f", "is_applied": false})
        );
        assert_eq!(
            refused["unmapped"]["countersign"]["reason"],
            "request_not_allowed"
        );
        let types = [
            (json!({"event": "started"}), 600_203),
            (json!({"event": "reloaded"}), 600_208),
            (json!({"event": "draining"}), 600_299),
            (json!({"schema": "countersign.dropped/v1"}), 99),
        ];
        for (record, uid) in types {
            let event = made(&record);
            assert_eq!(event["type_uid"], uid, "{event}");
            assert!(event["severity_id"].is_u64() && event["metadata"]["version"] == VERSION);
        }
    }
}
