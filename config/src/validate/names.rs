//! Names of Kubernetes objects. Selectors and references compare exactly, so a name that the API server does
//! not accept matches nothing; the remedy says what was probably meant.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>

use crate::yaml::{Findings, Location, placeholders};

/// What the API server accepts as the name of a kind of object.
#[derive(Debug, Clone, Copy)]
pub(super) struct NameRule {
    /// In words, for messages.
    what: &'static str,
    /// In characters.
    longest: usize,
    /// Whether it can have dots: a subdomain of RFC 1123, otherwise a label.
    dots: bool,
    /// The code of findings.
    code: &'static str,
}

impl NameRule {
    pub(super) const RESOURCE: Self = Self::subdomain("the name of a resource", "bad-name");
    pub(super) const NAMESPACE: Self = Self {
        what: "a namespace",
        longest: 63,
        dots: false,
        code: "bad-name",
    };
    pub(super) const SECRET: Self = Self::subdomain("the name of a Secret", "bad-name");
    pub(super) const SERVICE_ACCOUNT: Self =
        Self::subdomain("the name of a service account", "bad-selector");
    pub(super) const SELECTED_NAMESPACE: Self = Self {
        code: "bad-selector",
        ..Self::NAMESPACE
    };
    /// Eleven characters are left for what the controller appends to the names of its Jobs.
    pub(super) const CRON_JOB: Self = Self {
        longest: 52,
        ..Self::subdomain("the name of a CronJob", "bad-selector")
    };

    const fn subdomain(what: &'static str, code: &'static str) -> Self {
        Self {
            what,
            longest: 253,
            dots: true,
            code,
        }
    }

    /// Whether the API server would accept it.
    fn accepts(self, name: &str) -> bool {
        name.len() <= self.longest
            && (self.dots || !name.contains('.'))
            && name.split('.').all(is_label)
    }
}

/// A label of RFC 1123, of any length.
fn is_label(label: &str) -> bool {
    let is_inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    !label.is_empty()
        && label.bytes().all(|b| is_inner(&b))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether it can be the name of a label: perhaps a domain and `/`, then at most 63 characters.
pub(super) fn is_label_name(name: &str) -> bool {
    let (domain, name) = match name.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, name),
    };
    !name.is_empty()
        && is_label_value(name)
        && domain.is_none_or(|domain| NameRule::RESOURCE.accepts(domain))
}

/// Whether it can be the value of a label, which may be empty.
pub(super) fn is_label_value(value: &str) -> bool {
    let is_end = |c: char| c.is_ascii_alphanumeric();
    let is_inner = |c: char| is_end(c) || matches!(c, '-' | '_' | '.');
    value.is_empty()
        || (value.len() <= 63
            && value.chars().all(is_inner)
            && value.starts_with(is_end)
            && value.ends_with(is_end))
}

/// Whether it can be a key in a Secret's `data`; otherwise there is a finding.
pub(super) fn secret_key(key: &str, location: &Location<'_>, findings: &Findings) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let sound = !key.is_empty() && key.len() <= 253 && key.chars().all(is_inner);
    if !sound && placeholders::find(key).is_none() {
        findings.error(
            location,
            "bad-name",
            "this is not a key of a Secret",
            "write one key of its `data`, which has only letters, digits, `-`, `_` and `.`",
        );
    }
    sound
}

/// Whether it is a name; otherwise there is a finding.
pub(super) fn check(
    name: &str,
    rule: NameRule,
    location: &Location<'_>,
    findings: &Findings,
) -> bool {
    if rule.accepts(name) {
        return true;
    }
    // Templates are reported wherever they are.
    if placeholders::find(name).is_none() {
        let (problem, remedy) = mistake(name, rule);
        let message = format!("this is not {}: {problem}", rule.what);
        findings.error(location, rule.code, message, remedy);
    }
    false
}

/// What is wrong, and the remedy for this mistake.
fn mistake(name: &str, rule: NameRule) -> (String, String) {
    identity(name)
        .or_else(|| several(name))
        .or_else(|| characters(name, rule))
        .unwrap_or_else(|| {
            let dots = if rule.dots {
                ", `-` and `.`"
            } else {
                " and `-`"
            };
            (
                "it has characters that such a name cannot have".to_owned(),
                format!(
                    "use lower-case letters, digits{dots}, with a letter or digit at both ends"
                ),
            )
        })
}

/// A longer form of an identity that has the name in it.
fn identity(name: &str) -> Option<(String, String)> {
    if let Some((namespace, account)) = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    {
        return Some((
            "it is the whole subject of a token".to_owned(),
            format!("write `serviceAccount: {account}`, and `namespace: {namespace}` beside it"),
        ));
    }
    if name.starts_with("spiffe://") {
        return Some((
            "it is a SPIFFE ID".to_owned(),
            "write it under `spiffeId`".to_owned(),
        ));
    }
    if name.contains(['$', '<', '>', '{', '}', '%']) {
        return Some((
            "it seems to be a placeholder".to_owned(),
            "write the name itself; variables and templates are not replaced here".to_owned(),
        ));
    }
    let (namespace, account) = name.split_once('/')?;
    (is_label(namespace) && account.split('.').all(is_label)).then(|| {
        (
            "it has a namespace in it".to_owned(),
            format!("write `{account}`, and `namespace: {namespace}` beside it"),
        )
    })
}

