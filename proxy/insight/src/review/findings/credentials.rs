//! What is not in order with a credential.

use std::collections::BTreeSet;

use countersign_config::model::{Credential, Provider, ResourceName};

use super::{Find, Finding, Severity, Standards};

impl Find<'_> {
    pub(super) fn long_lived(&self, credential: &Credential) -> Option<Finding> {
        let is_static = matches!(
            credential.provider,
            Provider::Static { .. } | Provider::Basic { .. }
        );
        let (severity, code, message, remedy) = match credential.rotate_by {
            Some(day) if day < self.today => (
                Severity::High,
                "rotation-overdue",
                format!("it was to be replaced by {day}"),
                "replace the secret, and write the next day under `rotateBy`",
            ),
            None if is_static => (
                Severity::Medium,
                "static-credential",
                "it is long-lived, and nobody is told when to replace it".to_owned(),
                "use a provider that issues short-lived values, or write a day under `rotateBy`",
            ),
            Some(_) if is_static => (
                Severity::Low,
                "static-credential",
                "it is long-lived".to_owned(),
                "use a provider that issues short-lived values, if the API has one",
            ),
            Some(_) | None => return None,
        };
        let standards = Standards::LONG_LIVED;
        Some(of_credential(
            credential, severity, code, message, remedy, standards,
        ))
    }

    /// Scopes that it has and that no request needed.
    pub(super) fn unused_scopes(&self, credential: &Credential) -> Option<Finding> {
        let used = self.subject.usage.credential(credential.name.as_str())?;
        let unused: Vec<&str> = used
            .scopes_held
            .iter()
            .filter(|scope| !used.scopes_used.contains(scope))
            .map(String::as_str)
            .collect();
        if unused.is_empty() || self.subject.usage.days() < self.subject.unused_days {
            return None;
        }
        let message = format!(
            "no request needed these of its scopes in {} days: {}",
            self.subject.usage.days(),
            unused.join(", ")
        );
        Some(of_credential(
            credential,
            Severity::Medium,
            "scopes-unused",
            message,
            "take them from it at the API, where scopes can be taken back; else issue it anew without them",
            Standards::TOO_WIDE,
        ))
    }

    pub(super) fn shared(
        &self,
        credential: &Credential,
        names: &BTreeSet<&ResourceName>,
    ) -> Vec<Finding> {
        if names.len() < 2 {
            return Vec::new();
        }
        let list: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let mut found = vec![of_credential(
            credential,
            Severity::Medium,
            "credential-shared",
            format!("{} workloads share it: {}", list.len(), list.join(", ")),
            "make a credential of its own for each workload",
            Standards::REUSE,
        )];
        let workloads = self.subject.policies.workloads().iter();
        let environments: BTreeSet<&str> = workloads
            .filter(|workload| names.contains(&workload.name))
            .filter_map(|workload| workload.environment.as_deref())
            .collect();
        if environments.len() > 1 {
            let list: Vec<&str> = environments.into_iter().collect();
            found.push(of_credential(
                credential,
                Severity::High,
                "environments-mixed",
                format!(
                    "workloads of several environments share it: {}",
                    list.join(", ")
                ),
                "make one for each environment",
                Standards::ISOLATION,
            ));
        }
        found
    }
}

fn of_credential(
    credential: &Credential,
    severity: Severity,
    code: &'static str,
    message: String,
    remedy: &str,
    standards: Standards,
) -> Finding {
    Finding {
        severity,
        code,
        subject: format!("Credential {}", credential.name),
        owner: None,
        message,
        remedy: remedy.to_owned(),
        standards,
    }
}
