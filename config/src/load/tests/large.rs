//! The time for large resources is proportional to their size. With pairwise comparisons none of these
//! tests would end in time.

use std::fmt::Write as _;

use rstest::rstest;

use super::{BASE, outline, problems};

const HEAD: &str = "apiVersion: countersign.dev/v1alpha1\nkind: ";
const MANY: usize = 80_000;

#[test]
fn t72_many_keys() {
    let mut text = format!("{HEAD}Workload\nmetadata: {{ name: a, namespace: qa }}\nspec:\n");
    for number in 0..MANY {
        writeln!(text, "  k{number}: 1").unwrap();
    }
    let found = outline(&problems(&text));
    assert_eq!(found.len(), 1001);
    assert_eq!(found[0], "0: too-many-problems");
}

#[test]
fn t72_many_keys_in_one_line() {
    let keys: Vec<_> = (0..MANY).map(|number| format!("k{number}: 1")).collect();
    let text = format!("{HEAD}Workload\nspec: {{ {} }}\n", keys.join(", "));
    assert_eq!(outline(&problems(&text)).len(), 1001);
}

#[test]
fn t72_many_lines_before_a_mistake() {
    let text = format!("{}kind: Workloat\n", "\n".repeat(200_000));
    let found = outline(&problems(&text));
    assert!(
        found.contains(&"200001: wrong-kind".to_owned()),
        "{found:?}"
    );
}

#[test]
fn t72_many_broken_documents() {
    let found = outline(&problems(&"---\n[\n".repeat(20_000)));
    assert_eq!(found.len(), 1001);
    assert_eq!(found[1], "2: invalid-yaml");
}

#[test]
fn t72_one_key_many_times() {
    let mut text = format!("{HEAD}Workload\nmetadata: {{ name: a, namespace: qa }}\nspec:\n");
    text.push_str(&"  owner: x\n".repeat(MANY));
    assert_eq!(outline(&problems(&text)).len(), 1001);
}

#[test]
fn t72_one_name_many_times() {
    let document = "kind: Workload\nmetadata: { name: a, namespace: b }\n---\n";
    let found = outline(&problems(&document.repeat(20_000)));
    assert_eq!(found.len(), 1001);
}

#[test]
fn t72_many_references_that_dangle_among_many_names() {
    let mut text = BASE.replacen("workloads: [app]", "workloads: [WORKLOADS]", 1);
    let mut names = String::new();
    for number in 0..20_000 {
        write!(names, "no{number}, ").unwrap();
    }
    text = text.replacen("WORKLOADS", &names, 1);
    for number in 0..2_000 {
        write!(
            text,
            "---\n{HEAD}Workload\nmetadata: {{ name: w{number}, namespace: qa }}\nspec: {{ owner: x, match: [{{ cluster: c, serviceAccount: a{number} }}] }}\n"
        )
        .unwrap();
    }
    assert_eq!(outline(&problems(&text)).len(), 1001);
}

#[test]
fn t72_many_targets() {
    let mut text = String::new();
    for number in 0..10_000 {
        write!(
            text,
            "---\n{HEAD}TargetService\nmetadata: {{ name: t{number} }}\nspec: {{ hosts: [h{number}.test.example], routes: [{{ paths: [/x] }}] }}\n"
        )
        .unwrap();
    }
    // None is used.
    let found = outline(&problems(&text));
    assert_eq!(found.len(), 1001);
    assert!(found[1].ends_with("unused-target"), "{found:?}");
}

#[rstest]
#[case::most_slots(256, 1, "slots", None)]
#[case::slots(257, 1, "slots", Some("long-list"))]
#[case::a_lot_of_slots(MANY, 1, "slots", Some("long-list"))]
#[case::most_hosts(1, 1024, "hosts", None)]
#[case::hosts(1, 1025, "hosts", Some("long-list"))]
#[case::a_lot_of_hosts(1, MANY, "hosts", Some("long-list"))]
fn t72_a_target_with_many_routes_has_few(
    #[case] slots: usize,
    #[case] hosts: usize,
    #[case] what: &str,
    #[case] code: Option<&str>,
) {
    let slots: Vec<_> = (0..slots).map(|number| format!("s{number}")).collect();
    let hosts: Vec<_> = (0..hosts).map(|number| format!("h{number}.test")).collect();
    let routes = "{ paths: [/a/*] }, ".repeat(5_000);
    let target = format!(
        "{HEAD}TargetService\nmetadata: {{ name: t }}\nspec:\n  hosts: [{}]\n  slots: {{ default: s0, names: [{}] }}\n  routes: [{routes}]\n---\n",
        hosts.join(", "),
        slots.join(", "),
    );
    let policy = BASE
        .replacen("target: slack\n  credential: bot", "target: t", 1)
        .replacen("hosts: [slack.com]", "hosts: [h0.test]", 1);
    let found = problems(&(target + &policy));
    let long = found.0.iter().find(|problem| problem.code == "long-list");
    assert_eq!(
        long.map(|problem| problem.code),
        code,
        "{:?}",
        outline(&found)
    );
    assert!(long.is_none_or(|problem| problem.message.contains(what)));
}

#[test]
fn t72_many_slots_in_a_policy() {
    let slots: Vec<_> = (0..20_000)
        .map(|number| format!("s{number}: bot"))
        .collect();
    let credentials = format!("credentials: {{ {} }}", slots.join(", "));
    let found = outline(&problems(&BASE.replacen(
        "credential: bot",
        &credentials,
        1,
    )));
    assert_eq!(found.len(), 1001);
    assert_eq!(found[1], "26: unknown-slot");
}

#[test]
fn t72_a_long_line_and_a_long_name() {
    let long = "a".repeat(2_000_000);
    let text = format!("apiVersion: x\nkind: {long}\nmetadata: {{ name: a }}\nspec: {{}}\n");
    let found = problems(&text);
    assert_eq!(outline(&found), ["1: wrong-api-version", "2: wrong-kind"]);
    assert!(found.render(false).len() < 10_000);
    let bearers = format!(
        "spec: {{ x: \"{}\" }}\n",
        "Bearer abcdefgh ".repeat(100_000)
    );
    let text = format!("{HEAD}Workload\n{bearers}{}", "k: 1\n".repeat(2_000));
    assert_eq!(outline(&problems(&text)).len(), 1001);
}
