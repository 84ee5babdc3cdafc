//! The twelve incidents and the four decoys, each as the gateway would tell it; `expected` says what an SRE must be told.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Month, Record, at, workloads::Workload};

/// When the rotation's last value was obtained, and how long a value lives.
fn rotation() -> (Timestamp, SignedDuration, SignedDuration) {
    let life = 11 * 3600;
    let obtained = at(3, 0, 0).as_second() / life * life;
    let obtained = Timestamp::from_second(obtained).expect("a time of the month");
    (
        obtained,
        SignedDuration::from_secs(life),
        SignedDuration::from_hours(12),
    )
}

fn within(time: Timestamp, from: (i64, i64, i64), to: (i64, i64, i64)) -> bool {
    time >= at(from.0, from.1, from.2) && time < at(to.0, to.1, to.2)
}

impl Month {
    /// Writes a request of a workload, changed by whatever is going on at that time.
    pub(super) fn tell(
        &mut self,
        workload: &Workload,
        mut gateway: usize,
        time: Timestamp,
        mut record: Record,
        wanted: &impl Fn(&str) -> bool,
    ) {
        let kind = credentials(workload, time, &mut record, wanted)
            .or_else(|| access(workload, time, &mut record, wanted))
            .or_else(|| elsewhere(workload, time, &mut record, &mut gateway, wanted))
            .or_else(|| decoy(workload, time, &mut record, wanted));
        self.write(gateway, time, kind.unwrap_or("permitted"), record);
    }

    /// What the gateways tell of themselves, and what no usual request shows.
    pub(super) fn tell_events(&mut self, wanted: &impl Fn(&str) -> bool) {
        if wanted("policy typo") {
            let changes = json!([{"change": "changed", "kind": "AccessPolicy", "name": "docs/publish-policy"}]);
            self.reload(at(6, 14, 0), &changes, 1);
            self.reload(at(9, 15, 0), &changes, 1);
        }
        if wanted("gateway memory limit") {
            // It was killed: nothing says that it stopped.
            self.event(1, at(26, 15, 0), "started", &json!({}));
        }
        if wanted("429 storm") {
            self.storm();
        }
        if wanted("rolling restart") {
            self.cut_off();
        }
    }

    /// One workload calls fifty times as often as before.
    fn storm(&mut self) {
        let all = self.workloads.clone();
        let leads = all
            .iter()
            .find(|workload| workload.name == "growth/leads")
            .expect("it is in the table");
        for number in 0..2000 {
            let time = at(16, 10, 0) + SignedDuration::from_millis(number * 3_500);
            let gateway = usize::try_from(number % 3).unwrap_or_default();
            let mut record = self.record(leads, gateway, time, 0);
            let mut kind = "permitted";
            if number > 20 && number % 5 != 0 {
                record.ends("failed", "api_rate_limited", "caller", "slack answered 429, Retry-After: 30; shared/slack-bot is shared by growth/events, docs/publish and others");
                record.answered(Some(429), Some("ratelimited"));
                kind = "upstream";
            }
            self.write(gateway, time, kind, record);
        }
    }

    /// What was in progress when a gateway restarted.
    fn cut_off(&mut self) {
        let all = self.workloads.clone();
        for workload in all
            .iter()
            .filter(|workload| workload.name == "hr/feedback" || workload.name == "web/front")
        {
            for number in 0..4 {
                let time = at(18, 3, 15) + SignedDuration::from_millis(2_000 + number * 10);
                let mut record = self.record(workload, 0, time, 0);
                record.ends(
                    "failed",
                    "draining",
                    "gateway",
                    "the gateway's drain time ended",
                );
                record.answered(None, None);
                self.write(0, time, "upstream", record);
            }
        }
    }
}

