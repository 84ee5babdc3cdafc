//! The nightly dashboard, allowed all that the SDK tests call.

use serde_json::json;

use crate::resources::{Resource, Resources};

/// The one workload that every environment has.
pub const DASHBOARD: &str = "nightly-dashboard";

pub(super) fn resources() -> Resources {
    Resources::from([
        Resource::workload(DASHBOARD),
        Resource::credential("qase-reader", "qase").token_file("qase"),
        Resource::credential("slack-bot", "slack").token_file("slack-bot"),
        Resource::credential("slack-app", "slack").token_file("slack-app"),
        Resource::credential("slack-webhook", "slack").token_file("slack-webhook"),
        reads_qase(),
        posts_to_slack(),
    ])
}

fn reads_qase() -> Resource {
    let read = [
        "/v1/project/*",
        "/v1/run/**",
        "/v1/result/**",
        "/v1/defect/**",
    ];
    let written = [
        "/v1/run/*",
        "/v1/run/*/*/complete",
        "/v1/result/**",
        "/v1/attachment/*",
        "/v2/*/run/*/results",
    ];
    Resource::access("dashboard-reads-qase", DASHBOARD, "qase")
        .credential_named("qase-reader")
        .allow(json!({"methods": ["GET"], "paths": read}))
        .allow(json!({"methods": ["POST"], "paths": written}))
}

fn posts_to_slack() -> Resource {
    let credentials = json!({"bot": "slack-bot", "app": "slack-app", "webhook": "slack-webhook"});
    let methods = [
        "/api/auth.test",
        "/api/chat.postMessage",
        "/api/conversations.history",
        "/api/files.getUploadURLExternal",
        "/api/files.completeUploadExternal",
        "/api/files.info",
        "/api/apps.connections.open",
    ];
    let rule = |host: &str, methods: &[&str], paths: &[&str]| json!({"hosts": [host], "methods": methods, "paths": paths});
    Resource::access("dashboard-posts-to-slack", DASHBOARD, "slack")
        .with("credentials", credentials)
        .allow(rule("slack.com", &["POST", "GET"], &methods))
        .allow(rule("files.slack.com", &["POST"], &["/upload/v1/**"]))
        .allow(rule("files.slack.com", &["GET"], &["/files-pri/**"]))
        .allow(rule(
            "hooks.slack.com",
            &["POST"],
            &["/services/countersign/dashboard"],
        ))
        .allow(rule("wss*.slack.com", &["GET"], &["/link/"]))
}
