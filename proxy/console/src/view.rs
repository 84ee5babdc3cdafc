//! Times, links and findings as pages show them. Foreign text is escaped here for eyes, and by the templates for HTML.

use countersign_insight::{
    credentials::length,
    triage::{Finding, Report},
};
use countersign_types::shown::escaped;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// The most workloads that a finding lists.
const AFFECTED: usize = 6;

/// The most records that a finding links to.
const EVIDENCE: usize = 3;

/// A moment: for a machine, for a clock, and as seen from now.
#[derive(Debug, Clone)]
pub(crate) struct When {
    pub(crate) iso: String,
    pub(crate) text: String,
    pub(crate) ago: String,
}

impl When {
    pub(crate) fn of(at: Timestamp, now: Timestamp) -> Self {
        let [then, today] = [at, now].map(|at| at.to_zoned(TimeZone::UTC));
        let format = if then.date() == today.date() {
            "%H:%M:%S"
        } else if today.date().yesterday().ok() == Some(then.date()) {
            "yesterday %H:%M"
        } else if then.year() == today.year() {
            "%a %-d %b %H:%M"
        } else {
            "%-d %b %Y %H:%M"
        };
        let ago = now.duration_since(at);
        Self {
            iso: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            text: then.strftime(format).to_string(),
            ago: if ago < SignedDuration::from_secs(1) {
                "now".to_owned()
            } else {
                format!(
                    "{} ago",
                    length(u64::try_from(ago.as_secs()).unwrap_or_default())
                )
            },
        }
    }
}

/// A text of others, for the middle of a line.
pub(crate) fn shown(text: &str) -> String {
    escaped(text).into_owned()
}

/// The same, if it is there.
pub(crate) fn shown_or(text: Option<&str>, otherwise: &str) -> String {
    shown(text.unwrap_or(otherwise))
}

/// A page that takes a name.
pub(crate) fn link(page: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        query.append_pair(name, value);
    }
    format!("/console/{page}?{}", query.finish())
}

/// A number with thousands apart.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 request`, `2 requests`.
pub(crate) fn count(count: u64, one: &str, more: &str) -> String {
    let name = if count == 1 { one } else { more };
    format!("{} {name}", self::number(count))
}

/// A cause of failures, as a card.
pub(crate) struct FindingView {
    pub(crate) anchor: String,
    pub(crate) kind: &'static str,
    pub(crate) what: String,
    pub(crate) blame: String,
    pub(crate) confidence: &'static str,
    pub(crate) reason: String,
    /// `failing`, `unknown` or `over`.
    pub(crate) state: &'static str,
    pub(crate) state_words: String,
    pub(crate) first: When,
    pub(crate) last: When,
    pub(crate) count: String,
    pub(crate) last_worked: Option<When>,
    pub(crate) affected: Vec<AffectedView>,
    pub(crate) more_affected: usize,
    pub(crate) changes: Vec<ChangeView>,
    pub(crate) because: Vec<String>,
    pub(crate) action: String,
    pub(crate) ask: String,
    pub(crate) next: String,
    pub(crate) evidence: Vec<Link>,
}

pub(crate) struct AffectedView {
    pub(crate) workload: Link,
    pub(crate) owner: String,
    pub(crate) request: String,
    pub(crate) count: String,
}

pub(crate) struct ChangeView {
    pub(crate) at: When,
    pub(crate) what: String,
}

pub(crate) struct Link {
    pub(crate) text: String,
    pub(crate) href: String,
}

