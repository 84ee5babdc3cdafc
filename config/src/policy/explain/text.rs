//! An explanation as text: `+` counted for the request, `-` did not.

use std::fmt;

use super::Explanation;
use crate::{
    model::{Conditions, Mode, Place, Route},
    policy::{Decision, Denial, Grant, Mismatch, answer::printable},
};

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.question)?;
        writeln!(f, "as {}", self.caller)?;
        writeln!(f, "under revision {}", self.revision)?;
        self.write_selectors(f)?;
        self.write_routes(f)?;
        self.write_policies(f)?;
        writeln!(f)?;
        match &self.decision {
            Decision::Permit(grant) => write_grant(f, grant),
            Decision::Deny(denial) => write_denial(f, denial),
            Decision::Unmatched => writeln!(
                f,
                "UNMATCHED: no target in use has this host and port; the gateway's `unmatched` setting decides"
            ),
        }
    }
}

impl Explanation<'_> {
    fn write_selectors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nWhich workload is the caller?")?;
        for seen in &self.selectors {
            let mark = mark(seen.mismatches.is_empty());
            writeln!(
                f,
                "  {mark} Workload {}, match[{}]",
                seen.workload.name, seen.entry
            )?;
            write_mismatches(f, 6, &seen.mismatches)?;
        }
        match (self.selectors.is_empty(), self.other_selectors) {
            (_, 0) => Ok(()),
            (true, count) => writeln!(f, "  - {count} selectors, none of them similar"),
            (false, count) => writeln!(f, "  - {count} more selectors, none of them similar"),
        }
    }

    fn write_routes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.routes.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nWhich route of the target?")?;
        for seen in &self.routes {
            writeln!(
                f,
                "  {} routes[{}] {}",
                mark(seen.matches),
                seen.index,
                RouteText(seen.route)
            )?;
        }
        Ok(())
    }

    fn write_policies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.policies.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nWhich policy?")?;
        for seen in &self.policies {
            let mode = match seen.policy.mode {
                Mode::Enforce => "",
                Mode::Observe => " (observes only)",
            };
            writeln!(
                f,
                "  {} AccessPolicy {}{mode} for {}",
                mark(seen.permits),
                seen.policy.name,
                seen.workload.name
            )?;
            for (index, mismatches) in seen.rules.iter().enumerate() {
                writeln!(f, "      {} allow[{index}]", mark(mismatches.is_empty()))?;
                write_mismatches(f, 10, mismatches)?;
            }
        }
        Ok(())
    }
}

fn mark(good: bool) -> char {
    if good { '+' } else { '-' }
}

fn write_mismatches(
    f: &mut fmt::Formatter<'_>,
    indent: usize,
    mismatches: &[Mismatch],
) -> fmt::Result {
    for mismatch in mismatches {
        writeln!(
            f,
            "{:indent$}{}: expected {}",
            "", mismatch.what, mismatch.expected
        )?;
        let indent = indent + mismatch.what.len() + 2;
        writeln!(f, "{:indent$}got      {}", "", mismatch.actual)?;
    }
    Ok(())
}

fn write_grant(f: &mut fmt::Formatter<'_>, grant: &Grant<'_>) -> fmt::Result {
    match grant.would_deny {
        None => writeln!(f, "PERMITTED")?,
        Some(reason) => writeln!(f, "LET THROUGH (an enforced policy would refuse: {reason})")?,
    }
    writeln!(
        f,
        "  workload    {}, owner {}",
        grant.workload.name,
        printable(&grant.workload.owner)
    )?;
    write!(f, "  policy      {}", grant.policy.name)?;
    if let Some(rule) = grant.rule {
        write!(f, ", allow[{rule}]")?;
    }
    writeln!(f, ", owner {}", printable(&grant.policy.owner))?;
    write_conditions(f, &grant.policy.conditions)?;
    writeln!(f, "  target      {}", grant.target.name)?;
    if !grant.target.intercept {
        writeln!(
            f,
            "  tunnelled   without decryption: method and path are not visible"
        )?;
    }
    match grant.credential {
        None => writeln!(f, "  credential  none is sent"),
        Some((attach, credential)) => writeln!(
            f,
            "  credential  {} as {}, in the {}",
            credential.name,
            attach.slot,
            PlaceText(&attach.place)
        ),
    }
}

fn write_conditions(f: &mut fmt::Formatter<'_>, conditions: &Conditions) -> fmt::Result {
    let Conditions {
        schedule,
        not_after,
        when,
        rate,
        wait_for_rate_limit,
    } = conditions;
    if let Some(schedule) = schedule {
        writeln!(f, "  schedule    {schedule}")?;
    }
    if let Some(end) = not_after {
        writeln!(f, "  not after   {end}")?;
    }
    if let Some(when) = when {
        writeln!(f, "  when        {}", printable(when.written()))?;
    }
    if let Some(rate) = rate {
        let (requests, seconds) = (rate.requests, rate.period.as_secs());
        writeln!(
            f,
            "  rate        {requests} in {seconds} s (not counted here)"
        )?;
    }
    if let Some(wait) = wait_for_rate_limit {
        writeln!(
            f,
            "  waits       {} s for the API's own rate limit",
            wait.as_secs_f32()
        )?;
    }
    Ok(())
}

fn write_denial(f: &mut fmt::Formatter<'_>, denial: &Denial) -> fmt::Result {
    writeln!(f, "DENIED: {}", denial.reason)?;
    writeln!(f, "  operator    {}", denial.sentence_for_operator())?;
    writeln!(f, "  caller      {}", denial.sentence_for_caller())
}

struct RouteText<'r>(&'r Route);

impl fmt::Display for RouteText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(route) = self;
        match &route.host {
            Some(host) => write!(f, "{host}")?,
            None => write!(f, "any host")?,
        }
        if !route.paths.is_any() {
            write!(f, " {}", printable(&route.paths.written().join(" ")))?;
        }
        match (&route.deny, &route.attach) {
            (Some(reason), _) => write!(f, ": denied ({})", printable(reason)),
            (None, Some(attach)) => write!(f, ": sends {}", attach.slot),
            (None, None) => write!(f, ": sends no credential"),
        }
    }
}

struct PlaceText<'p>(&'p Place);

impl fmt::Display for PlaceText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Header { name, .. } => write!(f, "header {name}"),
            Place::Query { name, .. } => write!(f, "query field {}", printable(name)),
            Place::Path { .. } => write!(f, "path"),
        }
    }
}
