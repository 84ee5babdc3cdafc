//! Classes of hosts: which of some host patterns match.

use std::collections::{BTreeMap, BTreeSet};

use countersign_config::host::{Host, HostPattern};

use super::{
    Set, TooComplex,
    words::{self, Glob, Words},
};

/// Which patterns match, and a host that does.
pub(crate) type HostClass = (Set, Host);

/// Every set of patterns that some host matches, and no others. Hosts that nothing matches are left out.
pub(crate) fn classes(patterns: &[HostPattern]) -> Result<Vec<HostClass>, TooComplex> {
    let mut found: BTreeMap<Set, Host> = BTreeMap::new();
    let mut suffixes: BTreeSet<&str> = BTreeSet::new();
    for pattern in patterns {
        suffixes.extend(pattern.suffix());
        if let Some(host) = pattern.exact() {
            found
                .entry(matching(patterns, host))
                .or_insert_with(|| host.clone());
        }
    }
    for suffix in suffixes {
        let labels: Vec<Glob> = patterns
            .iter()
            .filter_map(|pattern| label(pattern, suffix))
            .map(|label| Glob::new(&label, false))
            .collect();
        let labels: Vec<&Glob> = labels.iter().collect();
        for (_, label) in words::classes(&labels, Words::Labels)? {
            // A label alone may make a name that is no host, such as one that is too long.
            let Ok(host) = Host::parse(&format!("{label}.{suffix}")) else {
                continue;
            };
            let set = matching(patterns, &host);
            if !set.is_empty() {
                found.entry(set).or_insert(host);
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The patterns that match a host.
pub(crate) fn matching(patterns: &[HostPattern], host: &Host) -> Set {
    let all = (0_u32..).zip(patterns);
    all.filter(|(_, pattern)| pattern.matches(host))
        .map(|(index, _)| index)
        .collect()
}

/// The first label of a pattern, if the others are this suffix.
fn label(pattern: &HostPattern, suffix: &str) -> Option<String> {
    let text = match pattern.exact() {
        Some(host) => host.name()?.to_owned(),
        None => pattern.to_string(),
    };
    let (label, rest) = text.split_once('.')?;
    (rest == suffix).then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(patterns: &[&str]) -> Vec<(Set, String)> {
        let patterns = patterns
            .iter()
            .map(|text| HostPattern::parse(text).expect("a pattern"));
        let classes = classes(&patterns.collect::<Vec<_>>()).expect("it is small");
        classes
            .into_iter()
            .map(|(set, host)| (set, host.to_string()))
            .collect()
    }

    #[test]
    fn exact_hosts_and_wildcards_are_told_apart() {
        let classes = said(&[
            "slack.com",
            "wss*.slack.com",
            "*.slack.com",
            "wss-a.slack.com",
            "*.example.com",
        ]);
        let sets: Vec<_> = classes.iter().map(|(set, _)| set.clone()).collect();
        assert_eq!(sets, [vec![0], vec![1, 2], vec![1, 2, 3], vec![2], vec![4]]);
        assert_eq!(classes[1].1, "wss.slack.com");
    }

    #[test]
    fn an_address_is_a_host() {
        assert_eq!(said(&["192.0.2.1"]), [(vec![0], "192.0.2.1".to_owned())]);
    }
}
