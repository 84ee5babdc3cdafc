//! The head of a request, proven to be one that may be judged: its authority is that of its
//! connection, its path is canonical, its method is itself.

use countersign_config::{path::CanonicalPath, policy::PolicySet};
use countersign_core::{
    destination::{Authority, HTTPS},
    reason::Reason,
    wire::overrides::{self, Overrides},
};
use http::{
    HeaderMap, Method,
    header::{HOST, MAX_FORWARDS},
    request::Parts,
    uri::PathAndQuery,
};

use crate::Denied;

/// A checked head: where it goes and what it asks for. Its fields are private, so that what policy
/// decides about is what was checked:
///
/// ```compile_fail,E0616
/// use countersign_authorize::Received;
///
/// fn as_a_read(received: &mut Received) {
///     received.method = http::Method::GET;
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Received {
    authority: Authority,
    method: Method,
    path: CanonicalPath,
}

impl Received {
    /// Checks a request that came through a tunnel to `authority`, by HTTP/1.1 or HTTP/2.
    ///
    /// # Errors
    /// When `:authority` or `Host` name another authority, or the head is not fit to be judged.
    pub fn in_tunnel(
        parts: &Parts,
        authority: &Authority,
        policies: &PolicySet,
    ) -> Result<Self, Denied> {
        method(parts)?;
        hosts_agree(parts, authority, HTTPS)?;
        Self::with_path(parts, authority.clone(), Some(policies))
    }

    /// Checks a request in absolute form, as to a proxy; the scheme is the caller's business.
    ///
    /// # Errors
    /// When the URI has no usable authority, `Host` names another, or the head is not fit to be
    /// judged.
    pub fn absolute(parts: &Parts, policies: &PolicySet) -> Result<Self, Denied> {
        method(parts)?;
        let default = if parts.uri.scheme_str() == Some("http") {
            80
        } else {
            HTTPS
        };
        let written = parts.uri.authority().ok_or_else(|| {
            Denied::new(
                Reason::AuthorityInvalid,
                "the request names no host; this is a proxy",
            )
        })?;
        let authority = parse(written.as_str(), default)?;
        if hosts_agree(parts, &authority, default).is_err() {
            return Err(malformed("the URI and Host name different hosts"));
        }
        Self::with_path(parts, authority, Some(policies))
    }

    /// Checks a request that came in clear to `port` of a host that only the request names.
    ///
    /// # Errors
    /// When it names no host, several, or another port, or the head is not fit to be judged.
    pub fn in_clear(parts: &Parts, port: u16) -> Result<Self, Denied> {
        method(parts)?;
        if parts
            .uri
            .scheme_str()
            .is_some_and(|scheme| scheme != "http")
        {
            return Err(malformed("the request is for another scheme than http"));
        }
        let written = match parts.uri.authority() {
            Some(authority) => authority.as_str(),
            None => {
                single_host(&parts.headers)?.ok_or_else(|| malformed("the request has no Host"))?
            }
        };
        let authority = parse(written, port)?;
        if authority.port() != port {
            let detail = format!("the connection is to port {port}, the request to {authority}");
            return Err(Denied::new(Reason::AuthorityMismatch, detail));
        }
        hosts_agree(parts, &authority, port)?;
        Self::with_path(parts, authority, None)
    }

    /// Where the request goes.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Its method, which nothing in the head or the query overrides.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Its path and query.
    pub fn path(&self) -> &CanonicalPath {
        &self.path
    }

    /// `policies` say which targets keep encoded slashes; without them none does.
    fn with_path(
        parts: &Parts,
        authority: Authority,
        policies: Option<&PolicySet>,
    ) -> Result<Self, Denied> {
        let target = parts.uri.path_and_query();
        let asterisk = target.is_some_and(|target| target.as_str() == "*");
        if asterisk {
            return Err(Denied::new(
                Reason::MethodRefused,
                "OPTIONS * is for the next hop only",
            ));
        }
        let root = PathAndQuery::from_static("/");
        let target = target.unwrap_or(&root);
        let path = match policies {
            Some(policies) => policies.path(authority.host(), authority.port(), target),
            None => CanonicalPath::check(target),
        };
        let path =
            path.map_err(|problem| Denied::new(Reason::PathNotCanonical, problem.to_string()))?;
        method_in_query(&path)?;
        Ok(Self {
            authority,
            method: parts.method.clone(),
            path,
        })
    }
}

