//! The targets of the catalog for people. The page `docs/catalog.md` is its output.

use std::fmt::Write as _;

use countersign_config::load;
use serde_json::Value;

const HEAD: &str = "<!-- Made by `just reference` from config/src/catalog; do not edit. -->

# The catalog

These targets are built in: a policy names them, and no `TargetService` is needed. A `TargetService` of your own may extend one
(`extends`), with further hosts, routes that come first, or another format of refusals. `countersign schema --catalog` prints
their source.

Routes are looked at in their order, and the first that matches counts. `deny` is refused whatever policies say. The *slot* says
which credential is put on the request: a policy's `credential` fills the default slot, `credentials: { SLOT: NAME }` any.
";

/// The targets as they are written.
pub(super) fn source() -> String {
    let texts: Vec<_> = load::CATALOG.iter().map(|(_, text)| *text).collect();
    texts.join("---\n")
}

/// The page of all targets.
pub(super) fn page() -> anyhow::Result<String> {
    let mut text = HEAD.to_owned();
    for (_, source) in load::CATALOG {
        let target: Value = serde_saphyr::from_str(source)?;
        section(&target, &mut text);
    }
    Ok(text)
}

fn section(target: &Value, text: &mut String) {
    let name = target["metadata"]["name"].as_str().unwrap_or_default();
    let spec = &target["spec"];
    let _ = writeln!(text, "\n## {name}\n");
    let mut fact = |what: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "- {what}: {value}");
        }
    };
    fact("Extends", code(&spec["extends"]));
    fact("Domains", pairs(&spec["domains"]));
    fact("Hosts", code(&spec["hosts"]));
    fact("Slots", code(&spec["slots"]["names"]));
    fact("Default slot", code(&spec["slots"]["default"]));
    fact("Rate limits are per", code(&spec["rateLimit"]["per"]));
    fact("Encoded slashes", code(&spec["encodedSlash"]));
    fact(
        "Faults of the connection are told by",
        code(&spec["transportFaults"]),
    );
    let probe = &spec["probe"];
    let place = if probe["url"].is_null() {
        &probe["path"]
    } else {
        &probe["url"]
    };
    let probed = [code(&probe["method"]), code(place)].join(" ");
    fact("Probe", probed.trim().to_owned());
    let refusal = &spec["refusal"];
    fact("A refusal has the status", code(&refusal["status"]));
    for at in refusal["at"].as_array().into_iter().flatten() {
        let place = [code(&at["host"]), code(&at["paths"])].join(" ");
        fact(
            &format!("A refusal at {} has the status", place.trim()),
            code(&at["status"]),
        );
    }
    rows(
        &spec["routes"],
        "| host | paths | what happens | removed |\n|---|---|---|---|\n",
        text,
        route,
    );
    rows(
        &spec["authFailure"],
        "| a credential failed if | then |\n|---|---|\n",
        text,
        failure,
    );
}

fn rows(list: &Value, head: &str, text: &mut String, row: impl Fn(&Value) -> String) {
    let Some(list) = list.as_array() else {
        return;
    };
    let _ = write!(text, "\n{head}");
    for entry in list {
        text.push_str(&row(entry));
    }
}

fn route(route: &Value) -> String {
    let attach = &route["attach"];
    let what = if let Some(why) = route["deny"].as_str() {
        format!("deny: {why}")
    } else if attach.is_null() {
        "passes without a credential".to_owned()
    } else {
        let slot = match code(&attach["slot"]) {
            slot if slot.is_empty() => "the default slot".to_owned(),
            slot => format!("slot {slot}"),
        };
        let (place, name) = ["header", "query", "path"]
            .into_iter()
            .find_map(|place| Some((place, attach[place].as_str()?)))
            .unwrap_or_default();
        let value = attach["value"]
            .as_str()
            .map(|value| format!(" = `{value}`"));
        format!("{slot}: {place} `{name}`{}", value.unwrap_or_default())
    };
    let strip = &route["strip"];
    let removed: Vec<_> = [
        ("headers", "header"),
        ("formFields", "form field"),
        ("query", "query field"),
    ]
    .into_iter()
    .filter(|(key, _)| !strip[*key].is_null())
    .map(|(key, what)| format!("{what} {}", code(&strip[key])))
    .collect();
    row(&[
        code(&route["host"]),
        code(&route["paths"]),
        what,
        removed.join("; "),
    ])
}

fn failure(failure: &Value) -> String {
    let mut signs = Vec::new();
    for (key, what) in [("status", "status"), ("text", "body")] {
        if !failure[key].is_null() {
            signs.push(format!("{what} {}", code(&failure[key])));
        }
    }
    if !failure["json"].is_null() {
        signs.push(pairs(&failure["json"]));
    }
    let blame = code(&failure["blame"]);
    let blame = if blame.is_empty() {
        blame
    } else {
        format!(", blames {blame}")
    };
    row(&[
        signs.join(", "),
        format!("{}{blame}", code(&failure["then"])),
    ])
}

fn row(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Values as code; a list is enumerated.
fn code(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Array(items) => items.iter().map(code).collect::<Vec<_>>().join(", "),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn pairs(value: &Value) -> String {
    let members = value.as_object().into_iter().flatten();
    let members = members.map(|(key, value)| format!("`{key}`: {}", code(value)));
    members.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_catalog_is_what_is_generated() {
        let written = include_str!("../../../../docs/catalog.md");
        assert!(
            written == page().unwrap(),
            "docs/catalog.md is not what is generated; run `just reference`"
        );
    }
}
