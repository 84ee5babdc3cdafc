//! Lists of resources, as `kubectl get -o yaml` prints them.

use serde::{Deserialize, de::IgnoredAny};

use super::{Document, Findings, Node, Value, read::read};
use crate::resource::Kind;

/// `v1`'s `List`; and those of our own kinds, as the API server itself gives them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListEnvelope {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
    #[serde(rename = "items")]
    _items: Vec<IgnoredAny>,
}

/// Replaces a list by its items. Lists in lists, which `kubectl` can print too, are as deep as YAML may be
/// nested.
pub(crate) fn expand<'s>(document: Document<'s>, findings: &Findings) -> Vec<Document<'s>> {
    let source = document.source;
    if !is_list(&document.root) {
        return vec![document];
    }
    // Its own mistakes are reported; its items are read in any case.
    read::<ListEnvelope>(source, None, &document.root, findings);
    items(document.root)
        .into_iter()
        .flat_map(|root| expand(Document { source, root }, findings))
        .collect()
}

fn is_list(root: &Node) -> bool {
    root.text("kind").is_some_and(|kind| {
        let item = kind.strip_suffix("List");
        item.is_some_and(|item| item.is_empty() || Kind::parse(item).is_some())
    })
}

fn items(list: Node) -> Vec<Node> {
    let Value::Map(entries) = list.value else {
        return Vec::new();
    };
    entries
        .into_iter()
        .filter(|(key, _)| key.text == "items")
        .find_map(|(_, node)| match node.value {
            Value::List(items) => Some(items),
            _ => None,
        })
        .unwrap_or_default()
}