/// The incidents of credentials. The kind of the record, if one goes on.
fn credentials(
    workload: &Workload,
    time: Timestamp,
    record: &mut Record,
    wanted: &impl Fn(&str) -> bool,
) -> Option<&'static str> {
    let slack_post = record.target["path"] == "/api/chat.postMessage";
    let (obtained, renewed, expires) = rotation();
    if wanted("expired rotation")
        && workload.credential == "ops/slack-rotating"
        && time >= obtained + renewed
        && time < obtained + expires + SignedDuration::from_hours(8)
    {
        if time < obtained + expires {
            let age = time.duration_since(obtained).as_secs();
            record.credential["age_s"] = json!(age);
            record.credential["expires_in_s"] = json!(expires.as_secs() - age);
            let generation = record.credential["generation"].as_u64().unwrap_or_default();
            record.credential["generation"] = json!(generation.wrapping_sub(1));
            record.credential["stale"] = json!(true);
        } else {
            record.ends("refused", "credential_dead", "operator", "Slack no longer accepts the refresh token (invalid_refresh_token): it was used elsewhere, or the app was removed from the workspace. Reinstall the app and put its new refresh token where the credential's seed is; the gateway reads it without a restart");
            record.stays_here();
            return Some("credential");
        }
        return Some("permitted");
    }
    if wanted("revoked token")
        && workload.credential == "billing/slack-bot"
        && within(time, (8, 4, 0), (10, 12, 0))
    {
        record.ends("failed", "credential_rejected", "operator", "slack answered `token_revoked` to billing/slack-bot (generation 1); its source has no other value. Put a working secret where the Credential says");
        record.answered(Some(200), Some("token_revoked"));
        record.credential["rejected"] = json!({"generation": 1, "api_error": "token_revoked"});
        return Some("rejected");
    }
    if wanted("missing scope")
        && workload.credential == "qa/slack-bot"
        && slack_post
        && within(time, (12, 0, 0), (14, 9, 0))
    {
        record.ends("failed", "credential_insufficient", "operator", "slack answered `missing_scope` to qa/slack-bot (generation 1); needed: `chat:write`, provided: `channels:read`. Give it what the detail names at the service (for Slack: add the scope and install the app again), or use another Credential.");
        record.answered(Some(200), Some("missing_scope"));
        return Some("insufficient");
    }
    if wanted("429 storm")
        && within(time, (16, 10, 0), (16, 12, 0))
        && workload.credential == "shared/slack-bot"
    {
        record.ends(
            "refused",
            "upstream_rate_limited",
            "caller",
            "slack asked to be left alone for 27 s more",
        );
        record.stays_here();
        return Some("credential");
    }
    None
}

/// The incidents of access. The kind of the record, if one goes on.
fn access(
    workload: &Workload,
    time: Timestamp,
    record: &mut Record,
    wanted: &impl Fn(&str) -> bool,
) -> Option<&'static str> {
    let name = &*workload.name;
    let slack_post = record.target["path"] == "/api/chat.postMessage";
    if wanted("policy typo")
        && name == "docs/publish"
        && slack_post
        && within(time, (6, 14, 0), (9, 15, 0))
    {
        misses(
            record,
            &workload.policy,
            "paths",
            "/api/chat.postMesage",
            "/api/chat.postMessage",
        );
        return Some("request");
    }
    if wanted("window moved by DST") && name == "qa/report" && time >= at(20, 1, 0) {
        let actual = format!("{time}, next open at 2026-10-26T06:00:00+01:00[Europe/Berlin]");
        misses(
            record,
            &workload.policy,
            "schedule",
            "`0 6 * * *` for 1h in Europe/Berlin",
            &actual,
        );
        record.reason = "outside_schedule";
        return Some("request");
    }
    if wanted("pod on default audience")
        && name == "data/sync-cases"
        && within(time, (15, 0, 0), (17, 12, 0))
    {
        refuse_token(record, workload, time, "https://kubernetes.default.svc");
        record.ends("refused", "identity_audience", "caller", "the token is for \"https://kubernetes.default.svc\", not for the audience \"countersign\"");
        return Some("identity");
    }
    if wanted("code sends a wrong path") && name == "hr/onboarding" && time >= at(22, 0, 0) {
        record.target["path"] = json!("/v1/results/DEMO/1200");
        misses(
            record,
            &workload.policy,
            "paths",
            "/v1/result/**",
            "/v1/results/DEMO/1200",
        );
        return Some("request");
    }
    None
}

