//! The forty workloads: half of them run once a day, half all the time.

use jiff::Timestamp;

use super::at;

/// One workload.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// `NAMESPACE/NAME`.
    pub name: String,
    pub(super) owner: String,
    pub(super) policy: String,
    pub(super) credential: &'static str,
    pub(super) rotates: bool,
    api: Api,
    /// When it runs: once a day at this time, or every so many minutes.
    every: Every,
    /// Requests of one run.
    pub(super) requests: i64,
    number: usize,
    /// Days on which another template was deployed.
    pub(super) deploys: Vec<i64>,
}

#[derive(Debug, Clone, Copy)]
enum Api {
    Slack,
    Qase,
    Wiki,
}

#[derive(Debug, Clone, Copy)]
enum Every {
    Day(i64, i64),
    Minutes(i64),
}

/// What one request is.
pub(super) struct Request {
    pub(super) target: &'static str,
    pub(super) host: &'static str,
    pub(super) method: &'static str,
    pub(super) path: String,
}

/// The jobs, by namespace and name, and the hour and minute of their run.
const JOBS: [(&str, &str, i64, i64); 20] = [
    ("qa", "nightly", 4, 0),
    ("qa", "report", 4, 30),
    ("qa", "cleanup", 2, 0),
    ("qa", "flaky-finder", 3, 30),
    ("billing", "invoices", 5, 0),
    ("billing", "dunning", 6, 0),
    ("billing", "export", 1, 0),
    ("ops", "rotation-check", 7, 0),
    ("ops", "digest", 8, 0),
    ("ops", "inventory", 0, 30),
    ("growth", "newsletter", 9, 0),
    ("growth", "cohorts", 2, 30),
    ("docs", "link-check", 5, 30),
    ("docs", "publish", 12, 0),
    ("data", "sync-cases", 1, 30),
    ("data", "quality", 4, 45),
    ("hr", "birthdays", 7, 30),
    ("hr", "absences", 6, 30),
    ("legal", "retention", 3, 0),
    ("it", "licences", 10, 0),
];

/// The services.
const SERVICES: [(&str, &str); 20] = [
    ("qa", "board"),
    ("qa", "trigger"),
    ("billing", "alerts"),
    ("billing", "portal"),
    ("ops", "oncall"),
    ("ops", "status"),
    ("ops", "chatops"),
    ("growth", "sync"),
    ("growth", "leads"),
    ("growth", "events"),
    ("docs", "search"),
    ("docs", "preview"),
    ("data", "loader"),
    ("data", "catalog"),
    ("hr", "onboarding"),
    ("hr", "feedback"),
    ("legal", "requests"),
    ("it", "helpdesk"),
    ("it", "assets"),
    ("web", "front"),
];

/// All of them.
pub(super) fn all() -> Vec<Workload> {
    let jobs = JOBS
        .iter()
        .map(|(namespace, name, hour, minute)| (*namespace, *name, Every::Day(*hour, *minute), 8));
    let services = SERVICES
        .iter()
        .map(|(namespace, name)| (*namespace, *name, Every::Minutes(60), 1));
    let all = jobs.chain(services).enumerate();
    all.map(|(number, (namespace, name, every, requests))| {
        let api = match number % 4 {
            0 | 1 => Api::Slack,
            2 => Api::Qase,
            _ => Api::Wiki,
        };
        let (credential, rotates) = credential(namespace, api);
        Workload {
            name: format!("{namespace}/{name}"),
            owner: format!("{namespace}-team@example.com"),
            policy: format!("{namespace}/{name}-policy"),
            credential,
            rotates,
            api,
            every,
            requests,
            number,
            deploys: vec![
                i64::try_from(number).unwrap_or_default() % 11,
                16 + i64::try_from(number).unwrap_or_default() % 7,
            ],
        }
    })
    .collect()
}

