//! A corporate proxy on the way to upstreams.

use std::path::PathBuf;

use super::{host_and_port, roots};
use crate::{
    host::Host,
    model::{ProxyAuthentication, UpstreamProxy},
    resource::{ProxyAuthenticationSpec, UpstreamSpec},
    yaml::{Findings, Location},
};

/// The proxy that is written as `text`; `spec` has what belongs to it.
pub(super) fn proxy(
    text: &str,
    spec: &UpstreamSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<UpstreamProxy> {
    let authentication = match &spec.proxy_authentication {
        Some(spec) => {
            let location = location.key("proxyAuthentication");
            authentication(spec, &location, findings).map(Some)
        }
        None => Some(None),
    };
    let (has_tls, host, port) = address(text, &location.key("proxy"), findings)?;
    if !has_tls && spec.proxy_roots.is_some() {
        findings.error(
            &location.key_name("proxyRoots"),
            "contradiction",
            "the proxy is `http://`, so no certificate of it is checked",
            "write `https://host:port` for `proxy` if it speaks TLS, or remove `proxyRoots`",
        );
        return None;
    }
    if !has_tls && spec.proxy_authentication.is_some() && !is_near(&host) {
        findings.warning(
            &location.key_name("proxyAuthentication"),
            "clear-text",
            "the password goes to the proxy in clear text",
            "use the proxy's `https://` port if it has one",
        );
    }
    Some(UpstreamProxy {
        host,
        port,
        tls: has_tls.then(|| roots(spec.proxy_roots.as_deref())),
        authentication: authentication?,
    })
}

/// Whether nothing is said about a proxy that is not there.
pub(super) fn is_not_spoken_of(
    spec: &UpstreamSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> bool {
    let written = [
        ("proxyAuthentication", spec.proxy_authentication.is_some()),
        ("proxyRoots", spec.proxy_roots.is_some()),
    ];
    for (key, _) in written.iter().filter(|(_, is_written)| *is_written) {
        findings.error(
            &location.key_name(key),
            "contradiction",
            "there is no corporate proxy that this is about",
            "add `proxy: https://host:port`, or remove this",
        );
    }
    written.iter().all(|(_, is_written)| !is_written)
}

/// Whether it speaks TLS, its host and its port.
fn address(text: &str, location: &Location<'_>, findings: &Findings) -> Option<(bool, Host, u16)> {
    let refuse = |what: &str, remedy: &str| {
        findings.error(location, "bad-url", what, remedy);
        None
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return refuse(
            "this is not the URL of an HTTP proxy",
            "write `http://host:port`, or `https://host:port` if the proxy speaks TLS",
        );
    };
    let has_tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => {
            return refuse(
                "only HTTP proxies are supported, by CONNECT",
                "write `http://host:port`, or `https://host:port` if the proxy speaks TLS",
            );
        }
    };
    if rest.contains('@') {
        return refuse(
            "a user name or password in this URL would stand here in clear",
            "write `proxyAuthentication: { username: NAME, passwordFile: FILE }` instead",
        );
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return refuse(
            "a proxy has no path",
            "write `http://host:port`, or `https://host:port` if the proxy speaks TLS",
        );
    }
    match host_and_port(rest) {
        Some((host, port)) => Some((has_tls, host, port)),
        None => refuse(
            "this has no valid host and port",
            "write both, such as `http://proxy.example.com:3128`: the port is never guessed",
        ),
    }
}

fn authentication(
    spec: &ProxyAuthenticationSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<ProxyAuthentication> {
    let mut sound = true;
    let name = &spec.username;
    if name.is_empty() || name.contains(|letter: char| letter == ':' || letter.is_control()) {
        sound = false;
        findings.error(
            &location.key("username"),
            "bad-name",
            "a user name of Basic authentication is not empty and has no colon",
            "write the user name alone; the password is in `passwordFile`",
        );
    }
    if spec.password_file.is_empty() {
        sound = false;
        findings.error(
            &location.key("passwordFile"),
            "bad-path",
            "this is not the path of a file",
            "write the path of a file whose content is the password",
        );
    }
    sound.then(|| ProxyAuthentication {
        username: name.clone(),
        password_file: PathBuf::from(&spec.password_file),
    })
}

/// Whether nothing lies between the gateway and this host.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Ip(address) => address.is_loopback(),
        Host::Name(name) => name.to_string() == "localhost",
    }
}
