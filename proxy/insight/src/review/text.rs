//! A review as text, Markdown, CSV and JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{CredentialRow, Finding, GrantRow, Review, WorkloadRow, rows::text};

/// The name and version of the JSON document.
const SCHEMA: &str = "countersign.review/v1";

impl CredentialRow {
    /// On one line.
    pub fn line(&self) -> String {
        let mut line = format!("{} ({}", self.name, self.kind);
        if let Some(day) = &self.rotate_by {
            let _ = write!(line, ", rotate by {day}");
        }
        if let Some(age) = self.age_seconds {
            let _ = write!(line, ", {} old when last used", length(age));
        }
        if let Some(left) = self.expires_in_seconds {
            let _ = write!(line, ", then valid for {}", length(left));
        }
        if let Some(scopes) = &self.scopes {
            let _ = write!(line, ", scopes {}", scopes.join(" "));
        }
        if let (Some(held), Some(used)) = (&self.scopes_held, &self.scopes_used) {
            let none = if used.is_empty() { "none" } else { "" };
            let _ = write!(
                line,
                ", has the scopes {}, used {none}{}",
                held.join(" "),
                used.join(" ")
            );
        }
        if let Some(last) = &self.last_used {
            let _ = write!(line, ", last used {last}, {} times", self.uses);
        }
        if self.shared_by > 1 {
            let _ = write!(line, ", shared by {} workloads", self.shared_by);
        }
        line + ")"
    }
}

fn length(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

impl GrantRow {
    /// When it was last used, and how often.
    pub fn used(&self) -> String {
        match &self.last_used {
            Some(last) => format!("{last}, {} times", self.uses),
            None => "not in the records".to_owned(),
        }
    }
}

impl Review {
    /// From when to when there are records, in words.
    pub fn records_text(&self) -> String {
        match self.records {
            Some((from, to)) => format!("records from {} to {}", text(from), text(to)),
            None => "no records, so nothing is known about use".to_owned(),
        }
    }

    /// For a person at a terminal.
    pub fn text(&self) -> String {
        let mut out = format!(
            "access review of revision {} at {}; {}\n",
            self.revision,
            text(self.at),
            self.records_text()
        );
        for workload in &self.workloads {
            let _ = writeln!(
                out,
                "\n{}  {}, {}, review by {}, signed off {}",
                workload.name,
                workload.owner,
                workload.environment.as_deref().unwrap_or("no environment"),
                workload.review_by.as_deref().unwrap_or("no day"),
                workload.signed_off.as_deref().unwrap_or("never")
            );
            if let Some(purpose) = &workload.purpose {
                let _ = writeln!(out, "  {purpose}");
            }
            for grant in &workload.grants {
                grant_text(grant, &mut out);
            }
        }
        let _ = writeln!(out, "\n{} findings", self.findings.len());
        for finding in &self.findings {
            let Finding {
                severity,
                code,
                subject,
                message,
                remedy,
                standards,
                ..
            } = finding;
            let severity = format!("{severity:?}").to_uppercase();
            let _ = writeln!(
                out,
                "\n{severity:<7} {code}  {subject}\n  {message}\n  do: {remedy}"
            );
            let _ = writeln!(
                out,
                "  {}; {}; {}",
                standards.owasp, standards.csf, standards.zero_trust
            );
        }
        out
    }

    /// For a wiki or a ticket.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "# Access review of revision {}\n\n{}; {}.\n\n## Findings\n\n",
            self.revision,
            text(self.at),
            self.records_text()
        );
        out.push_str("| severity | code | subject | owner | what | do | standards |\n|---|---|---|---|---|---|---|\n");
        for finding in &self.findings {
            let standards = finding.standards;
            row(
                &mut out,
                &[
                    &format!("{:?}", finding.severity),
                    finding.code,
                    &finding.subject,
                    finding.owner.as_deref().unwrap_or_default(),
                    &finding.message,
                    &finding.remedy,
                    &format!(
                        "{}; {}; {}",
                        standards.owasp, standards.csf, standards.zero_trust
                    ),
                ],
            );
        }
        out.push_str("\n## Access\n\n| workload | owner | environment | review by | signed off | policy | target | rules | conditions | credentials | last used | approved |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n");
        for (workload, grant) in self.pairs() {
            let cells = cells(workload, grant);
            row(&mut out, &cells.each_ref().map(String::as_str));
        }
        out
    }

    /// For a spreadsheet (RFC 4180): one line per workload and policy.
    pub fn csv(&self) -> String {
        let mut out = "workload,owner,environment,review by,signed off,policy,target,rules,conditions,credentials,last used,approved\r\n".to_owned();
        for (workload, grant) in self.pairs() {
            let cells = cells(workload, grant).map(|cell| csv_cell(&cell));
            out.push_str(&cells.join(","));
            out.push_str("\r\n");
        }
        out
    }

    /// For a program.
    pub fn json(&self) -> Value {
        json!({
            "schema": SCHEMA,
            "revision": self.revision,
            "at": text(self.at),
            "records": self.records.map(|(from, to)| json!({ "from": text(from), "to": text(to) })),
            "workloads": self.workloads,
            "findings": self.findings,
        })
    }

    fn pairs(&self) -> impl Iterator<Item = (&WorkloadRow, Option<&GrantRow>)> {
        self.workloads.iter().flat_map(|workload| {
            let none = workload.grants.is_empty().then_some((workload, None));
            workload
                .grants
                .iter()
                .map(move |grant| (workload, Some(grant)))
                .chain(none)
        })
    }
}

