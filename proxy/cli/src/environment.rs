//! The environment variables from which runtimes read their proxy and their trusted roots.
//!
//! Runtimes read different variables, so every variable is set that any of the usual clients reads.
//! `exec` sets them for a command on a laptop, and the pod injector for containers.

/// Java's convention for trust stores, which contain nothing secret.
pub const TRUST_STORE_PASSWORD: &str = "changeit";

/// Hosts that are reached without the proxy.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

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
    let Some(trust_store) = &files.trust_store else {
        return variables;
    };
    let java = java_options(trust_store);
    let java = match java_tool_options.map(str::trim) {
        None | Some("") => java,
        // Later options win.
        Some(present) => format!("{present} {java}"),
    };
    variables.push(("JAVA_TOOL_OPTIONS", java));
    variables
}

/// The variables that make runtimes use the proxy at `url`, which may have the token as the password of
/// its userinfo. Each is set in both cases, because curl reads `http_proxy` only in lower case and
/// others read upper case first.
pub fn proxy(url: &str) -> Vec<(&'static str, String)> {
    let mut variables: Vec<_> = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"]
        .map(|name| (name, url.to_owned()))
        .into();
    variables.extend(["NO_PROXY", "no_proxy"].map(|name| (name, NO_PROXY.to_owned())));
    // Node's own fetch reads the other variables from 22.21 and 24.5 on, if this one is set.
    variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    variables
}

fn java_options(trust_store: &str) -> String {
    // The launcher splits at white space, except inside quotes.
    let quoted = if trust_store.contains(char::is_whitespace) {
        format!("\"{trust_store}\"")
    } else {
        trust_store.to_owned()
    };
    format!(
        "-Djavax.net.ssl.trustStore={quoted} -Djavax.net.ssl.trustStoreType=PKCS12 \
         -Djavax.net.ssl.trustStorePassword={TRUST_STORE_PASSWORD}"
    )
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
        let variables: BTreeMap<_, _> = proxy(url).into_iter().collect();
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
            assert_eq!(variables[name], url);
        }
        assert_eq!(variables["no_proxy"], variables["NO_PROXY"]);
    }
}
