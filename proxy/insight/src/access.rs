//! Who may make a request: every workload, rule, window and credential that permits it.

mod row;
mod since;

use std::{fmt::Write as _, sync::Arc};

use countersign_config::{
    model::{Mode, Policy, Route, Rule, Workload},
    policy::PolicySet,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    history::{History, HistoryError},
    request::Asked,
    usage::{Made, Usage},
};

pub use row::GrantRow;
pub use since::{Approved, Since};

/// The name and version of the JSON document.
const SCHEMA: &str = "countersign.who-can/v1";

/// Who may make a request.
#[derive(Debug)]
pub struct WhoCan {
    /// The revision that was asked.
    pub revision: String,
    /// The request.
    pub request: String,
    /// The target that has the host.
    pub target: Option<String>,
    /// Why nobody may, whatever policies say.
    pub nobody: Option<String>,
    /// Each way in which somebody may.
    pub grants: Vec<Grant>,
    /// Since when there are records.
    pub records_from: Option<Timestamp>,
}

/// One workload that may make the request, by one rule.
#[derive(Debug)]
pub struct Grant {
    /// The workload, its owner and environment.
    pub workload: Arc<Workload>,
    /// The policy.
    pub policy: Arc<Policy>,
    /// The index of the rule; `None` if the policy only observes and no rule matches.
    pub rule: Option<usize>,
    /// The credential that is sent.
    pub credential: Option<String>,
    /// Whether its window is open and its end has not come.
    pub open: bool,
    /// When its window opens next, if it is not open.
    pub next_open: Option<Timestamp>,
    /// When the workload last used this rule, and how often.
    pub last_used: Option<(Timestamp, u64)>,
    /// When it last made exactly this request.
    pub last_made: Option<Timestamp>,
    /// Since when it may, as far as revisions are kept.
    pub since: Option<Since>,
}

/// Every way in which somebody may make this request under these policies.
pub fn who_can(policies: &PolicySet, asked: &Asked, usage: &Usage, now: Timestamp) -> WhoCan {
    let target = policies.target(&asked.host, asked.port);
    let path = asked.path.as_str();
    let mut answer = WhoCan {
        revision: policies.revision().to_owned(),
        request: format!(
            "{} https://{}:{}{path}",
            asked.method, asked.host, asked.port
        ),
        target: target.map(|target| target.name.to_string()),
        nobody: None,
        grants: Vec::new(),
        records_from: usage.from,
    };
    let Some(target) = target else {
        answer.nobody = Some(
            "no target in use has this host and port; the gateway's `unmatched` setting decides"
                .to_owned(),
        );
        return answer;
    };
    let Some(route) = target.route_for(&asked.host, &asked.path) else {
        answer.nobody = Some("the target has no route for this path".to_owned());
        return answer;
    };
    if let Some(deny) = &route.deny {
        answer.nobody = Some(format!("the target denies this path to everyone: {deny}"));
        return answer;
    }
    let own = policies.policies().iter();
    for policy in own.filter(|policy| policy.target.name == target.name) {
        answer
            .grants
            .extend(grants(policy, route, asked, usage, now));
    }
    answer.grants.sort_by(|one, two| {
        (&one.workload.name, &one.policy.name).cmp(&(&two.workload.name, &two.policy.name))
    });
    answer.grants.dedup_by(|one, two| {
        (&one.workload.name, &one.policy.name) == (&two.workload.name, &two.policy.name)
    });
    answer
}

