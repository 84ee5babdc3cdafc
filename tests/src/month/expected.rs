//! What must be said of the incidents, and what must not be said of the decoys.

/// An incident, and what must be said of it.
#[derive(Debug)]
pub struct Incident {
    /// Its name.
    pub name: &'static str,
    /// When it began: day, hour and minute.
    pub begins: (i64, i64, i64),
    /// The kind of the finding.
    pub kind: &'static str,
    /// On whose side it is: `code`, `access`, `credential`, `api`, `network` or `gateway`.
    pub blame: &'static str,
    /// What the finding or its workloads must name.
    pub names: &'static str,
    /// What the action must name.
    pub remedy: &'static str,
    /// The kind of the change that must be named first; empty if none can be known.
    pub change: &'static str,
}

/// What looks like an incident of access, and is none.
#[derive(Debug)]
pub struct Decoy {
    /// Its name.
    pub name: &'static str,
    /// The workload that has it.
    pub workload: &'static str,
}

/// The twelve.
pub const INCIDENTS: [Incident; 12] = [
    incident(
        "expired rotation",
        (3, 0, 0),
        "CREDENTIAL",
        "credential",
        "ops/slack-rotating",
        "reinstall the app",
        "expiry",
    ),
    incident(
        "revoked token",
        (8, 5, 0),
        "CREDENTIAL",
        "credential",
        "billing/slack-bot was revoked",
        "install the app again",
        "",
    ),
    incident(
        "missing scope",
        (12, 0, 0),
        "SCOPE",
        "access",
        "qa/slack-bot lacks chat:write (has channels:read)",
        "add chat:write",
        "",
    ),
    incident(
        "policy typo",
        (7, 12, 0),
        "POLICY",
        "access",
        "docs/publish",
        "AccessPolicy docs/publish-policy",
        "revision",
    ),
    incident(
        "window moved by DST",
        (20, 4, 30),
        "WINDOW",
        "access",
        "qa/report",
        "timeZone to Europe/Berlin",
        "",
    ),
    incident(
        "pod on default audience",
        (15, 1, 30),
        "IDENTITY",
        "access",
        "data/sync-cases",
        "audience of this gateway",
        "",
    ),
    incident(
        "clock skew",
        (17, 4, 50),
        "CLOCK",
        "gateway",
        "gateway-2",
        "set the clock",
        "",
    ),
    incident(
        "Slack outage",
        (22, 13, 0),
        "API",
        "api",
        "slack.com",
        "status page",
        "",
    ),
    incident(
        "429 storm",
        (16, 10, 0),
        "RATE",
        "code",
        "growth/leads uses up",
        "slow growth/leads down",
        "deploy",
    ),
    incident(
        "code sends a wrong path",
        (22, 0, 14),
        "CODE",
        "code",
        "hr/onboarding",
        "call GET /v1/result/DEMO/*",
        "deploy",
    ),
    incident(
        "CA not mounted",
        (18, 0, 10),
        "TRUST",
        "access",
        "docs/search",
        "mount the gateway's CA",
        "deploy",
    ),
    incident(
        "gateway memory limit",
        (26, 14, 0),
        "GATEWAY",
        "gateway",
        "gateway",
        "raise limits.memory",
        "restart",
    ),
];

/// The four.
pub const DECOYS: [Decoy; 4] = [
    Decoy {
        name: "channel archived",
        workload: "hr/birthdays",
    },
    Decoy {
        name: "test case deleted",
        workload: "billing/export",
    },
    Decoy {
        name: "client times out",
        workload: "it/licences",
    },
    Decoy {
        name: "rolling restart",
        workload: "hr/feedback",
    },
];

const fn incident(
    name: &'static str,
    begins: (i64, i64, i64),
    kind: &'static str,
    blame: &'static str,
    names: &'static str,
    remedy: &'static str,
    change: &'static str,
) -> Incident {
    Incident {
        name,
        begins,
        kind,
        blame,
        names,
        remedy,
        change,
    }
}