/// A pattern or a list.
fn several(name: &str) -> Option<(String, String)> {
    if name.trim().is_empty() {
        return Some(("it is empty".to_owned(), "write the name".to_owned()));
    }
    if name.contains(['*', '?', '[']) {
        return Some((
            "it is a pattern, not one exact name".to_owned(),
            "write one name; for several, add an entry for each".to_owned(),
        ));
    }
    if name.trim().contains([',', ' ', '|']) {
        return Some((
            "it is more than one name".to_owned(),
            "write one name; for several, add an entry for each".to_owned(),
        ));
    }
    None
}

/// A name that is right but for its spelling.
fn characters(name: &str, rule: NameRule) -> Option<(String, String)> {
    if name.len() > rule.longest {
        return Some((
            format!("it is longer than {} characters", rule.longest),
            "write the name as `kubectl get` shows it".to_owned(),
        ));
    }
    let trimmed = name.trim();
    let lower = trimmed.to_ascii_lowercase();
    let hyphened = lower.replace('_', "-");
    let hyphened = hyphened.trim_matches('-');
    let undotted = hyphened.replace('.', "-");
    let (problem, likely) = if rule.accepts(trimmed) {
        ("it has spaces around it", trimmed)
    } else if rule.accepts(&lower) {
        ("it has capital letters", &*lower)
    } else if rule.accepts(hyphened) && lower.contains('_') {
        ("it has a `_`", hyphened)
    } else if rule.accepts(hyphened) {
        ("it begins or ends with `-`", hyphened)
    } else if rule.accepts(&undotted) {
        ("it has a `.`", &*undotted)
    } else {
        return None;
    };
    Some((
        problem.to_owned(),
        format!("Kubernetes does not accept such a name; is it `{likely}`?"),
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const LONG: &str = "a23456789012345678901234567890123456789012345678901234567890123";

    #[rstest]
    #[case::label("qa", true, true)]
    #[case::digits("0-9", true, true)]
    #[case::dots("qa.example.com", false, true)]
    #[case::longest(LONG, true, true)]
    #[case::longer(&format!("{LONG}4"), false, true)]
    #[case::capitals("Nightly", false, false)]
    #[case::underscore("night_ly", false, false)]
    #[case::subject("system:serviceaccount:qa:nightly", false, false)]
    #[case::variable("$SERVICE_ACCOUNT", false, false)]
    #[case::empty("", false, false)]
    #[case::first("-a", false, false)]
    #[case::last("a-", false, false)]
    #[case::empty_label("a..b", false, false)]
    #[case::label_ends("a-.b", false, false)]
    #[case::not_ascii("n\u{e4}chtlich", false, false)]
    fn names_are_what_the_api_server_accepts(
        #[case] name: &str,
        #[case] label: bool,
        #[case] subdomain: bool,
    ) {
        assert_eq!(NameRule::NAMESPACE.accepts(name), label);
        assert_eq!(NameRule::SERVICE_ACCOUNT.accepts(name), subdomain);
    }

    #[rstest]
    #[case(
        "system:serviceaccount:qa:nightly",
        "`serviceAccount: nightly`, and `namespace: qa`"
    )]
    #[case("spiffe://prod/ns/qa", "under `spiffeId`")]
    #[case("qa/nightly", "write `nightly`, and `namespace: qa`")]
    #[case("<service-account>", "the name itself")]
    #[case("$service_account", "the name itself")]
    #[case("nightly-*", "add an entry for each")]
    #[case("nightly, hourly", "add an entry for each")]
    #[case("Nightly", "is it `nightly`?")]
    #[case("night_ly", "is it `night-ly`?")]
    #[case("NIGHT_LY", "is it `night-ly`?")]
    #[case(" nightly ", "is it `nightly`?")]
    #[case("nightly-", "is it `nightly`?")]
    #[case("n\u{e4}chtlich", "lower-case letters")]
    #[case("", "write the name")]
    fn the_remedy_fits_the_mistake(#[case] name: &str, #[case] remedy: &str) {
        let (_, shown) = mistake(name, NameRule::SERVICE_ACCOUNT);
        assert!(shown.contains(remedy), "{shown}");
    }

    #[rstest]
    #[case("app", true)]
    #[case("app.kubernetes.io/Name_1", true)]
    #[case("/app", false)]
    #[case("App/app", false)]
    #[case("a/b/c", false)]
    #[case("-a", false)]
    #[case("", false)]
    fn labels_have_names(#[case] name: &str, #[case] valid: bool) {
        assert_eq!(is_label_name(name), valid);
        assert!(is_label_value(""));
        assert!(!is_label_value("a b"));
        assert!(!is_label_value(&format!("{LONG}4")));
    }

    #[test]
    fn lengths_differ_by_kind() {
        assert!(NameRule::CRON_JOB.accepts(&LONG[..52]));
        assert!(!NameRule::CRON_JOB.accepts(&LONG[..53]));
        assert!(NameRule::SECRET.accepts("a.".repeat(126).trim_end_matches('.')));
        let (problem, _) = mistake(&LONG[..53], NameRule::CRON_JOB);
        assert!(problem.contains("52"), "{problem}");
        let (_, remedy) = mistake("qa.example", NameRule::NAMESPACE);
        assert!(remedy.contains("`qa-example`"), "{remedy}");
    }
}
