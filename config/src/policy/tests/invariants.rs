//! What must hold for any resources and any request.

use proptest::{prelude::*, sample::select};

use super::*;

const ACCOUNTS: [&str; 3] = ["a", "b", "shared"];
const REQUESTS: [&str; 9] = [
    "POST slack.com/api/chat.postMessage",
    "GET slack.com/api/users.list?limit=5",
    "GET slack.com/api/users.list?limit=500",
    "POST slack.com/api/apps.connections.open",
    "POST slack.com/api/auth.revoke",
    "POST files.slack.com/upload/v1/x",
    "GET wss-primary.slack.com/link",
    "GET api.qase.io/v1/run/DEMO",
    "GET notslack.com/",
];
const TIMES: [&str; 3] = [MORNING, "2026-11-23T12:00:00Z", "2028-01-03T05:10:00Z"];

fn workloads() -> [Arc<Workload>; 3] {
    // Two accounts match `both`, and `shared` matches two workloads.
    [
        workload("a", vec![account("a"), account("shared")]),
        workload("b", vec![account("b")]),
        workload("both", vec![account("shared"), account("b")]),
    ]
}

const HOSTS: [&[&str]; 3] = [&[], &["slack.com"], &["wss*.slack.com", "files.slack.com"]];
const METHODS: [&[Method]; 3] = [&[], &[Method::GET], &[Method::POST]];
const PATHS: [&[&str]; 4] = [
    &[],
    &["/api/*"],
    &["/v1/**", "/upload/**"],
    &["/api/chat.*"],
];

fn any_rule() -> impl Strategy<Value = Rule> {
    (select(&HOSTS[..]), select(&METHODS[..]), select(&PATHS[..]))
        .prop_map(|(hosts, methods, paths)| rule(hosts, methods, paths))
}