fn method(parts: &Parts) -> Result<(), Denied> {
    let refused = |name: &str| {
        let detail = format!("{name} is not forwarded");
        Err(Denied::new(Reason::MethodRefused, detail))
    };
    // Methods are case-sensitive, but not to every server.
    for name in ["TRACE", "TRACK", "CONNECT"] {
        if parts.method.as_str().eq_ignore_ascii_case(name) {
            return refused(name);
        }
    }
    for (name, value) in &parts.headers {
        if let Some(overrides) = overrides::of_header(name.as_str()) {
            let (reason, what) = match overrides {
                Overrides::Method => (Reason::MethodOverride, "method"),
                Overrides::Path => (Reason::PathOverride, "path"),
            };
            let detail = format!("the header {name} would change the {what} that policy judged");
            return Err(Denied::new(reason, detail));
        }
        // HTTP/1.1 has cut it off already (RFC 9113, section 8.2.1).
        let ends = [value.as_bytes().first(), value.as_bytes().last()];
        if ends.iter().any(|end| matches!(end, Some(b' ' | b'\t'))) {
            return Err(malformed("a header's value begins or ends with a space"));
        }
    }
    if parts.method == Method::OPTIONS && parts.headers.get(MAX_FORWARDS).is_some_and(|n| n == "0")
    {
        return refused("OPTIONS with `Max-Forwards: 0`");
    }
    Ok(())
}

/// A field of the query that some servers take for the method.
fn method_in_query(path: &CanonicalPath) -> Result<(), Denied> {
    if path.query().is_some_and(overrides::method_in_query) {
        let detail = "a field of the query would change the method that policy judged";
        return Err(Denied::new(Reason::MethodOverride, detail));
    }
    Ok(())
}

/// Every host that the head names must be `expected`, and it must name one.
fn hosts_agree(parts: &Parts, expected: &Authority, default_port: u16) -> Result<(), Denied> {
    let from_uri = parts.uri.authority().map(http::uri::Authority::as_str);
    let from_host = single_host(&parts.headers)?;
    if from_uri.is_none() && from_host.is_none() {
        return Err(malformed("the request has no Host"));
    }
    for named in [from_uri, from_host].into_iter().flatten() {
        // Nearly every request spells its host as we would.
        if named == expected.as_uri_authority().as_str() {
            continue;
        }
        if parse(named, default_port)? != *expected {
            let detail = format!("the connection is to {expected}, the request names another host");
            return Err(Denied::new(Reason::AuthorityMismatch, detail));
        }
    }
    Ok(())
}

fn single_host(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let mut all = headers.get_all(HOST).iter();
    let Some(first) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(malformed("the request has more than one Host"));
    }
    let text = first.to_str().map_err(|_| malformed("Host is not ASCII"))?;
    Ok(Some(text))
}

fn parse(text: &str, default_port: u16) -> Result<Authority, Denied> {
    Authority::with_default_port(text, default_port)
        .map_err(|error| Denied::new(Reason::AuthorityInvalid, error.to_string()))
}

fn malformed(detail: &'static str) -> Denied {
    Denied::new(Reason::RequestMalformed, detail)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use rstest::rstest;

    use super::*;

    fn judge(method: &str, header: &str) -> Result<(), Reason> {
        let request = Request::builder().method(method).header(header, "DELETE");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        super::method(&parts).map_err(|denied| denied.reason)
    }

    #[rstest]
    #[case::plain("GET", "x-requested-with", Ok(()))]
    #[case::near_miss("GET", "x-http-methods", Ok(()))]
    #[case::trace("TRACE", "x-a", Err(Reason::MethodRefused))]
    #[case::trace_in_other_case("trace", "x-a", Err(Reason::MethodRefused))]
    #[case::track("TrAcK", "x-a", Err(Reason::MethodRefused))]
    #[case::connect("CONNECT", "x-a", Err(Reason::MethodRefused))]
    #[case::override_("POST", "X-HTTP-Method-Override", Err(Reason::MethodOverride))]
    #[case::folded("POST", "X_HTTP_Method_Override", Err(Reason::MethodOverride))]
    #[case::mixed("POST", "x-method_override", Err(Reason::MethodOverride))]
    #[case::not_the_last("OPTIONS", "max-forwards", Ok(()))]
    #[case::path("GET", "X-Original-URL", Err(Reason::PathOverride))]
    fn t17_t47_methods_and_what_overrides_them(
        #[case] method: &str,
        #[case] header: &str,
        #[case] judged: Result<(), Reason>,
    ) {
        assert_eq!(judge(method, header), judged);
    }
}
