//! The chart grants what the table of rights says, and nothing else; the page about rights is that table.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use countersign_controller::doctor::rights::{Need, RIGHTS, Right, Scope, Who};
use k8s_openapi::{
    api::rbac::v1::{PolicyRule, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{deployments, is, pod_of, root};
use crate::kubernetes::cluster_object::Object;

const BEGIN: &str = "<!-- Made of the table of rights; a test compares them. -->\n";

/// Who, where, and what: the finest piece of a right.
type Piece = (&'static str, bool, String);

/// What the roles that are bound to gateways and controller grant.
#[track_caller]
pub(super) fn are_those_of_the_table(objects: &[Object]) {
    let mut granted = BTreeSet::new();
    let mut controller = false;
    for (who, component) in [(Who::Gateway, "gateway"), (Who::Controller, "controller")] {
        let Some(deployment) = deployments(objects).find(|it| is(it, component)) else {
            continue;
        };
        controller |= who == Who::Controller;
        let account = pod_of(deployment).service_account_name.as_deref();
        let account = account.expect("it has an account");
        for object in objects {
            if let Object::ServiceAccount(made) = object {
                assert_eq!(made.automount_service_account_token, Some(false));
            }
            let (role, subjects, own) = match object {
                Object::ClusterRoleBinding(it) => (&it.role_ref, &it.subjects, false),
                Object::RoleBinding(it) => (&it.role_ref, &it.subjects, true),
                _ => continue,
            };
            if names(subjects.as_deref(), account) {
                for rule in rules(objects, role, own) {
                    add(&mut granted, who, own, rule);
                }
            }
        }
    }
    let bound = objects
        .iter()
        .any(|it| matches!(it, Object::ClusterRole(role) if !is_hook(&role.metadata)));
    if !bound {
        // `rbac.create: false`.
        assert!(granted.is_empty());
        return;
    }
    let needed = RIGHTS.iter().filter(|right| match right.need {
        // Without a controller the gateway has nobody to ask for certificates.
        Need::Webhook | Need::Trust => controller,
        Need::Always | Need::PodFacts | Need::Service | Need::Objects => {
            controller || right.who == Who::Gateway
        }
    });
    let mut expected = BTreeSet::new();
    for right in needed {
        add(
            &mut expected,
            right.who,
            right.scope == Scope::Own,
            &rule(right),
        );
    }
    let missing: Vec<_> = expected.difference(&granted).collect();
    let more: Vec<_> = granted.difference(&expected).collect();
    assert!(missing.is_empty(), "the chart does not grant {missing:?}");
    assert!(
        more.is_empty(),
        "no table says why the chart grants {more:?}"
    );
}

fn is_hook(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key("helm.sh/hook"))
}

fn names(subjects: Option<&[Subject]>, account: &str) -> bool {
    let mut subjects = subjects.unwrap_or_default().iter();
    subjects.any(|it| it.name == account && it.namespace.as_deref() == Some("egress"))
}

fn rules<'o>(objects: &'o [Object], role: &RoleRef, own: bool) -> &'o [PolicyRule] {
    let found = objects.iter().find_map(|object| match object {
        Object::ClusterRole(it) if !own && it.metadata.name.as_ref() == Some(&role.name) => {
            Some(it.rules.as_deref())
        }
        Object::Role(it) if own && it.metadata.name.as_ref() == Some(&role.name) => {
            // What Credentials name, by name: the operator's own list.
            let elsewhere = it.metadata.namespace.as_deref() != Some("egress");
            Some(if elsewhere { None } else { it.rules.as_deref() })
        }
        _ => None,
    });
    let found = found.unwrap_or_else(|| panic!("{} is not rendered", role.name));
    found.unwrap_or_default()
}

fn rule(right: &Right) -> PolicyRule {
    let list = |items: &[&str]| Some(items.iter().map(|&it| it.to_owned()).collect::<Vec<_>>());
    let verbs = list(right.verbs).unwrap_or_default();
    if right.resource.starts_with('/') {
        return PolicyRule {
            non_resource_urls: list(&[right.resource]),
            verbs,
            ..PolicyRule::default()
        };
    }
    PolicyRule {
        api_groups: list(&[right.group]),
        resources: list(&[right.resource]),
        resource_names: list(right.names),
        verbs,
        ..PolicyRule::default()
    }
}

fn add(pieces: &mut BTreeSet<Piece>, who: Who, own: bool, rule: &PolicyRule) {
    let all = |list: &Option<Vec<String>>| match list.as_deref() {
        None | Some([]) => vec![String::new()],
        Some(list) => list.to_vec(),
    };
    let resources = [all(&rule.resources), all(&rule.non_resource_urls)].concat();
    for verb in &rule.verbs {
        for group in all(&rule.api_groups) {
            for resource in resources.iter().filter(|it| !it.is_empty()) {
                for name in all(&rule.resource_names) {
                    let piece = format!("{verb} {resource}.{group} {name}");
                    pieces.insert((who.as_str(), own, piece));
                }
            }
        }
    }
}

#[test]
fn every_rule_of_the_chart_has_its_reason() {
    let templates = root().join("deploy/helm/countersign/templates");
    let read = |file: &str| fs::read_to_string(templates.join(file)).expect("a template");
    let text = [read("rbac.yaml"), read("controller-rbac.yaml")].concat();
    for right in RIGHTS {
        let mut letters = right.why.chars();
        let first = letters.next().map(char::to_uppercase);
        let reason: String = first.into_iter().flatten().chain(letters).collect();
        assert!(text.contains(&format!("# {reason}.\n")), "{reason}");
    }
}

#[test]
fn the_page_about_rights_is_the_table() {
    let mut table = String::new();
    for (who, title) in [
        (Who::Gateway, "Gateways"),
        (Who::Controller, "The controller"),
    ] {
        _ = writeln!(
            table,
            "\n## {title}\n\n| may | of | where | only | if | what for |\n|---|---|---|---|---|---|"
        );
        for right in RIGHTS.iter().filter(|right| right.who == who) {
            let dot = if right.group.is_empty() { "" } else { "." };
            let names = right.names.iter().map(|name| format!("`{name}`"));
            _ = writeln!(
                table,
                "| {} | `{}{dot}{}` | {} | {} | {} | {} |",
                right.verbs.join(", "),
                right.resource,
                right.group,
                match right.scope {
                    Scope::Cluster => "the cluster",
                    Scope::Own => "its own namespace",
                    Scope::Objects => "the cluster, or each of `gateway.objects.namespaces`",
                },
                names.collect::<Vec<_>>().join(", "),
                match right.need {
                    Need::Always => "",
                    Need::PodFacts => "`gateway.cluster.podFacts`",
                    Need::Service => "there are several gateways",
                    Need::Objects => "`gateway.objects.enabled`",
                    Need::Trust => "the controller keeps trust",
                    Need::Webhook => "`injection.engine: webhook`",
                },
                right.why
            );
        }
    }
    let file = root().join("docs/rights.md");
    let page = fs::read_to_string(&file).expect("the page");
    let (before, found) = page.split_once(BEGIN).expect("it has the table");
    if std::env::var_os("COUNTERSIGN_WRITE_DOCS").is_some() {
        fs::write(&file, format!("{before}{BEGIN}{table}")).expect("written");
        return;
    }
    assert_eq!(found, table, "run with COUNTERSIGN_WRITE_DOCS=1");
}
