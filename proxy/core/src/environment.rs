//! The environment variables from which runtimes read their proxy and their trusted roots.
//!
//! Runtimes read different variables, so every variable is set that any of the usual clients reads.
//! `exec` sets them for a command on a laptop, and the pod injector for containers.

/// Java's convention for trust stores, which contain nothing secret.
pub const TRUST_STORE_PASSWORD: &str = "changeit";

/// Hosts that are reached without the proxy.
pub const NO_PROXY: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The variable from which Java's launcher reads options of its own.
pub const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";

/// The variables with the list of hosts that are reached without the proxy.
pub const NO_PROXY_NAMES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The files from which a client's runtime reads its roots, by the paths that the client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFiles {
    /// The system's roots and the interception root, PEM.
    pub bundle: String,
    /// Only the interception root, PEM, for runtimes that add it to their own.
    pub root: String,
    /// The system's roots and the interception root, PKCS#12, with [`TRUST_STORE_PASSWORD`]; `None` if
    /// it was not written.
    pub trust_store: Option<String>,
}

/// The variables that make runtimes trust the interception root. `java_tool_options` is the present
/// value of that variable, which can hold other options.
pub fn trust(files: &TrustFiles, java_tool_options: Option<&str>) -> Vec<(&'static str, String)> {
    let mut variables = trust_files(files);
    let Some(trust_store) = &files.trust_store else {
        return variables;
    };
    let java = java_options(trust_store);
    let java = match java_tool_options.map(str::trim) {
        None | Some("") => java,
        // Later options win.
        Some(present) => format!("{present} {java}"),
    };
    variables.push((JAVA_OPTIONS, java));
    variables
}

/// The variables that name a file with roots. Java has none.
pub fn trust_files(files: &TrustFiles) -> Vec<(&'static str, String)> {
    /// These replace the runtime's roots, so each is set to the merged bundle.
    const BUNDLE: [&str; 9] = [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "AWS_CA_BUNDLE",
        "PIP_CERT",
        "DENO_CERT",
        "CARGO_HTTP_CAINFO",
        "GIT_SSL_CAINFO",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    ];
    let mut variables: Vec<_> = BUNDLE.map(|name| (name, files.bundle.clone())).into();
    variables.push(("NODE_EXTRA_CA_CERTS", files.root.clone()));
    variables
}

/// The variables that make runtimes use the proxy at `url`, which may have the token as the password of
/// its userinfo. Hosts in `beside`, and the machine itself, are reached without it. Each is set in both cases,
/// because curl reads `http_proxy` only in lower case and others read upper case first.
pub fn proxy(url: &str, beside: &[String]) -> Vec<(&'static str, String)> {
    let mut variables: Vec<_> = [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ]
    .map(|name| (name, url.to_owned()))
    .into();
    let own = NO_PROXY.into_iter().map(str::to_owned);
    let hosts: Vec<_> = own.chain(beside.iter().cloned()).collect();
    variables.extend(NO_PROXY_NAMES.map(|name| (name, hosts.join(","))));
    // Node's own fetch reads the other variables from 22.21 and 24.5 on, if this one is set.
    variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    variables
}

/// Java's options for a trust store, and to send a password to a proxy for HTTPS as other clients do.
pub fn java_options(trust_store: &str) -> String {
    // The launcher splits at white space, except inside quotes.
    let quoted = if trust_store.contains(char::is_whitespace) {
        format!("\"{trust_store}\"")
    } else {
        trust_store.to_owned()
    };
    format!(
        "-Djavax.net.ssl.trustStore={quoted} -Djavax.net.ssl.trustStoreType=PKCS12 \
         -Djavax.net.ssl.trustStorePassword={TRUST_STORE_PASSWORD} \
         -Djdk.http.auth.tunneling.disabledSchemes="
    )
}

/// Java's options for a proxy, which it reads from no variable. `beside` is written as for [`proxy`]. Java
/// knows no ranges: those that do not end at a full octet are left out.
pub fn java_proxy(host: &str, port: u16, beside: &[String]) -> String {
    let own = NO_PROXY.into_iter().map(str::to_owned);
    let patterns: Vec<_> = own
        .chain(beside.iter().cloned())
        .filter_map(|entry| java_pattern(&entry))
        .collect();
    format!(
        "-Dhttps.proxyHost={host} -Dhttps.proxyPort={port} -Dhttp.proxyHost={host} -Dhttp.proxyPort={port} \
         -Dhttp.nonProxyHosts={}",
        patterns.join("|")
    )
}

/// An entry of `NO_PROXY` as Java writes it.
fn java_pattern(entry: &str) -> Option<String> {
    if let Some((network, length)) = entry.split_once('/') {
        let octets: Vec<_> = network.split('.').collect();
        let kept = match length {
            "8" => 1,
            "16" => 2,
            "24" => 3,
            _ => return None,
        };
        return (octets.len() == 4).then(|| format!("{}.*", octets[..kept].join(".")));
    }
    if entry.contains(':') {
        return Some(format!("[{entry}]"));
    }
    if entry.starts_with('.') {
        return Some(format!("*{entry}"));
    }
    Some(entry.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn files() -> TrustFiles {
        TrustFiles {
            bundle: "/ca/bundle.pem".into(),
            root: "/ca/root.pem".into(),
            trust_store: Some("/ca/trust.p12".into()),
        }
    }

    #[test]
    fn runtimes_that_replace_their_roots_get_the_bundle_and_node_the_root() {
        let variables: BTreeMap<_, _> = trust(&files(), None).into_iter().collect();
        assert_eq!(variables["SSL_CERT_FILE"], "/ca/bundle.pem");
        assert_eq!(variables["NODE_EXTRA_CA_CERTS"], "/ca/root.pem");
        assert_eq!(variables.len(), 11);
    }

    #[test]
    fn java_keeps_the_options_it_had() {
        let java = |present| trust(&files(), present).pop().unwrap().1;
        assert!(java(None).starts_with("-Djavax.net.ssl.trustStore=/ca/trust.p12 "));
        assert_eq!(java(None), java(Some(" ")));
        assert_eq!(java(Some("-Xmx1g")), format!("-Xmx1g {}", java(None)));
    }

    #[test]
    fn a_path_with_a_space_stays_one_option() {
        assert!(
            java_options("/a b/t.p12").starts_with("-Djavax.net.ssl.trustStore=\"/a b/t.p12\" ")
        );
    }

    #[test]
    fn both_cases_are_set() {
        let url = "http://token:abc@127.0.0.1:3128";
        let variables: BTreeMap<_, _> = proxy(url, &[".svc".to_owned()]).into_iter().collect();
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
            assert_eq!(variables[name], url);
            assert_eq!(variables[name.to_lowercase().as_str()], url);
        }
        assert_eq!(variables["NO_PROXY"], "localhost,127.0.0.1,::1,.svc");
        assert_eq!(variables["no_proxy"], variables["NO_PROXY"]);
    }

    #[test]
    fn java_gets_patterns_where_others_get_ranges() {
        let beside = [".svc", "10.96.0.0/16", "10.0.0.0/12", "fd00::/8"].map(str::to_owned);
        let options = java_proxy("127.0.0.1", 3128, &beside);
        let patterns = "-Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1]|*.svc|10.96.*";
        assert!(options.ends_with(patterns), "{options}");
    }
}