fn any_conditions() -> impl Strategy<Value = Conditions> {
    any::<(bool, bool, bool)>().prop_map(|(schedule, not_after, when)| {
        let all = reads_qase(&dashboard()).conditions;
        Conditions {
            schedule: all.schedule.filter(|_| schedule),
            not_after: all.not_after.filter(|_| not_after),
            when: all.when.filter(|_| when),
            rate: None,
            wait_for_rate_limit: None,
        }
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (
        0..1000_u32,
        proptest::sample::subsequence(workloads().to_vec(), 1..3),
        any::<bool>(),
        proptest::sample::subsequence(vec!["bot", "app", "token"], 0..3),
        prop::collection::vec(any_rule(), 1..3),
        any_conditions(),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(name, workloads, to_slack, slots, allow, conditions, observe)| {
                let target = if to_slack { slack() } else { qase() };
                Policy {
                    name: qa(&format!("p{name}")),
                    owner: String::new(),
                    credentials: slots
                        .into_iter()
                        .filter(|slot| target.slots.names.iter().any(|name| &**name == *slot))
                        .map(|slot| (slot.into(), credential(slot, &target)))
                        .collect(),
                    workloads,
                    target,
                    allow,
                    conditions,
                    mode: if observe {
                        Mode::Observe
                    } else {
                        Mode::Enforce
                    },
                    approval: Approval::default(),
                }
            },
        )
}

fn any_policies() -> impl Strategy<Value = Vec<Policy>> {
    prop::collection::vec(any_policy(), 0..6).prop_map(|mut policies| {
        policies.sort_by(|one, two| one.name.cmp(&two.name));
        policies.dedup_by(|one, two| one.name == two.name);
        policies
    })
}

/// The rules in the module's documentation, without any index.
fn reference(policies: &[Policy], who: &CallerFacts, text: &str, now: &str) -> String {
    let request = Request::new(text);
    let facts = request.facts();
    let Some(target) = [slack(), qase()].into_iter().find(|target| {
        target.hosts.iter().any(|host| host.matches(facts.host))
            && policies
                .iter()
                .any(|policy| policy.target.name == target.name)
    }) else {
        return "unmatched".to_owned();
    };
    let mine: Vec<_> = workloads()
        .into_iter()
        .filter(|w| {
            w.selectors
                .iter()
                .any(|s| s.service_account.as_deref() == who.service_account.as_deref())
        })
        .collect();
    let route = target.routes.iter().find(|route| {
        route.host.as_ref().expect("a host").matches(facts.host) && route.paths.matches(facts.path)
    });
    let route = match route {
        None => return "no_route".to_owned(),
        Some(route) if route.deny.is_some() => return "path_denied".to_owned(),
        Some(route) => route,
    };
    let mut observed: Option<(bool, String)> = None;
    for workload in &mine {
        for policy in policies.iter().filter(|policy| {
            policy.target.name == target.name
                && policy
                    .workloads
                    .iter()
                    .any(|other| other.name == workload.name)
        }) {
            let slot = route.attach.as_ref().map(|attach| attach.slot.clone());
            if slot
                .as_ref()
                .is_some_and(|slot| policy.credentials.iter().all(|(name, _)| name != slot))
            {
                continue;
            }
            let permits = would_permit(policy, who, &facts, at(now));
            let name = format!("{} for {}", policy.name, workload.name);
            match (policy.mode, permits) {
                (Mode::Enforce, true) => return name,
                (Mode::Enforce, false) => {}
                (Mode::Observe, _) => {
                    if observed
                        .as_ref()
                        .is_none_or(|(earlier, _)| permits && !earlier)
                    {
                        observed = Some((permits, name));
                    }
                }
            }
        }
    }
    observed.map_or("denied".to_owned(), |(_, name)| name)
}

fn would_permit(
    policy: &Policy,
    who: &CallerFacts,
    facts: &RequestFacts<'_>,
    now: Timestamp,
) -> bool {
    let Conditions {
        schedule,
        not_after,
        when,
        ..
    } = &policy.conditions;
    policy.allow.iter().any(|rule| {
        (rule.hosts.is_empty() || rule.hosts.iter().any(|host| host.matches(facts.host)))
            && (rule.methods.is_empty() || rule.methods.contains(facts.method))
            && rule.paths.matches(facts.path)
    }) && schedule
        .as_ref()
        .is_none_or(|schedule| schedule.is_open(now))
        && not_after.is_none_or(|end| now < end)
        && when
            .as_ref()
            .is_none_or(|when| when.holds(who, facts, now) == Ok(true))
}

fn name_of(decision: &Decision<'_>) -> String {
    match decision {
        Decision::Unmatched => "unmatched".to_owned(),
        Decision::Permit(grant) => format!("{} for {}", grant.policy.name, grant.workload.name),
        Decision::Deny(denial) => match denial.reason {
            DenyReason::PathDenied | DenyReason::NoRoute => denial.reason.to_string(),
            DenyReason::WorkloadUnknown
            | DenyReason::TargetNotGranted
            | DenyReason::RequestNotAllowed
            | DenyReason::OutsideSchedule
            | DenyReason::PolicyExpired
            | DenyReason::ConditionFalse
            | DenyReason::ConditionError
            | DenyReason::SlotNotGranted => "denied".to_owned(),
        },
    }
}

proptest! {
    #[test]
    fn decides_as_the_reference_does(
        policies in any_policies(),
        account in select(&ACCOUNTS[..]),
        request in select(&REQUESTS[..]),
        now in select(&TIMES[..]),
    ) {
        let facts = caller(account);
        let set = set(&workloads(), policies.clone());
        let decision = decide(&set, &facts, request, now);
        prop_assert_eq!(name_of(&decision), reference(&policies, &facts, request, now));
    }

    #[test]
    fn one_policy_more_never_takes_a_permit_away(
        policies in any_policies(),
        more in any_policy(),
        account in select(&ACCOUNTS[..]),
        request in select(&REQUESTS[..]),
        now in select(&TIMES[..]),
    ) {
        prop_assume!(policies.iter().all(|policy| policy.name != more.name));
        let facts = caller(account);
        let before = set(&workloads(), policies.clone());
        let permitted = matches!(decide(&before, &facts, request, now), Decision::Permit(_));
        let after = set(&workloads(), policies.into_iter().chain([more]).collect());
        let decision = decide(&after, &facts, request, now);
        prop_assert!(!permitted || matches!(decision, Decision::Permit(_)), "{:?}", decision);
    }

    /// THREATS 04: a credential only goes to a host of a target that its policy names, and is
    /// that target's.
    #[test]
    fn t04_a_credential_is_only_granted_for_a_host_of_the_policys_target(
        policies in any_policies(),
        account in select(&ACCOUNTS[..]),
        request in select(&REQUESTS[..]),
        now in select(&TIMES[..]),
    ) {
        let set = set(&workloads(), policies);
        let host = Request::new(request).host;
        if let Decision::Permit(grant) = decide(&set, &caller(account), request, now) {
            prop_assert!(grant.policy.target.hosts.iter().any(|pattern| pattern.matches(&host)));
            prop_assert!(set.intercepted_hosts().any(|pattern| pattern.matches(&host)));
            prop_assert_eq!(&grant.target.name, &grant.policy.target.name);
            if let Some((attach, credential)) = grant.credential {
                prop_assert_eq!(&credential.target, &grant.target.name);
                let given = grant.policy.credentials.iter().find(|(slot, _)| *slot == attach.slot);
                prop_assert_eq!(&given.expect("a filled slot").1.name, &credential.name);
            }
        }
    }

    #[test]
    fn the_explanation_decides_alike_and_a_denial_says_why(
        policies in any_policies(),
        account in select(&ACCOUNTS[..]),
        request in select(&REQUESTS[..]),
        now in select(&TIMES[..]),
    ) {
        let set = set(&workloads(), policies);
        let facts = caller(account);
        let asked = Request::new(request);
        let explanation = set.explain(&facts, &asked.facts(), at(now));
        let decision = decide(&set, &facts, request, now);
        prop_assert_eq!(told(&explanation.decision), told(&decision));
        if let Decision::Deny(denial) = decision {
            let needs_a_rule = !matches!(
                denial.reason,
                DenyReason::PathDenied | DenyReason::NoRoute | DenyReason::TargetNotGranted
            );
            prop_assert_eq!(denial.nearest.is_some(), needs_a_rule);
            if let Some(nearest) = &denial.nearest {
                prop_assert!(!nearest.mismatches.is_empty());
            }
        }
    }

    #[test]
    fn the_order_of_resources_does_not_matter(
        policies in any_policies(),
        account in select(&ACCOUNTS[..]),
        request in select(&REQUESTS[..]),
        now in select(&TIMES[..]),
    ) {
        let facts = caller(account);
        let forward = set(&workloads(), policies.clone());
        let mut reversed = workloads();
        reversed.reverse();
        let backward = set(&reversed, policies.into_iter().rev().collect());
        prop_assert_eq!(
            told(&decide(&forward, &facts, request, now)),
            told(&decide(&backward, &facts, request, now))
        );
    }
}
