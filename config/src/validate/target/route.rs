//! The routes of a target: which credential goes where, and what is stripped or denied.

use http::HeaderValue;

use super::super::fields::{
    each, header_name, host_pattern, path_patterns, without_encoded_slashes,
};
use crate::{
    host::HostPattern,
    model::{Attach, Place, Route, Slots, Strip, TRACEPARENT, TRACESTATE, Target, Template},
    path::EncodedSlash,
    resource::{AttachSpec, RouteSpec, StripSpec, TraceparentSpec},
    yaml::{Findings, Location, read::did_you_mean},
};

/// What a route is checked against; `None` if it was already reported.
pub(super) struct RouteChecks<'a> {
    pub(super) hosts: Option<&'a [HostPattern]>,
    pub(super) slots: Option<&'a Slots>,
    pub(super) encoded_slash: EncodedSlash,
    pub(super) findings: &'a Findings,
}

/// Adds the routes of the target that is extended; and if the API is to know nothing of the trace, every route removes what
/// a caller says of it.
pub(super) fn complete(
    routes: &mut Vec<Route>,
    base: Option<&Target>,
    traceparent: Option<TraceparentSpec>,
) {
    routes.extend(
        base.into_iter()
            .flat_map(|base| base.routes.iter().cloned()),
    );
    if let Some(TraceparentSpec::Drop) = traceparent {
        for route in routes {
            route.strip.headers.extend([TRACEPARENT, TRACESTATE]);
        }
    }
}

impl RouteChecks<'_> {
    pub(super) fn route(&self, spec: &RouteSpec, location: &Location<'_>) -> Option<Route> {
        let host = match &spec.host {
            Some(host) => self.host(host, &location.key("host")).map(Some),
            None => Some(None),
        };
        let deny = spec.deny.is_some();
        let paths = path_patterns(&spec.paths, deny, &location.key("paths"), self.findings);
        if self.encoded_slash == EncodedSlash::Refuse {
            without_encoded_slashes(&spec.paths, &location.key("paths"), self.findings);
        }
        let attach = match &spec.attach {
            Some(attach) => self.attach(attach, &location.key("attach")).map(Some),
            None => Some(None),
        };
        if deny && spec.attach.is_some() {
            self.findings.error(
                &location.key_name("attach"),
                "conflicting-keys",
                "a route cannot both deny and attach",
                "keep one of `deny` and `attach`",
            );
        }
        if spec.paths.is_empty() && spec.attach.as_ref().is_some_and(|a| a.path.is_some()) {
            self.findings.warning(
                &location.key("attach").key_name("path"),
                "rewrites-any-path",
                "this route replaces every path by the secret; a request is refused if its first segment differs from the secret's",
                "add `paths` for the requests that it applies to, such as `paths: [\"/services/**\"]`",
            );
        }
        let strip = match &spec.strip {
            Some(strip) => self.strip(strip, &location.key("strip")),
            None => Some(Strip::default()),
        };
        Some(Route {
            host: host?,
            paths: paths?,
            deny: spec.deny.clone(),
            attach: attach?,
            strip: strip?,
            inspect_body: spec.inspect_body.unwrap_or(true),
        })
    }

    pub(super) fn host(&self, text: &str, location: &Location<'_>) -> Option<HostPattern> {
        let pattern = host_pattern(text, location, self.findings)?;
        let hosts = self.hosts?;
        if !hosts.iter().any(|host| host.overlaps(&pattern)) {
            self.findings.error(
                location,
                "host-not-of-target",
                format!("`{text}` is not among the target's hosts"),
                "add it to `hosts`, or use one of them",
            );
            return None;
        }
        Some(pattern)
    }

    fn attach(&self, spec: &AttachSpec, location: &Location<'_>) -> Option<Attach> {
        let slots = self.slots?;
        let slot = match &spec.slot {
            None => Some(slots.default.clone()),
            Some(slot) => {
                let found = slots.names.iter().find(|name| ***name == **slot).cloned();
                if found.is_none() {
                    self.findings.error(
                        &location.key("slot"),
                        "unknown-slot",
                        format!("the target has no slot `{slot}`"),
                        did_you_mean(slot, slots.names.iter().map(|name| &**name)),
                    );
                }
                found
            }
        };
        let place = self.place(spec, location);
        Some(Attach {
            slot: slot?,
            place: place?,
        })
    }

    fn place(&self, spec: &AttachSpec, location: &Location<'_>) -> Option<Place> {
        let value = |findings| match &spec.value {
            Some(value) => template(value, &location.key("value"), findings),
            None => Some(Template {
                before: String::new(),
                after: String::new(),
            }),
        };
        match (&spec.header, &spec.query, &spec.path) {
            (Some(header), None, None) => {
                let name = header_name(header, &location.key("header"), self.findings);
                let value = value(self.findings)?;
                if HeaderValue::from_str(&format!("{}{}", value.before, value.after)).is_err() {
                    self.findings.error(
                        &location.key("value"),
                        "bad-header",
                        "this is not valid in a header",
                        "use visible ASCII characters and spaces only",
                    );
                    return None;
                }
                Some(Place::Header { name: name?, value })
            }
            (None, Some(query), None) => Some(Place::Query {
                name: query.clone(),
                value: value(self.findings)?,
            }),
            (None, None, Some(path)) if spec.value.is_none() => Some(Place::Path {
                value: template(path, &location.key("path"), self.findings)?,
            }),
            _ => {
                self.findings.error(
                    location,
                    "conflicting-keys",
                    "a credential goes to exactly one place",
                    "give `header` and `value`, or `query` and `value`, or `path` alone",
                );
                None
            }
        }
    }

    fn strip(&self, spec: &StripSpec, location: &Location<'_>) -> Option<Strip> {
        let headers = each(
            &spec.headers,
            &location.key("headers"),
            |header, location| header_name(header, location, self.findings),
        )?;
        Some(Strip {
            headers,
            form_fields: spec.form_fields.clone(),
            query: spec.query.clone(),
        })
    }
}

fn template(text: &str, location: &Location<'_>, findings: &Findings) -> Option<Template> {
    match text.split_once("{token}") {
        Some((before, after)) if !after.contains("{token}") => Some(Template {
            before: before.to_owned(),
            after: after.to_owned(),
        }),
        Some(_) | None => {
            findings.error(
                location,
                "bad-template",
                "this must contain `{token}` exactly once",
                "write `{token}` once, such as `Bearer {token}`",
            );
            None
        }
    }
}
