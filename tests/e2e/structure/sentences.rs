//! No error of a library reaches a person as the library shows it, as far as the source tells: those of TLS, DNS and the
//! agents print the names of their own variants. The records of the other tests are looked at by the harness.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::harness::tests_directory;

/// Errors that print structures of Rust, or the numbers of the system's errors.
const RAW: [&str; 10] = [
    "rustls::Error",
    "CertificateError",
    "NetError",
    "reqwest::Error",
    "WorkloadApiError",
    "io::Error",
    "hyper::Error",
    "h2::Error",
    "kube::Error",
    "jsonwebtoken::errors::Error",
];

/// What a format string calls an error that it shows.
const NAMES: [&str; 6] = ["error", "reason", "source", "fault", "cause", "lost"];

/// What is wrong in a source text, by line.
fn offences(source: &str) -> Vec<String> {
    let product = source
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(source);
    let mut offences = Vec::new();
    for (number, line) in product.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let debug = NAMES.iter().any(|name| {
            code.contains(&format!("{{{name}:?}}"))
                || code.contains(&format!("= ?{name}"))
                || code.contains(&format!("(?{name}"))
                || code.contains(&format!(" ?{name},"))
        });
        let shown = is_raw(code) && code.contains("error.to_string()");
        if debug || shown {
            offences.push(format!("{}: {}", number + 1, line.trim()));
        }
    }
    // `#[error("...: {0}")] Variant(rustls::Error)`.
    for (at, _) in product.match_indices("#[error(") {
        let attribute = &product[at..];
        let Some(end) = attribute.find(")]") else {
            continue;
        };
        let (format, variant) = attribute.split_at(end);
        let variant = variant.split("#[error(").next().unwrap_or_default();
        let variant = variant.split("},").next().unwrap_or_default();
        let variant = variant.split("),").next().unwrap_or_default();
        let shows = ["{0}", "{source}", "{error}", "{reason}"]
            .iter()
            .any(|it| format.contains(it));
        if shows && is_raw(variant) {
            offences.push(format.trim().to_owned());
        }
    }
    // `fn told(error: &io::Error) -> String { format!("...{error}") }`.
    for (at, _) in product.match_indices("fn ") {
        let function = &product[at..];
        let end = function.find("\n}\n").into_iter();
        let end = end.chain(function.find("\n    }\n")).min();
        let function = &function[..end.unwrap_or(function.len())];
        let signature = function.split('{').next().unwrap_or_default();
        let parameters = signature.split("->").next().unwrap_or_default();
        let takes = parameters
            .split(',')
            .any(|it| it.contains("error: ") && is_raw(it));
        if takes && function.contains("{error}") {
            offences.push(signature.trim().to_owned());
        }
    }
    offences
}

/// Whether a type in this text is one of those.
fn is_raw(text: &str) -> bool {
    RAW.iter().any(|raw| {
        let mut found = text.match_indices(raw);
        // `io::ErrorKind` is shown in words.
        found.any(|(at, _)| !text[at + raw.len()..].starts_with(char::is_alphanumeric))
    })
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["tests", "target", "benches"].contains(&&*name) {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|it| it == "rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

#[test]
fn no_error_of_a_library_is_shown_as_it_is() {
    let mut files = Vec::new();
    sources(&tests_directory().join("../proxy"), &mut files);
    assert!(files.len() > 100, "the sources are not where they were");
    let mut wrong = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).expect("a source");
        let found = offences(&source);
        wrong.extend(
            found
                .into_iter()
                .map(|it| format!("{}:{it}", file.display())),
        );
    }
    assert!(
        wrong.is_empty(),
        "show these by `countersign_core::tls_error` or a sentence of your own:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn an_error_that_is_shown_as_it_is_is_found() {
    for source in [
        "#[error(\"TLS failed: {0}\")]\n    Tls(#[from] rustls::Error),\n",
        "#[error(\"TLS failed: {source}\")]\n    Tls {\n        source: rustls::Error,\n    },\n",
        "tracing::warn!(error = ?error, \"it failed\");",
        "let text = format!(\"it failed: {error:?}\");",
        ".map_err(|error: rustls::Error| Tls(error.to_string()))",
        "#[error(\"cannot read it: {source}\")]\n    Read { source: io::Error },\n",
        "fn told(path: &Path, error: &io::Error) -> String {\n    format!(\"{error}\")\n}\n",
    ] {
        assert_eq!(offences(source).len(), 1, "{source}");
    }
    for source in [
        "#[error(\"TLS failed: {}\", tls_error::sentence(.0))]\n    Tls(#[from] rustls::Error),\n",
        "#[error(\"cannot read it: {}\", files::reason(source))]\n    Read { source: io::Error },\n",
        "#[error(\"cannot read it: {0}\")]\n    Read(io::ErrorKind),\n",
        "fn told(error: &io::Error) -> String {\n    files::reason(error)\n}\n",
        "tracing::warn!(%error, \"it failed\");",
    ] {
        assert_eq!(offences(source), Vec::<String>::new(), "{source}");
    }
}
