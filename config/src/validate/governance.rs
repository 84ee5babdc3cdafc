//! Reports resources that do not say what the gateway's `governance` asks of them.

use super::head::Head;
use crate::{
    governance::{self, Breach, Field, Subjects},
    model::Governance,
    setting::Setting,
    yaml::{Document, Findings, Location},
};

pub(super) fn check(heads: &[Head<'_>], all: Subjects<'_>, setting: &Setting, findings: &Findings) {
    let Some(governance) = &setting.governance else {
        return;
    };
    for breach in governance::check(governance, all, setting.now) {
        let is_meant = |head: &&Head<'_>| {
            head.kind == breach.kind && head.name.as_ref() == Some(&breach.name) && !head.duplicate
        };
        let Some(head) = heads.iter().find(is_meant) else {
            continue;
        };
        report(breach, &head.document.location(), governance, findings);
    }
}

/// The same for one object of a cluster. How many workloads share a credential no object shows.
pub(super) fn check_object(
    document: &Document<'_>,
    subject: Subjects<'_>,
    setting: &Setting,
    findings: &Findings,
) {
    let Some(governance) = &setting.governance else {
        return;
    };
    for breach in governance::check(governance, subject, setting.now) {
        report(breach, &document.location(), governance, findings);
    }
}

fn report(breach: Breach, whole: &Location<'_>, governance: &Governance, findings: &Findings) {
    let spec = whole.key("spec");
    let Breach {
        rule,
        message,
        remedy,
        field,
        lapsed,
        ..
    } = breach;
    let tell = |location: &Location<'_>| {
        if governance.only_warn || lapsed {
            findings.warning(location, rule.code(), message, remedy);
        } else {
            findings.error(location, rule.code(), message, remedy);
        }
    };
    match field {
        Field::Key(key) => tell(&spec.key(key)),
        Field::Paths(index) => tell(&spec.key("allow").index(index).key("paths")),
        Field::Whole => tell(&whole.key("metadata").key("name")),
    }
}
