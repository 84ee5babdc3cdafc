//! What the server has, as clients such as kubectl ask for it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{kinds::Kind, state::State};

/// The version it claims to be.
const VERSION: (&str, &str, &str) = ("1", "36", "v1.36.0");

/// Resources that are only created, and never kept.
#[rustfmt::skip]
const REVIEWS: [(&str, &str, &str); 5] = [
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ("authentication.k8s.io", "tokenreviews", "TokenReview"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
];

impl State {
    /// The answer to a path of discovery.
    pub(super) fn discover(&self, path: &str) -> Option<Value> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["version"] => Some(json!({
                "major": VERSION.0,
                "minor": VERSION.1,
                "gitVersion": VERSION.2,
                "platform": "linux/amd64",
            })),
            ["api"] => Some(json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [],
            })),
            ["apis"] => {
                let groups: Vec<Value> = self.groups().iter().map(|entry| group(&entry)).collect();
                Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
            }
            ["apis", name] => {
                let groups = self.groups();
                let mut found = group(&groups.get_key_value(*name)?);
                found["kind"] = "APIGroup".into();
                found["apiVersion"] = "v1".into();
                Some(found)
            }
            ["openapi", "v3"] => Some(self.documents()),
            ["openapi", "v3", "api", version] => self.document("", version),
            ["openapi", "v3", "apis", group, version] => self.document(group, version),
            ["api", version] => self.resources("", version),
            ["apis", group, version] => self.resources(group, version),
            _ => None,
        }
    }

    /// Each group with its versions.
    fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let of_reviews = REVIEWS
            .iter()
            .map(|(group, ..)| ((*group).to_owned(), "v1".to_owned()));
        let of_kinds = self
            .kinds()
            .map(|kind| (kind.group.clone(), kind.version.clone()));
        for (group, version) in of_kinds
            .chain(of_reviews)
            .filter(|(group, _)| !group.is_empty())
        {
            let versions = groups.entry(group).or_default();
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        groups
    }

    fn resources(&self, group: &str, version: &str) -> Option<Value> {
        let of_version =
            |kind: &&std::sync::Arc<Kind>| kind.group == group && kind.version == version;
        let kinds = self.kinds().filter(of_version);
        let mut resources: Vec<Value> = kinds.flat_map(|kind| kind.discovered()).collect();
        for (_, name, kind) in REVIEWS
            .iter()
            .filter(|row| row.0 == group && version == "v1")
        {
            resources.push(json!({
                "name": name, "singularName": "", "namespaced": false, "kind": kind, "verbs": ["create"],
            }));
        }
        let version = match group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        };
        (!resources.is_empty()).then(|| {
            json!({
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": version,
                "resources": resources,
            })
        })
    }
}

fn group((name, versions): &(&String, &Vec<String>)) -> Value {
    let entry =
        |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({
        "name": name,
        "versions": versions.iter().map(entry).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(entry),
    })
}
