//! Behind the decision: credentials, the API, the network, rates, and the gateway itself.

use jiff::SignedDuration;

use super::{
    super::{
        causes::{Ask, Blame},
        report::Confidence,
        scope::key,
    },
    Draft,
};

/// A gateway that is killed starts again within this time of its last failure.
const RESTARTS_WITHIN: SignedDuration = SignedDuration::from_mins(20);

pub(super) fn diagnose(draft: &mut Draft<'_>) {
    match draft.cause.meaning.label {
        "RATE" => rate(draft),
        "API-ERROR" => answered(draft),
        _ => down(draft),
    }
}

/// The API or the way to it: compared with the other APIs, and with other requests to the same.
fn down(draft: &mut Draft<'_>) {
    let (first, last) = (draft.episode.first, draft.episode.last);
    let authority = draft.episode.sample.authority.clone().unwrap_or_default();
    let mut others_down = 0;
    for cause in draft.collected.causes.values() {
        let same = matches!(cause.meaning.label, "API" | "NETWORK");
        let overlaps = cause.episodes.iter().any(|other| {
            let elsewhere = other.sample.authority.as_deref() != Some(&*authority);
            elsewhere && other.first <= last && other.last >= first
        });
        others_down += usize::from(same && overlaps);
    }
    let others_work = draft.collected.worked.iter().any(|(name, times)| {
        let other = name
            .strip_prefix("a ")
            .is_some_and(|other| other != authority);
        other && times.between(first, last) > 0
    });
    let connecting = ["upstream_connect", "upstream_resolve", "upstream_timeout"];
    let connects = draft.episode.reasons.iter();
    let connects: u64 = connects
        .filter(|(reason, _)| connecting.contains(&reason.as_str()))
        .map(|(_, count)| count)
        .sum();
    let mostly = connects * 2 > draft.episode.count;
    if others_down > 0 && !others_work && mostly {
        draft.because(format!(
            "{} services fail to connect at once, and none works",
            others_down + 1
        ));
        draft.finding.kind = "NETWORK";
        "see routes, name servers and egress rules of the gateway"
            .clone_into(&mut draft.finding.action);
        draft.ask = Ask::Platform;
        draft.blame(Blame::Network, Confidence::High);
        return;
    }
    if others_work {
        draft.because("other services work at the same time, through the same gateways");
    }
    let many = draft.episode.affected.len();
    if many > 1 {
        draft.because(format!("{many} workloads are affected"));
    }
    let same = draft.worked(&key::api(&authority));
    let works = same.map_or(0, |times| times.between(first, last));
    if many == 1 && works > draft.episode.count && draft.cause.meaning.label == "API" {
        let request = draft.finding.affected[0].request.clone();
        draft.because(format!(
            "{works} other requests to it worked in the same hours: {request} may cause it"
        ));
        draft.finding.what = format!(
            "{} fails at {request} alone",
            authority.trim_end_matches(":443")
        );
        "look at that request with the API's support; access is fine"
            .clone_into(&mut draft.finding.action);
        draft.finding.confidence = Confidence::Low;
    }
}

/// Who sends most with the credential is whom to slow down.
fn rate(draft: &mut Draft<'_>) {
    let credential = draft.episode.sample.credential.clone().unwrap_or_default();
    let from = draft
        .episode
        .first
        .saturating_sub(SignedDuration::from_hours(1))
        .unwrap_or(draft.episode.first);
    let to = draft.episode.last;
    let Some(users) = draft.collected.sent.get(&credential) else {
        return;
    };
    let mut users: Vec<_> = users
        .iter()
        .map(|(who, times)| (times.between(from, to), who.clone()))
        .filter(|(count, _)| *count > 0)
        .collect();
    users.sort_by(|one, other| other.cmp(one));
    let all: u64 = users.iter().map(|(count, _)| count).sum();
    let Some((most, who)) = users.first().cloned() else {
        return;
    };
    let share = most * 100 / all.max(1);
    draft.because(format!(
        "{who} sent {most} of {all} requests with {credential} ({share} %)"
    ));
    let sharing = users.len();
    draft.finding.what = format!("{who} uses up the API's rate limit for {credential}");
    if sharing > 1 {
        draft.because(format!("{sharing} workloads share the credential"));
        draft.finding.action = format!("slow {who} down, or give it a credential of its own");
    } else {
        draft.finding.action = format!("slow {who} down; the API limits it");
    }
    let owner = draft.collected.owners.get(&who).cloned();
    if let Some(owner) = owner {
        // Whoever sends most is asked, not whoever suffers.
        for one in &mut draft.finding.affected {
            one.owner = None;
        }
        if let Some(first) = draft.finding.affected.first_mut() {
            first.owner = Some(owner);
        }
    }
    draft.ask = Ask::Owner;
    draft.blame(
        Blame::Code,
        if share >= 50 {
            Confidence::High
        } else {
            Confidence::Medium
        },
    );
    let first = draft.episode.first;
    let day = first.saturating_sub(SignedDuration::from_hours(24)).ok();
    let deployed = draft.collected.changes.deployed(&who, day, first);
    draft.change(deployed);
}

