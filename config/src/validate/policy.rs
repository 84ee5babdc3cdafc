//! `AccessPolicy`: the rules. References are resolved here.

mod credentials;
mod rate;
mod unread;

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    fields::{
        duration, each, host_pattern, method, non_blank, path_patterns, timestamp,
        without_encoded_slashes,
    },
    head::Parsed,
    reach,
    table::ResourceTable,
};
use crate::{
    condition::Condition,
    model::{Approval, Conditions, Credential, Mode, Policy, Rule, Target, Workload},
    path::EncodedSlash,
    resource::{AccessPolicySpec, AllowRule, ConditionsSpec, PolicyMode, ScheduleSpec},
    schedule::{Schedule, ScheduleError},
    yaml::{Findings, Location},
};

/// How long before a policy's end there is a warning.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The resources that a policy may refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct References<'k> {
    pub(super) workloads: &'k ResourceTable<Workload>,
    pub(super) targets: &'k ResourceTable<Target>,
    pub(super) credentials: &'k ResourceTable<Credential>,
    pub(super) samples: &'k reach::Samples,
    /// How the references of an object of a cluster are read; `None` is a file.
    pub(super) object: Option<ObjectReferences>,
}

/// How the references of an object of a cluster are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct ObjectReferences {
    /// Whether it goes on with the workloads that are left: it was accepted when all of them were there.
    pub(super) without_missing_workloads: bool,
}

pub(super) fn policy(
    written: &Parsed<'_, AccessPolicySpec>,
    known: &References<'_>,
    now: Option<Timestamp>,
    findings: &Findings,
) -> Option<Policy> {
    let spec = &written.spec;
    let location = written.location();
    let owner = non_blank(&spec.owner, &location.key("owner"), findings);
    let workloads = workloads(written, known, findings);
    let target = known
        .targets
        .resolve(&spec.target, "", &location.key("target"), findings);
    let credentials =
        credentials::credentials(written, target.map(|target| &**target), known, findings);
    let is_read = target.is_none_or(|target| target.intercept);
    if let Some(target) = target.filter(|target| !target.intercept) {
        unread::check(spec, target, &location, findings);
    }
    if target.is_some_and(|target| target.encoded_slash == EncodedSlash::Refuse) {
        for (index, rule) in spec.allow.iter().enumerate() {
            let location = location.key("allow");
            let location = location.index(index);
            without_encoded_slashes(&rule.paths, &location.key("paths"), findings);
        }
    }
    let allow = allow(&spec.allow, is_read, &location.key("allow"), findings);
    let conditions = match &spec.conditions {
        Some(spec) => conditions(spec, now, &location.key("conditions"), findings),
        None => Some(Conditions::default()),
    };
    let mode = mode(spec.mode, &location, findings);
    let approval = approval(spec, &location, findings);

    if let (Some(target), Some(allow)) = (target, &allow) {
        reach::check(
            target,
            allow,
            credentials.as_deref(),
            known.samples,
            &location.key("allow"),
            findings,
        );
    }
    Some(Policy {
        name: written.name.clone(),
        owner: owner?,
        workloads: workloads?,
        target: Arc::clone(target?),
        credentials: credentials?,
        allow: allow?,
        conditions: conditions?,
        mode,
        approval: approval?,
    })
}