/// The workloads to which a policy gives the request on this route.
fn grants(
    policy: &Arc<Policy>,
    route: &Route,
    asked: &Asked,
    usage: &Usage,
    now: Timestamp,
) -> Vec<Grant> {
    let credential = match &route.attach {
        None => None,
        Some(attach) => {
            let mut filled = policy.credentials.iter();
            let Some((_, credential)) = filled.find(|(slot, _)| *slot == attach.slot) else {
                return Vec::new();
            };
            Some(credential.name.to_string())
        }
    };
    let rule = policy.allow.iter().position(|rule| permits(rule, asked));
    if rule.is_none() && policy.mode == Mode::Enforce {
        return Vec::new();
    }
    let made = Made {
        method: asked.method.to_string(),
        host: asked.host.to_string(),
        path: asked.path.as_str().to_owned(),
    };
    let schedule = policy.conditions.schedule.as_ref();
    let of = |workload: &Arc<Workload>| {
        let name = workload.name.as_str();
        let used = usage.grant(name, policy.name.as_str(), rule);
        Grant {
            workload: Arc::clone(workload),
            policy: Arc::clone(policy),
            rule,
            credential: credential.clone(),
            open: is_open(policy, now),
            next_open: schedule.and_then(|schedule| schedule.next_open(now)),
            last_used: used.map(|used| (used.last, used.count)),
            last_made: usage.last_made(name, &made),
            since: None,
        }
    };
    policy.workloads.iter().map(of).collect()
}

impl WhoCan {
    /// Adds since when each of them may, and who approved it when.
    ///
    /// # Errors
    /// When a kept revision cannot be read.
    pub fn look_back(&mut self, history: &History, asked: &Asked) -> Result<(), HistoryError> {
        since::look_back(&mut self.grants, history, asked)
    }
}

fn permits(rule: &Rule, asked: &Asked) -> bool {
    (rule.methods.is_empty() || rule.methods.contains(&asked.method))
        && (rule.hosts.is_empty() || rule.hosts.iter().any(|host| host.matches(&asked.host)))
        && rule.paths.matches(&asked.path)
}

fn is_open(policy: &Policy, now: Timestamp) -> bool {
    let conditions = &policy.conditions;
    conditions
        .schedule
        .as_ref()
        .is_none_or(|schedule| schedule.is_open(now))
        && conditions.not_after.is_none_or(|end| now < end)
}

impl Grant {
    /// What must hold besides the rule, in words.
    fn conditions(&self) -> Vec<String> {
        let conditions = &self.policy.conditions;
        let mut all = Vec::new();
        if let Some(schedule) = &conditions.schedule {
            all.push(format!("in the window {schedule}"));
        }
        if let Some(when) = &conditions.when {
            all.push(format!("when {when}"));
        }
        if let Some(rate) = &conditions.rate {
            all.push(format!(
                "at most {} requests in {:?}",
                rate.requests, rate.period
            ));
        }
        if self.policy.mode == Mode::Observe {
            all.push("on trial (`mode: observe` refuses nothing)".to_owned());
        }
        all
    }

    /// From when on it permits nothing any more.
    fn ends(&self) -> String {
        self.policy
            .conditions
            .not_after
            .map_or_else(|| "never".to_owned(), |end| end.to_string())
    }

    fn now(&self) -> String {
        match (self.open, self.next_open) {
            (true, _) => "yes".to_owned(),
            (false, Some(next))
                if self
                    .policy
                    .conditions
                    .not_after
                    .is_none_or(|end| next < end) =>
            {
                format!("no, from {next} on")
            }
            (false, _) => "no, and never again".to_owned(),
        }
    }

    fn rule_text(&self) -> String {
        let rule = self
            .rule
            .map_or_else(String::new, |rule| format!(" allow[{rule}]"));
        format!("{}{rule}", self.policy.name)
    }

    fn approval(&self) -> String {
        let approval = &self.policy.approval;
        let texts = [approval.by.as_deref(), approval.ticket.as_deref()];
        let text: Vec<&str> = texts.into_iter().flatten().collect();
        let break_glass = if approval.break_glass {
            " (break-glass)"
        } else {
            ""
        };
        if text.is_empty() {
            return format!("not recorded{break_glass}");
        }
        format!("{}{break_glass}", text.join(", "))
    }
}

