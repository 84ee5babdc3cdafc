//! What the Gateway names and this machine does not have. Only warnings: a file may be checked elsewhere than
//! where its gateway runs.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use crate::{
    model::Cluster,
    resource::{GatewaySpec, IN_CLUSTER},
    shown,
    validate::head::Parsed,
    yaml::{Findings, Location, Node, Value},
};

pub(in crate::validate) fn check(written: &Parsed<'_, GatewaySpec>, findings: &Findings) {
    let Some((_, spec)) = written.document.root.entry("spec") else {
        return;
    };
    let walk = Walk {
        written,
        findings,
        in_pod: Cluster::in_cluster().token_file.exists(),
    };
    walk.node("spec", "", spec);
    let location = written.location();
    if written.spec.identity.is_none() && !walk.in_pod {
        walk.not_in_kubernetes(&location.key("identity"));
    }
}

/// What a path must lead to.
#[derive(Debug, Clone, Copy)]
enum Expected {
    File,
    Directory,
    Socket,
}

#[derive(Clone, Copy)]
struct Walk<'d> {
    written: &'d Parsed<'d, GatewaySpec>,
    findings: &'d Findings,
    in_pod: bool,
}

impl Walk<'_> {
    /// Looks at the value of a key, and at everything below it.
    fn node(self, key: &str, parent: &str, node: &Node) {
        match &node.value {
            Value::Map(entries) => {
                for (inner, value) in entries {
                    self.node(&inner.text, key, value);
                }
            }
            // An entry of a list has the key of the list.
            Value::List(items) => items.iter().for_each(|item| self.node(key, parent, item)),
            Value::Text(text) => self.text(key, parent, text, node),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_) => {}
        }
    }

    fn text(self, key: &str, parent: &str, text: &str, node: &Node) {
        let location = Location::position(self.written.document.source, node.line, node.column);
        let expected = match (parent, key) {
            // These are made.
            ("decisions" | "ca" | "state", "file" | "directory") => return,
            ("upstream" | "proxy", "roots" | "proxyRoots") if text == "system" => return,
            (_, "cluster" | "kubernetes" | "issuer") if text == IN_CLUSTER => {
                if !self.in_pod {
                    self.not_in_kubernetes(&location);
                }
                return;
            }
            ("upstream" | "proxy", "roots" | "proxyRoots")
            | ("tls", "certificate" | "key")
            | (_, "file") => Expected::File,
            ("resources", "directory") => Expected::Directory,
            (_, "workloadApi") => Expected::Socket,
            (_, other) if other.ends_with("File") => Expected::File,
            _ => return,
        };
        let path = Path::new(text.strip_prefix("unix://").unwrap_or(text));
        if let Some(problem) = problem(path, expected) {
            self.findings.warning(
                &location,
                "not-here",
                format!("{} {problem}", shown::path(path)),
                "write the path as the gateway sees it; if it is only there where the gateway runs, check there",
            );
        }
    }

    fn not_in_kubernetes(self, location: &Location<'_>) {
        self.findings.warning(
            location,
            "not-in-kubernetes",
            "the gateway proves callers with the cluster in which it runs, and this is not a pod of one",
            NOT_IN_KUBERNETES,
        );
    }
}

/// What to do outside of a cluster.
pub(crate) const NOT_IN_KUBERNETES: &str = "not in Kubernetes? set `identity.issuers`, with `name`, `issuer` and `jwks`, to say who issues the tokens of callers";

fn unreadable(error: &std::io::Error) -> String {
    format!("cannot be read: {}", shown::io_error(error))
}

fn problem(path: &Path, expected: Expected) -> Option<String> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some("is not there".to_owned());
        }
        Err(error) => return Some(unreadable(&error)),
    };
    match expected {
        Expected::File if found.is_dir() => Some("is a directory; name the file in it".to_owned()),
        Expected::File => open(path).err().map(|error| unreadable(&error)),
        // One file can be named too.
        Expected::Directory | Expected::Socket => None,
    }
}

fn open(path: &Path) -> io::Result<()> {
    // Opening a pipe would wait for its writer.
    if fs::metadata(path)?.is_file() {
        fs::File::open(path)?;
    }
    Ok(())
}