/// Teams have credentials of their own; some share one.
fn credential(namespace: &str, api: Api) -> (&'static str, bool) {
    match (namespace, api) {
        ("ops", Api::Slack) => ("ops/slack-rotating", true),
        ("billing", Api::Slack) => ("billing/slack-bot", false),
        ("qa", Api::Slack) => ("qa/slack-bot", false),
        (_, Api::Slack) => ("shared/slack-bot", false),
        ("data", Api::Qase) => ("data/qase-token", false),
        (_, Api::Qase) => ("shared/qase-token", false),
        (_, Api::Wiki) => ("shared/wiki-token", false),
    }
}

impl Workload {
    pub(super) fn namespace(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    pub(super) fn account(&self) -> &str {
        self.name.split('/').nth(1).unwrap_or_default()
    }

    /// When it runs on a day.
    pub(super) fn runs(&self, day: i64) -> Vec<(i64, i64)> {
        let _ = day;
        match self.every {
            Every::Day(hour, minute) => vec![(hour, minute)],
            Every::Minutes(minutes) => {
                let offset = i64::try_from(self.number).unwrap_or_default() * 3 % minutes;
                (0..24 * 60 / minutes)
                    .map(|run| (run * minutes / 60, run * minutes % 60 + offset))
                    .collect()
            }
        }
    }

    /// The pod that makes a request: of this run, or of the template that is deployed.
    pub(super) fn pod(&self, time: Timestamp) -> String {
        let day = time.duration_since(at(0, 0, 0)).as_hours() / 24;
        let name = self.account();
        let suffix = |salt: i64| {
            let letters = b"bcdfghjklmnpqrstvwxz2456789";
            let mut number = u64::try_from(self.number).unwrap_or_default() * 7919
                + u64::try_from(salt).unwrap_or_default() * 104_729
                + 17;
            let mut text = String::new();
            for _ in 0..5 {
                let index = usize::try_from(number % 27).unwrap_or_default();
                text.push(char::from(letters[index]));
                number = number / 27 + 11;
            }
            text
        };
        match self.every {
            Every::Day(..) => format!("{name}-{}-{}", 29_341_000 + day * 1440, suffix(day)),
            Every::Minutes(_) => {
                let deploy = self
                    .deploys
                    .iter()
                    .filter(|deployed| **deployed <= day)
                    .count();
                let deploy = i64::try_from(deploy).unwrap_or_default();
                let hash = format!("7d{deploy}f{:03x}b8", self.number * 31 + 256);
                format!("{name}-{hash}-{}", suffix(deploy))
            }
        }
    }

    pub(super) fn client(&self, time: Timestamp) -> String {
        let day = time.duration_since(at(0, 0, 0)).as_hours() / 24;
        let host = match self.every {
            // Each run of a job has a pod of its own, and so an address of its own.
            Every::Day(..) => 10 + (day * 7 + i64::try_from(self.number).unwrap_or_default()) % 200,
            Every::Minutes(_) => 10 + i64::try_from(self.number).unwrap_or_default(),
        };
        let net = if matches!(self.every, Every::Day(..)) {
            20 + self.number
        } else {
            7
        };
        format!("10.0.{net}.{host}:{}", 32_768 + time.as_second() % 20_000)
    }

    pub(super) fn is_slack(&self) -> bool {
        matches!(self.api, Api::Slack)
    }

    pub(super) fn request(&self, number: i64) -> Request {
        match self.api {
            Api::Slack => Request {
                target: "slack",
                host: "slack.com",
                method: "POST",
                path: if number % 4 == 3 {
                    "/api/conversations.list"
                } else {
                    "/api/chat.postMessage"
                }
                .to_owned(),
            },
            Api::Qase => Request {
                target: "qase",
                host: "api.qase.io",
                method: if number % 2 == 0 { "GET" } else { "POST" },
                path: format!("/v1/result/DEMO/{}", 1200 + number * 37),
            },
            Api::Wiki => Request {
                target: "wiki",
                host: "wiki.example.com",
                method: "GET",
                path: format!("/rest/api/content/{}", 88_000 + number),
            },
        }
    }
}