/// The incidents of the gateways, the pods and the API. The kind of the record, if one goes on.
fn elsewhere(
    workload: &Workload,
    time: Timestamp,
    record: &mut Record,
    gateway: &mut usize,
    wanted: &impl Fn(&str) -> bool,
) -> Option<&'static str> {
    let name = &*workload.name;
    if wanted("clock skew")
        && workload.requests > 1
        && within(time, (17, 5, 0), (17, 9, 0))
        && record.id.as_bytes()[35].is_multiple_of(2)
    {
        // A fresh pod has a fresh token, which a clock that is behind does not accept yet.
        *gateway = 2;
        refuse_token(record, workload, time, "countersign");
        let behind = time - SignedDuration::from_mins(10);
        record.time = format!("{behind:.3}");
        let until = time - SignedDuration::from_secs(20);
        record.ends("refused", "identity_not_yet_valid", "platform", format!("the token is valid from {until:.0} (`iat`), 9 min 40 s from now by this gateway's clock, and a clock that is 1 min ahead is accepted: compare the clocks of its issuer and of this gateway"));
        return Some("identity");
    }
    if wanted("Slack outage") && workload.is_slack() && within(time, (22, 13, 0), (22, 13, 50)) {
        if record.id.as_bytes()[35].is_multiple_of(3) {
            record.ends(
                "failed",
                "upstream_timeout",
                "upstream",
                "slack.com did not respond within limits.responseTimeout (30 s)",
            );
            record.answered(None, None);
        } else {
            record.ends("failed", "upstream_error", "upstream", "slack answered 503");
            record.answered(Some(503), None);
        }
        return Some("upstream");
    }
    if wanted("CA not mounted") && name == "docs/search" && within(time, (18, 0, 0), (19, 12, 0)) {
        record.ends(
            "failed",
            "own_certificate",
            "operator",
            "the client says that it does not trust the CA of the certificate that it was shown (unknown_ca); it was issued for api.qase.io by the root in /var/lib/countersign/ca/root.pem: mount the bundle with that root in the pod, and set the CA variable of its language",
        );
        record.stays_here();
        record.policy = serde_json::Value::Null;
        record.workload = serde_json::Value::Null;
        let authority = record.target["authority"].clone();
        record.target = json!({"name": null, "authority": authority, "method": null, "path": null, "protocol": "connect"});
        return Some("tls");
    }
    if wanted("gateway memory limit") && within(time, (26, 14, 0), (26, 15, 0)) && *gateway == 1 {
        record.ends(
            "refused",
            "memory_short",
            "gateway",
            "limits.memory (256 MiB) is used up",
        );
        record.stays_here();
        return Some("credential");
    }
    None
}

/// What is nobody's access.
fn decoy(
    workload: &Workload,
    time: Timestamp,
    record: &mut Record,
    wanted: &impl Fn(&str) -> bool,
) -> Option<&'static str> {
    let slack_post = record.target["path"] == "/api/chat.postMessage";
    match &*workload.name {
        "hr/birthdays" if wanted("channel archived") && slack_post && time >= at(10, 0, 0) => {
            record.answered(Some(200), Some("channel_not_found"));
            Some("api_error")
        }
        "billing/export"
            if wanted("test case deleted")
                && record.target["method"] == "GET"
                && time >= at(11, 0, 0) =>
        {
            record.answered(Some(404), Some("Test result not found"));
            Some("api_error")
        }
        "it/licences" if wanted("client times out") && within(time, (13, 0, 0), (15, 0, 0)) => {
            record.ends(
                "failed",
                "client_gone",
                "caller",
                "the client left after 30 s, before the response's head",
            );
            record.answered(None, None);
            record.took(SignedDuration::from_secs(30));
            Some("upstream")
        }
        _ => None,
    }
}

/// A token whose signature verifies: the record says whose it is.
fn refuse_token(record: &mut Record, workload: &Workload, time: Timestamp, audience: &str) {
    let subject = record.caller["subject"].clone();
    record.is_a_stranger();
    record.refused_token = Some(json!({
        "issuer": "prod-eu", "subject": subject,
        "namespace": workload.namespace(), "service_account": workload.account(),
        "pod": workload.pod(time), "audiences": [audience], "token_id": "a-jti",
    }));
}

/// No rule allows it; this one came closest.
fn misses(record: &mut Record, policy: &str, what: &str, expected: &str, actual: &str) {
    record.ends(
        "refused",
        "request_not_allowed",
        "operator",
        format!("no rule of {policy} allows this: {what} must be {expected}"),
    );
    record.stays_here();
    record.is_no_policy_s();
    record.nearest = Some(json!({
        "policy": policy, "rule": 0, "mismatches": [{"what": what, "expected": expected, "actual": actual}],
    }));
}