fn grant_text(grant: &GrantRow, out: &mut String) {
    let trial = if grant.on_trial { ", on trial" } else { "" };
    let glass = if grant.break_glass {
        ", break-glass"
    } else {
        ""
    };
    let _ = writeln!(out, "  {} -> {}{trial}{glass}", grant.policy, grant.target);
    for rule in &grant.rules {
        let _ = writeln!(out, "    {}  ({} times)", rule.text, rule.uses);
    }
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "    {name:<11} {value}");
    };
    for condition in &grant.conditions {
        line("only", condition);
    }
    if let Some(end) = &grant.ends {
        line("ends", end);
    }
    for credential in &grant.credentials {
        line("credential", &credential.line());
    }
    line("last used", &grant.used());
    line(
        "approved",
        grant.approved.as_deref().unwrap_or("not recorded"),
    );
}

fn cells(workload: &WorkloadRow, grant: Option<&GrantRow>) -> [String; 12] {
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    let of = |text: fn(&GrantRow) -> String| grant.map(text).unwrap_or_default();
    [
        workload.name.clone(),
        workload.owner.clone(),
        or_empty(&workload.environment),
        or_empty(&workload.review_by),
        or_empty(&workload.signed_off),
        of(|grant| grant.policy.clone()),
        of(|grant| grant.target.clone()),
        of(|grant| {
            let rules = grant
                .rules
                .iter()
                .map(|rule| format!("{} ({} times)", rule.text, rule.uses));
            rules.collect::<Vec<_>>().join("; ")
        }),
        of(|grant| {
            let end = grant.ends.as_ref().map(|end| format!("until {end}"));
            grant
                .conditions
                .iter()
                .cloned()
                .chain(end)
                .collect::<Vec<_>>()
                .join("; ")
        }),
        of(|grant| {
            grant
                .credentials
                .iter()
                .map(CredentialRow::line)
                .collect::<Vec<_>>()
                .join("; ")
        }),
        of(GrantRow::used),
        of(|grant| grant.approved.clone().unwrap_or_default()),
    ]
}

fn row(out: &mut String, cells: &[&str]) {
    let escaped = |cell: &&str| {
        cell.replace('|', "\\|")
            .replace('*', "\\*")
            .replace('<', "&lt;")
            .replace('\n', " ")
    };
    let cells: Vec<String> = cells.iter().map(escaped).collect();
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

/// A quoted cell. What a spreadsheet would take for a formula is marked as text.
fn csv_cell(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let mark = if formula { "'" } else { "" };
    format!("\"{mark}{}\"", cell.replace('"', "\"\""))
}
