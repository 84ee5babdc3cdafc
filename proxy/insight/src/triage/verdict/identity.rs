//! Proofs that were refused, and pods that do not trust the gateway.

use jiff::SignedDuration;

use super::{
    super::{
        causes::{Ask, Blame},
        report::Confidence,
    },
    Draft, anything,
};

/// The most workloads that are named as likely.
const NAMED: usize = 3;

pub(super) fn diagnose(draft: &mut Draft<'_>) {
    match draft.cause.meaning.reason {
        "identity_expired" | "identity_not_yet_valid" => clock(draft),
        "client_tls" => trust(draft),
        _ => {}
    }
    let addresses_alone = draft
        .episode
        .affected
        .keys()
        .all(|whom| !whom.contains('/'));
    if draft.episode.sample.workload.is_none() && addresses_alone {
        guess(draft);
    }
}

/// One gateway whose clock is wrong refuses everybody; one client that keeps an old token is refused everywhere.
fn clock(draft: &mut Draft<'_>) {
    let refused = draft.episode.affected.len();
    let elsewhere = draft.collected.sources.len() > 1 && draft.episode.sources.len() == 1;
    let early = draft.cause.meaning.reason == "identity_not_yet_valid";
    if refused < 2 && !early {
        draft.because("only one client is refused, so the gateway's clock is right");
        return;
    }
    let whose = match draft.episode.sources.iter().next() {
        Some(source) if elsewhere => format!("the gateway of {source}"),
        _ => "the gateway".to_owned(),
    };
    draft.because(format!("{refused} callers are refused at once"));
    if elsewhere {
        draft.because("the other gateways accept proofs at the same time");
    }
    let way = if early { "behind" } else { "ahead" };
    draft.finding.kind = "CLOCK";
    draft.finding.what = format!("the clock of {whose} is {way}: it refuses valid proofs");
    "set the clock of that gateway's node (NTP); no pod needs a change"
        .clone_into(&mut draft.finding.action);
    draft.ask = Ask::Platform;
    draft.blame(
        Blame::Gateway,
        if elsewhere || refused > 2 {
            Confidence::High
        } else {
            Confidence::Medium
        },
    );
}

fn trust(draft: &mut Draft<'_>) {
    let whom = draft.whom().to_owned();
    let others = draft
        .collected
        .worked
        .keys()
        .filter(|name| name.starts_with("w "))
        .count();
    let (first, last) = (draft.episode.first, draft.episode.last);
    if draft
        .worked(&anything(&whom))
        .is_some_and(|times| times.between(first, last) > 0)
    {
        draft.because("other requests of this workload are fine at the same time");
    }
    if others > 1 {
        draft.because("other workloads complete TLS with the same gateway");
    }
}

/// A client that proved nothing has only an address. Whose was it, and who is missing since?
fn guess(draft: &mut Draft<'_>) {
    let first = draft.episode.first;
    let mut likely: Vec<(String, String)> = Vec::new();
    for address in draft.episode.affected.keys() {
        if let Some((whose, at)) = draft.collected.addresses.get(address)
            && at.duration_since(first).abs() < SignedDuration::from_hours(1)
        {
            likely.push((whose.clone(), format!("{address} is an address of {whose}")));
        }
    }
    if likely.is_empty() {
        likely = missing(draft);
    }
    likely.truncate(NAMED);
    if likely.is_empty() {
        draft.finding.confidence = Confidence::Medium;
        return;
    }
    let names: Vec<_> = likely.iter().map(|(name, _)| name.clone()).collect();
    let addresses: Vec<_> = draft.episode.affected.keys().take(NAMED).cloned().collect();
    for (name, why) in likely {
        draft.because(why);
        if let Some(owner) = draft.collected.owners.get(&name) {
            let owner = owner.clone();
            if draft.ask == Ask::Owner
                && !draft.finding.affected.iter().any(|one| one.owner.is_some())
            {
                draft.finding.affected[0].owner = Some(owner);
            }
        }
    }
    let says = draft.cause.meaning.says;
    if draft.finding.kind == "IDENTITY" {
        let from = addresses.first().map_or("", String::as_str);
        let more = draft.episode.affected.len() - 1;
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let names = names.join(" or ");
        draft.finding.what = format!("{names} (likely, from {from}{more}) {says}");
    }
}

/// Workloads that called at this time of day before, and are silent since.
fn missing(draft: &Draft<'_>) -> Vec<(String, String)> {
    let (first, last) = (draft.episode.first, draft.episode.last);
    let mut missing = Vec::new();
    for (name, times) in &draft.collected.worked {
        let Some(name) = name.strip_prefix("w ") else {
            continue;
        };
        let near = SignedDuration::from_mins(20);
        let daily = (1..=7).find(|days| {
            let then = first
                .saturating_sub(SignedDuration::from_hours(24 * days))
                .unwrap_or(first);
            let from = then.saturating_sub(near).unwrap_or(then);
            times
                .first_after(from)
                .is_some_and(|at| at.duration_since(then) < near)
        });
        let silent = times.first_after(first.saturating_sub(near).unwrap_or(first));
        let silent = silent.is_none_or(|at| at > last);
        let before = times.last_before(first);
        if let (Some(days), true, Some(before)) = (daily, silent, before) {
            let ago = first.duration_since(before).as_hours();
            if ago <= 24 * 8 {
                missing.push((
                    days,
                    name.to_owned(),
                    format!("{name} called at this time {days} d before, and is silent since"),
                ));
            }
        }
    }
    missing.sort();
    missing
        .into_iter()
        .map(|(_, name, why)| (name, why))
        .collect()
}
