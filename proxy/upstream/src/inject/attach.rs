//! Attaches the credential as the target declares.

use countersign_config::{
    host::Host,
    model::{Attach, Place, Route, Template},
    path::CanonicalPath,
};
use countersign_core::{destination::Authority, secret::Secret};
use http::{HeaderMap, HeaderValue, uri::PathAndQuery};
use zeroize::Zeroizing;

use super::{InjectError, query};

/// Attaches the credential; a header replaces every one of its name. Returns the request target, which
/// changes if the credential is part of it.
pub(super) fn attach(
    headers: &mut HeaderMap,
    target: PathAndQuery,
    route: &Route,
    attach: &Attach,
    secret: &Secret,
    authority: &Authority,
) -> Result<PathAndQuery, InjectError> {
    match &attach.place {
        Place::Header { name, value } => {
            let text = fill(value, secret.expose());
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                InjectError::Unusable("a header: it has bytes that no header may have")
            })?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
            Ok(target)
        }
        Place::Query { name, value } => {
            Ok(query::with(&target, name, &fill(value, secret.expose())))
        }
        Place::Path { value } => {
            let path = fill(value, path_of(secret.expose(), authority)?);
            let text = match target.query() {
                Some(query) => format!("{}?{query}", *path),
                None => (*path).clone(),
            };
            let with_secret = PathAndQuery::try_from(text)
                .ok()
                .filter(|target| target.as_str().starts_with('/'))
                .ok_or(InjectError::Unusable(
                    "a path: it does not start with `/` or is not one",
                ))?;
            stays_on_route(route, &target, &with_secret)?;
            Ok(with_secret)
        }
    }
}

/// A secret path replaces only paths of its own kind: one that the route matches or, if the route matches
/// all, one with the same first segment as the request's. Otherwise the request would do something that
/// policy did not permit.
fn stays_on_route(
    route: &Route,
    asked: &PathAndQuery,
    with_secret: &PathAndQuery,
) -> Result<(), InjectError> {
    let canonical = CanonicalPath::check(with_secret)
        .map_err(|_| InjectError::Unusable("a path: it is not canonical"))?;
    let stays = if route.paths.is_any() {
        first_segment(asked.path()) == first_segment(with_secret.path())
    } else {
        route.paths.matches(&canonical)
    };
    stays.then_some(()).ok_or(InjectError::Unusable(
        "a path: it is of another kind than the request's",
    ))
}

fn first_segment(path: &str) -> Option<&str> {
    path.split('/').nth(1)
}

fn fill(template: &Template, secret: &str) -> Zeroizing<String> {
    let mut text =
        String::with_capacity(template.before.len() + secret.len() + template.after.len());
    text.push_str(&template.before);
    text.push_str(secret);
    text.push_str(&template.after);
    Zeroizing::new(text)
}

/// A webhook is copied from the vendor's page as a URL, whose path is the secret. The URL must name the
/// host that the request goes to.
fn path_of<'s>(secret: &'s str, authority: &Authority) -> Result<&'s str, InjectError> {
    let Some(rest) = secret.strip_prefix("https://") else {
        return Ok(secret);
    };
    let slash = rest
        .find('/')
        .ok_or(InjectError::Unusable("a path: the URL has none"))?;
    let (host, path) = rest.split_at(slash);
    match Host::parse(host) {
        Ok(host) if host == *authority.host() => Ok(path),
        Ok(_) | Err(_) => Err(InjectError::Unusable(
            "the path of another host than the URL's own",
        )),
    }
}