impl WhoCan {
    fn used(&self, grant: &Grant) -> String {
        match (grant.last_used, self.records_from) {
            (Some((last, count)), _) => format!("{last}, {count} times"),
            (None, Some(from)) => format!("not since {from}"),
            (None, None) => "unknown; give the records with --decisions".to_owned(),
        }
    }

    /// For a person to read.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.headline());
        for grant in &self.grants {
            let workload = &grant.workload;
            let environment = workload.environment.as_deref().unwrap_or("no environment");
            let _ = writeln!(
                text,
                "\n{}  ({}, {environment})",
                workload.name, workload.owner
            );
            let mut line = |name: &str, value: &str| {
                let _ = writeln!(text, "  {name:<11} {value}");
            };
            line("by", &grant.rule_text());
            line("policy of", &grant.policy.owner);
            line("approved by", &grant.approval());
            if let Some(since) = &grant.since {
                line("since", &since.text());
                for approval in &since.approvals {
                    line("approval", &approval.text());
                }
            }
            line("credential", grant.credential.as_deref().unwrap_or("none"));
            for condition in grant.conditions() {
                line("only", &condition);
            }
            line("now", &grant.now());
            line("ends", &grant.ends());
            line("rule used", &self.used(grant));
            if let Some(last) = grant.last_made {
                line("this made", &last.to_string());
            }
        }
        text
    }

    fn headline(&self) -> String {
        let (request, revision) = (&self.request, &self.revision);
        match (&self.nobody, self.grants.len()) {
            (Some(why), _) => format!("{request}: {why} (revision {revision})"),
            (None, 0) => format!("{request}: no policy permits it to anyone (revision {revision})"),
            (None, 1) => format!("{request}: 1 workload may (revision {revision})"),
            (None, more) => format!("{request}: {more} grants (revision {revision})"),
        }
    }

    /// For a ticket.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.headline());
        if !self.grants.is_empty() {
            text.push_str("\n| workload | owner | rule | approved by | since | credential | only | now | ends | last used |\n|---|---|---|---|---|---|---|---|---|---|\n");
        }
        for grant in &self.grants {
            let cells = [
                grant.workload.name.to_string(),
                grant.workload.owner.clone(),
                grant.rule_text(),
                grant.approval(),
                grant.since.as_ref().map(Since::text).unwrap_or_default(),
                grant.credential.clone().unwrap_or_default(),
                grant.conditions().join("; "),
                grant.now(),
                grant.ends(),
                self.used(grant),
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|").replace('*', "\\*"));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }

    /// For a program to read.
    pub fn json(&self) -> Value {
        let grants = self.grants.iter().map(|grant| {
            let (workload, policy) = (&grant.workload, &grant.policy);
            json!({
                "workload": workload.name.as_str(),
                "owner": workload.owner,
                "environment": workload.environment,
                "policy": policy.name.as_str(),
                "policyOwner": policy.owner,
                "rule": grant.rule,
                "mode": if policy.mode == Mode::Observe { "observe" } else { "enforce" },
                "approvedBy": policy.approval.by,
                "ticket": policy.approval.ticket,
                "breakGlass": policy.approval.break_glass,
                "credential": grant.credential,
                "schedule": policy.conditions.schedule.as_ref().map(ToString::to_string),
                "when": policy.conditions.when.as_ref().map(ToString::to_string),
                "ends": policy.conditions.not_after.map(|end| end.to_string()),
                "open": grant.open,
                "nextOpen": grant.next_open.map(|next| next.to_string()),
                "lastUsed": grant.last_used.map(|(last, _)| last.to_string()),
                "uses": grant.last_used.map(|(_, count)| count),
                "requestLastMade": grant.last_made.map(|last| last.to_string()),
                "since": grant.since,
            })
        });
        json!({
            "schema": SCHEMA,
            "revision": self.revision,
            "request": self.request,
            "target": self.target,
            "nobody": self.nobody,
            "recordsFrom": self.records_from.map(|from| from.to_string()),
            "grants": grants.collect::<Vec<Value>>(),
        })
    }
}