impl FindingView {
    pub(crate) fn of(finding: &Finding, now: Timestamp) -> Self {
        let when = |at| When::of(at, now);
        let (state, state_words) = state(finding, now);
        let affected = finding.affected.iter().take(AFFECTED);
        Self {
            anchor: anchor(finding),
            kind: finding.kind,
            what: shown(&finding.what),
            blame: shown(&finding.blame_words),
            confidence: finding.confidence.words(),
            reason: shown(&finding.reason),
            state,
            state_words,
            first: when(finding.first),
            last: when(finding.last),
            count: count(finding.count, "request", "requests"),
            last_worked: finding.last_worked.map(when),
            more_affected: finding.affected.len().saturating_sub(AFFECTED),
            affected: affected
                .map(|one| AffectedView {
                    workload: Link {
                        text: shown(&one.name),
                        href: link("workload", &[("name", &one.name)]),
                    },
                    owner: shown_or(one.owner.as_deref(), ""),
                    request: shown(&one.request),
                    count: count(one.count, "request", "requests"),
                })
                .collect(),
            changes: finding
                .changes
                .iter()
                .take(3)
                .map(|change| ChangeView {
                    at: when(change.at),
                    what: shown(&change.what),
                })
                .collect(),
            because: finding
                .because
                .iter()
                .take(4)
                .map(|fact| shown(fact))
                .collect(),
            action: sentence(&shown(&finding.action)),
            ask: shown(&finding.ask),
            next: shown(&finding.next),
            evidence: finding
                .evidence
                .iter()
                .take(EVIDENCE)
                .map(|id| record(id))
                .collect(),
        }
    }
}

/// A link to a record's story.
pub(crate) fn record(id: &str) -> Link {
    let text = shown(id);
    Link {
        text: text.chars().take(64).collect(),
        href: link("request", &[("id", id)]),
    }
}

/// With a capital letter first and a full stop last.
pub(crate) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let Some(first) = characters.next() else {
        return String::new();
    };
    let mut sentence: String = first.to_uppercase().collect();
    sentence.push_str(characters.as_str());
    if !sentence.ends_with(['.', '?', '!', '`']) {
        sentence.push('.');
    }
    sentence
}

fn state(finding: &Finding, now: Timestamp) -> (&'static str, String) {
    let stale = now.duration_since(finding.last) > SignedDuration::from_hours(24);
    match finding.recovered {
        Some(recovered) => (
            "over",
            format!("over since {}", When::of(recovered, now).text),
        ),
        None if finding.ongoing && stale => ("unknown", "not seen working since".to_owned()),
        None if finding.ongoing => ("failing", "still failing".to_owned()),
        None => ("over", "over".to_owned()),
    }
}

/// What a link to a finding names; the same while the finding goes on.
pub(crate) fn anchor(finding: &Finding) -> String {
    let evidence = finding.evidence.first().map_or("", String::as_str);
    let letters = evidence.chars().filter(char::is_ascii_alphanumeric);
    format!("cause-{}", letters.collect::<String>())
}

/// Causes in the order of a morning: those that go on first, then the latest.
pub(crate) fn by_urgency(report: &Report) -> Vec<&Finding> {
    let mut all: Vec<_> = report.findings.iter().collect();
    all.sort_by_key(|finding| (!finding.ongoing, std::cmp::Reverse(finding.last)));
    all
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2026-11-23T05:10:03Z", "05:10:03", "49 min ago")]
    #[case("2026-11-22T05:10:03Z", "yesterday 05:10", "1 d 0 h ago")]
    #[case("2026-11-20T05:10:03Z", "Fri 20 Nov 05:10", "3 d 0 h ago")]
    #[case("2025-11-20T05:10:03Z", "20 Nov 2025 05:10", "368 d 0 h ago")]
    #[case("2026-11-23T06:00:09Z", "06:00:09", "now")]
    fn a_moment_is_told_as_seen_from_now(#[case] at: &str, #[case] text: &str, #[case] ago: &str) {
        let now = "2026-11-23T06:00:00Z".parse().unwrap();
        let when = When::of(at.parse().unwrap(), now);
        assert_eq!((&*when.text, &*when.ago), (text, ago));
        assert_eq!(when.iso, at);
    }

    #[test]
    fn names_of_others_cannot_leave_a_link() {
        let href = link("workload", &[("name", "qa/a&b=\"<c>#")]);
        assert_eq!(href, "/console/workload?name=qa%2Fa%26b%3D%22%3Cc%3E%23");
    }

    #[rstest]
    #[case(0, "0")]
    #[case(999, "999")]
    #[case(1_000, "1,000")]
    #[case(1_234_567, "1,234,567")]
    fn thousands_are_apart(#[case] plain: u64, #[case] told: &str) {
        assert_eq!(number(plain), told);
    }
}