/// The API's own answer to a permitted request.
fn answered(draft: &mut Draft<'_>) {
    let sample = draft.episode.sample.clone();
    let request = draft
        .finding
        .affected
        .first()
        .map(|one| one.request.clone())
        .unwrap_or_default();
    let said = match (&sample.api_error, sample.status) {
        (Some(error), Some(status)) => format!("`{error}` ({status})"),
        (Some(error), None) => format!("`{error}`"),
        (None, Some(status)) => format!("status {status}"),
        (None, None) => "an error".to_owned(),
    };
    let whom = draft.whom().to_owned();
    draft.finding.what = format!("{whom} gets {said} for {request}");
    draft.finding.reason = sample.api_error.clone().unwrap_or_default();
    draft
        .because("the caller is proven, the policy permits it, and the API accepts the credential");
    draft.finding.confidence = Confidence::Medium;
}

/// A credential that is missing, expired, revoked, or lacks a right.
pub(super) fn credential(draft: &mut Draft<'_>) {
    let sample = draft.episode.sample.clone();
    let name = sample.credential.clone().unwrap_or_default();
    let first = draft.episode.first;
    let expired = draft.collected.changes.expired(&name, first);
    let expired = draft.change(expired);
    let obtained = draft.collected.changes.obtained(&name, draft.from(), first);
    let replaced = draft.change(obtained);
    let mut revisions = draft.collected.changes.revisions(draft.from(), first);
    let resource = format!("Credential {name}");
    let touched = revisions.find(|change| change.resources.contains(&resource));
    let touched = touched.cloned();
    if draft.change(touched) {
        draft.because("the Credential itself was changed since it last worked");
    }
    let said = sample.api_error.as_deref();
    if draft.cause.meaning.label == "SCOPE" {
        let (needed, has) = scopes(sample.detail.as_deref().unwrap_or_default());
        if let Some(needed) = needed {
            let has = has.map(|has| format!(" (has {has})")).unwrap_or_default();
            draft.finding.what = format!("{name} lacks {needed}{has}");
            draft.finding.action =
                format!("add {needed} at the service and reinstall the app; policy is fine");
        }
        return;
    }
    match said {
        Some("token_revoked" | "account_inactive" | "app_uninstalled" | "token_deleted") => {
            draft.finding.what = format!("{name} was revoked at the API");
            "install the app again and put its new token where the Credential says"
                .clone_into(&mut draft.finding.action);
        }
        Some("token_expired") => draft.finding.what = format!("{name} has expired"),
        Some(said) => draft.because(format!("the API says `{said}`")),
        None => {}
    }
    if expired && draft.finding.reason != "credential_rejected" {
        draft.finding.what = format!("{name} has expired and could not be renewed");
    } else if replaced {
        draft.because("the value that is rejected is new: somebody replaced it, or its rotation brought a bad one");
    }
    let many = draft.episode.affected.len();
    if many > 1 {
        draft.because(format!("{many} workloads that use it are affected"));
    }
}

/// The scopes in a detail: "needed: `a`, provided: `b`".
fn scopes(detail: &str) -> (Option<&str>, Option<&str>) {
    let after = |label: &str| {
        let rest = &detail[detail.find(label)? + label.len()..];
        let end = rest.find('`')?;
        Some(&rest[..end]).filter(|text| !text.is_empty())
    };
    (after("needed: `"), after("provided: `"))
}

/// The gateway: one of several or all, and whether it was restarted.
pub(super) fn gateway(draft: &mut Draft<'_>) {
    let soon = draft
        .episode
        .last
        .saturating_add(RESTARTS_WITHIN)
        .unwrap_or(draft.episode.last);
    let restarts: Vec<_> = draft
        .collected
        .changes
        .restarts(draft.from(), soon)
        .filter(|change| {
            draft
                .episode
                .sources
                .iter()
                .any(|source| change.what.starts_with(source))
        })
        .take(2)
        .cloned()
        .collect();
    for restart in restarts {
        draft.change(Some(restart));
    }
    let source = draft
        .episode
        .sources
        .iter()
        .next()
        .cloned()
        .unwrap_or_default();
    if draft.collected.sources.len() > 1 {
        draft.because(format!(
            "it is the gateway of {source}; there are {} in all",
            draft.collected.sources.len()
        ));
    }
    let many = draft.episode.affected.len();
    if many > 1 {
        draft.because(format!("{many} workloads are affected, whatever they call"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_in_the_detail() {
        let detail = "slack answered `missing_scope` to qa/slack (generation 3); needed: `chat:write`, provided: `channels:read`. Give it";
        assert_eq!(scopes(detail), (Some("chat:write"), Some("channels:read")));
        assert_eq!(scopes("needed: ``, provided: ``"), (None, None));
        assert_eq!(scopes("nothing"), (None, None));
    }
}
