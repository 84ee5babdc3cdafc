//! The findings of a review as events of the Open Cybersecurity Schema Framework, for a SIEM.

use serde_json::{Value, json};

use super::{Finding, Review, Severity, rows::text};

/// The version of the schema.
const VERSION: &str = "1.9.0";

/// Detection Finding, Create.
const CLASS: u64 = 2004;
const CREATE: u64 = 1;

impl Review {
    /// One Detection Finding (2004) a line for each finding. The same finding has the same `uid` in every review.
    pub fn ocsf(&self) -> String {
        let mut lines = String::new();
        for finding in &self.findings {
            lines.push_str(&self.event(finding).to_string());
            lines.push('\n');
        }
        lines
    }

    fn event(&self, finding: &Finding) -> Value {
        let Finding {
            severity,
            code,
            subject,
            owner,
            message,
            remedy,
            standards,
        } = finding;
        let time = self.at.as_millisecond();
        let (kind, name) = subject.split_once(' ').unwrap_or(("", subject));
        json!({
            "class_uid": CLASS,
            "class_name": "Detection Finding",
            "category_uid": CLASS / 1000,
            "category_name": "Findings",
            "activity_id": CREATE,
            "type_uid": CLASS * 100 + CREATE,
            "time": time,
            "severity_id": severity_id(*severity),
            "status_id": 1,
            "message": format!("{subject}: {message}"),
            "metadata": {
                "version": VERSION,
                "product": { "name": "Countersign", "vendor_name": "Countersign", "version": env!("CARGO_PKG_VERSION") },
                "log_name": "countersign.review",
            },
            "finding_info": {
                "uid": format!("{code}/{subject}"),
                "title": code,
                "desc": message,
                "types": [standards.owasp, standards.csf, standards.zero_trust],
                "created_time": time,
            },
            "remediation": { "desc": remedy },
            "resources": [{ "type": kind, "name": name }],
            "unmapped": { "countersign": { "owner": owner, "revision": self.revision, "reviewed": text(self.at) } },
        })
    }
}

fn severity_id(severity: Severity) -> u64 {
    match severity {
        Severity::High => 4,
        Severity::Medium => 3,
        Severity::Low => 2,
    }
}