fn approval(
    spec: &AccessPolicySpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Approval> {
    let text = |text: &Option<String>, key| match text {
        Some(text) => non_blank(text, &location.key(key), findings).map(Some),
        None => Some(None),
    };
    let by = text(&spec.approved_by, "approvedBy");
    let ticket = text(&spec.ticket, "ticket");
    Some(Approval {
        by: by?,
        ticket: ticket?,
        break_glass: spec.break_glass.unwrap_or(false),
    })
}

fn mode(mode: Option<PolicyMode>, location: &Location<'_>, findings: &Findings) -> Mode {
    match mode {
        None | Some(PolicyMode::Enforce) => Mode::Enforce,
        Some(PolicyMode::Observe) => {
            findings.warning(
                &location.key("mode"),
                "not-enforced",
                "this policy is not enforced: requests that no rule permits are recorded and passed on",
                "write `mode: enforce` when its records show that no rule is missing",
            );
            Mode::Observe
        }
    }
}

fn workloads(
    written: &Parsed<'_, AccessPolicySpec>,
    known: &References<'_>,
    findings: &Findings,
) -> Option<Vec<Arc<Workload>>> {
    let table = known.workloads;
    let location = written.location().key("workloads");
    if written.spec.workloads.is_empty() {
        findings.error(
            &location,
            "empty-list",
            "the policy names no workload, so it can never match",
            "name at least one workload",
        );
        return None;
    }
    if known
        .object
        .is_some_and(|object| object.without_missing_workloads)
    {
        let unheard = Findings::of_object();
        let there = written.spec.workloads.iter().filter_map(|reference| {
            let found = table.resolve(reference, written.namespace(), &location, &unheard);
            found.cloned()
        });
        let there: Vec<_> = there.collect();
        return (!there.is_empty()).then_some(there);
    }
    each(&written.spec.workloads, &location, |reference, location| {
        table
            .resolve(reference, written.namespace(), location, findings)
            .cloned()
    })
}

fn allow(
    rules: &[AllowRule],
    is_read: bool,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Vec<Rule>> {
    if rules.is_empty() {
        findings.error(
            location,
            "empty-list",
            "the policy allows nothing, so it can never match",
            "add a rule, such as `- methods: [GET]`",
        );
        return None;
    }
    each(rules, location, |rule, location| {
        let hosts = each(&rule.hosts, &location.key("hosts"), |host, location| {
            host_pattern(host, location, findings)
        });
        let methods = each(&rule.methods, &location.key("methods"), |name, location| {
            method(name, location, findings)
        });
        let paths = path_patterns(&rule.paths, false, &location.key("paths"), findings);
        if is_read && rule.hosts.is_empty() && rule.methods.is_empty() && rule.paths.is_empty() {
            findings.warning(
                location,
                "allows-everything",
                "this rule allows every request to the target",
                "name the methods and paths that are needed",
            );
        }
        Some(Rule {
            hosts: hosts?,
            methods: methods?,
            paths: paths?,
        })
    })
}

fn conditions(
    spec: &ConditionsSpec,
    now: Option<Timestamp>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Conditions> {
    let schedule = match &spec.schedule {
        Some(schedule) => self::schedule(schedule, &location.key("schedule"), findings).map(Some),
        None => Some(None),
    };
    let not_after = match &spec.not_after {
        Some(text) => timestamp(text, &location.key("notAfter"), findings).map(Some),
        None => Some(None),
    };
    if let (Some(Some(end)), Some(now)) = (not_after, now) {
        ends(end, schedule.as_ref(), now, location, findings);
    }
    let when = match &spec.when {
        Some(text) => condition(text, &location.key("when"), findings).map(Some),
        None => Some(None),
    };
    let rate = match &spec.rate {
        Some(text) => rate::rate(text, &location.key("rate"), findings).map(Some),
        None => Some(None),
    };
    let wait = match &spec.wait_for_rate_limit {
        Some(text) => rate::wait(text, &location.key("waitForRateLimit"), findings).map(Some),
        None => Some(None),
    };
    Some(Conditions {
        wait_for_rate_limit: wait?,
        schedule: schedule?,
        not_after: not_after?,
        when: when?,
        rate: rate?,
    })
}

/// Warns about a policy that has expired, or that no future window opens.
fn ends(
    end: Timestamp,
    schedule: Option<&Option<Schedule>>,
    now: Timestamp,
    location: &Location<'_>,
    findings: &Findings,
) {
    if end <= now {
        findings.warning(
            &location.key("notAfter"),
            "expired",
            "this time has passed, so the policy no longer permits anything",
            "remove the policy, or write a later time if it is still needed",
        );
    } else if let Some(Some(schedule)) = schedule
        && !schedule.is_open(now)
        && schedule.next_open(now).is_none_or(|opens| opens >= end)
    {
        findings.warning(
            &location.key("notAfter"),
            "never-opens",
            "the schedule does not open again before this time",
            "remove the policy, or change its schedule or `notAfter`",
        );
    } else if end.duration_since(now) < EXPIRES_SOON {
        findings.warning(
            &location.key("notAfter"),
            "expires-soon",
            "from this time on, within a week, the policy permits nothing",
            "write a later time if it is needed for longer",
        );
    }
}

fn schedule(spec: &ScheduleSpec, location: &Location<'_>, findings: &Findings) -> Option<Schedule> {
    let duration = duration(&spec.duration, &location.key("duration"), findings);
    // Without a valid duration, the expression and the zone are still checked.
    let parsed = Schedule::parse(
        &spec.cron,
        duration.unwrap_or(Duration::from_mins(1)),
        &spec.time_zone,
    );
    match parsed {
        Ok(schedule) => {
            duration?;
            if schedule.never_closes() {
                findings.warning(
                    &location.key("cron"),
                    "never-closes",
                    "a window opens before the one before it closes, so the schedule is always open",
                    "write the times at which windows begin, such as `0 6 * * *`; or remove the schedule",
                );
            }
            Some(schedule)
        }
        Err(error) => {
            let (key, code, remedy) = match &error {
                ScheduleError::Cron(error) => ("cron", "bad-cron", error.remedy()),
                ScheduleError::TimeZone => (
                    "timeZone",
                    "bad-time-zone",
                    "write a time zone of the IANA database, such as `Europe/Berlin` or `UTC`"
                        .to_owned(),
                ),
                ScheduleError::Spelling(name) => {
                    ("timeZone", "bad-time-zone", format!("write `{name}`"))
                }
                ScheduleError::Never => (
                    "cron",
                    "impossible-schedule",
                    "use a day that exists, such as the 28th of February".to_owned(),
                ),
                ScheduleError::Duration => (
                    "duration",
                    "bad-duration",
                    "write a duration such as `45m` or `8h`".to_owned(),
                ),
            };
            findings.error(&location.key(key), code, error.to_string(), remedy);
            None
        }
    }
}

fn condition(text: &str, location: &Location<'_>, findings: &Findings) -> Option<Condition> {
    Condition::parse(text)
        .inspect_err(|error| {
            findings.error(
                location,
                "bad-condition",
                format!("the CEL expression cannot be used: {error}"),
                "write an expression over `request` and `caller` that is true or false",
            );
        })
        .ok()
}
