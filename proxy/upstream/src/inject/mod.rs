//! Turns the caller's request into the gateway's: strip, then attach, in this order, and nothing after it.
//!
//! First the caller's own value in the credential's place is removed, then hop-by-hop headers (also those
//! that `Connection` nominates); the gateway's values are set last, so that nothing in the request can
//! remove or duplicate them.

mod attach;
mod body;
mod content;
pub mod form;
mod headers;
mod multipart;
mod query;

pub use body::{FormBounds, Stripped, strip_form};
pub use headers::strip_response;
pub use multipart::{FormFault, MultipartGuard};

use std::time::Duration;

use countersign_config::{
    model::{Attach, Place, Route},
    path::CanonicalPath,
};
use countersign_core::{
    budget::Short, destination::Authority, reason::Reason, secret::Secret, wire::hop_by_hop,
};
use http::{Uri, header::EXPECT, request::Parts, uri::PathAndQuery};

/// Why a request cannot be rewritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// A header differs from the credential's only in `_` for `-`.
    #[error("header `{0}` reads like the one the credential goes into")]
    HeaderAlias(String),
    /// A form cannot be examined.
    #[error("the form {0}")]
    Form(&'static str),
    /// A form has a field that overrides the method.
    #[error("the form has a field that would change the method that policy judged")]
    MethodField,
    /// The client stalled while its form was read.
    #[error("the client sent nothing more of its form for {0:?}")]
    FormStalled(Duration),
    /// There is no memory for the form.
    #[error("the form cannot be read: {0}")]
    Memory(Short),
    /// The client broke off while its form was read.
    #[error("the client broke off within a form")]
    ClientGone,
    /// The secret does not fit its place.
    #[error("the credential cannot stand in {0}")]
    Unusable(&'static str),
}

impl InjectError {
    /// The reason, in responses, records and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            InjectError::Memory(short) => short.reason(),
            InjectError::HeaderAlias(_) => Reason::HeaderAlias,
            InjectError::Form(_) => Reason::FormUnreadable,
            InjectError::MethodField => Reason::MethodOverride,
            InjectError::FormStalled(_) => Reason::BodyStalled,
            InjectError::ClientGone => Reason::ClientGone,
            InjectError::Unusable(_) => Reason::CredentialUnusable,
        }
    }
}

/// Rewrites the head of a request: destination, strip, attach.
///
/// `credential` is present exactly if the route attaches one. Returns the request's target without the
/// credential, for [`again`].
///
/// # Errors
/// When a header imitates ours, or the secret does not fit its place.
pub fn head(
    parts: &mut Parts,
    authority: &Authority,
    path: &CanonicalPath,
    route: &Route,
    credential: Option<(&Attach, &Secret)>,
) -> Result<PathAndQuery, InjectError> {
    headers::refuse_aliases(&parts.headers, route, credential.map(|(attach, _)| attach))?;
    hop_by_hop::strip_request(&mut parts.headers);
    headers::count_forward(parts);
    // hyper sends `100 Continue` when the body is first polled.
    parts.headers.remove(EXPECT);
    for name in &route.strip.headers {
        parts.headers.remove(name);
    }
    let stripped = stripped_target(path, route, credential.map(|(attach, _)| attach));
    match credential {
        Some((attach, secret)) => again(parts, authority, stripped.clone(), route, attach, secret)?,
        None => parts.uri = absolute(authority, stripped.clone()),
    }
    Ok(stripped)
}

/// Attaches another credential to a head that [`head`] has prepared, in place of the present one.
/// `stripped` is what `head` returned.
///
/// # Errors
/// When the secret does not fit its place.
pub fn again(
    parts: &mut Parts,
    authority: &Authority,
    stripped: PathAndQuery,
    route: &Route,
    attach: &Attach,
    secret: &Secret,
) -> Result<(), InjectError> {
    let headers = &mut parts.headers;
    let target = attach::attach(headers, stripped, route, attach, secret, authority)?;
    parts.uri = absolute(authority, target);
    Ok(())
}

/// Prepares the head of a request that no target matches: only hop-by-hop headers are removed.
pub fn pass(parts: &mut Parts, authority: &Authority, path: &CanonicalPath) {
    hop_by_hop::strip_request(&mut parts.headers);
    headers::count_forward(parts);
    parts.headers.remove(EXPECT);
    parts.uri = absolute(authority, path.path_and_query().clone());
}

/// The path and query without the fields that are stripped or set.
fn stripped_target(path: &CanonicalPath, route: &Route, attach: Option<&Attach>) -> PathAndQuery {
    let ours = match attach.map(|attach| &attach.place) {
        Some(Place::Query { name, .. }) => Some(name.as_str()),
        Some(Place::Header { .. } | Place::Path { .. }) | None => None,
    };
    if path.query().is_none() || (route.strip.query.is_empty() && ours.is_none()) {
        return path.path_and_query().clone();
    }
    let ours = ours.map(form::folded);
    let stripped: Vec<_> = route
        .strip
        .query
        .iter()
        .map(|name| form::folded(name))
        .collect();
    query::without(path, |field| {
        ours.as_deref() == Some(field) || stripped.iter().any(|name| name == field)
    })
}

fn absolute(authority: &Authority, target: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(http::uri::Scheme::HTTPS);
    parts.authority = Some(authority.as_uri_authority().clone());
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).expect("scheme, authority and path are all there")
}

#[cfg(test)]
mod tests;
