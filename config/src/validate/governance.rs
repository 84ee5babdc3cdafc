//! Reports resources that do not say what the gateway's `governance` asks of them.

use super::head::Head;
use crate::{
    governance::{self, Breach, Field, Subjects},
    setting::Setting,
    yaml::Findings,
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
        let whole = head.document.location();
        let spec = whole.key("spec");
        let Breach {
            rule,
            message,
            remedy,
            field,
            lapsed,
            ..
        } = breach;
        let report = |location: &crate::yaml::Location<'_>| {
            if governance.only_warn || lapsed {
                findings.warning(location, rule.code(), message, remedy);
            } else {
                findings.error(location, rule.code(), message, remedy);
            }
        };
        match field {
            Field::Key(key) => report(&spec.key(key)),
            Field::Paths(index) => report(&spec.key("allow").index(index).key("paths")),
            Field::Whole => report(&whole.key("metadata").key("name")),
        }
    }
}
