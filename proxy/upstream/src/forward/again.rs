//! Which requests are sent again on another connection.

use http::{Request, request::Parts};

use super::{
    ConnectionInfo,
    body::{RequestBody, Spare},
    error::ForwardError,
    http1::Failed,
    tls::Protocol,
};

/// What is needed to send a request again, kept until its response arrives.
pub(super) struct Again<'h>(Option<(Head<'h>, Spare)>);

enum Head<'h> {
    Given(&'h Parts),
    Own(Box<Parts>),
}

impl<'h> Again<'h> {
    /// For a request that is about to be sent on `connection`; `head` is a copy of its head, if one exists.
    pub(super) fn of(
        request: &mut Request<RequestBody>,
        head: Option<&'h Parts>,
        connection: &ConnectionInfo,
    ) -> Self {
        let may_be = match connection.protocol {
            // Any request may be refused unprocessed (RFC 9113, section 8.7).
            Protocol::Http2 => true,
            // An idle connection may be closed just as it is used; then nobody knows what the upstream has
            // seen (RFC 9110, section 9.2.2).
            Protocol::Http1 => connection.reused && request.method().is_idempotent(),
        };
        Self(may_be.then(|| {
            let head = head.map_or_else(|| Head::Own(Box::new(copy(request))), Head::Given);
            (head, request.body_mut().spare())
        }))
    }

    /// Returns the request, if it may be sent again after it has `failed` on `connection`.
    pub(super) fn after(
        self,
        failed: Failed,
        connection: &ConnectionInfo,
    ) -> Result<Request<RequestBody>, ForwardError> {
        let Failed {
            error,
            unsent,
            refused,
        } = failed;
        match (unsent, self.0) {
            (Some(unsent), _) if refused || connection.reused => Ok(*unsent),
            (_, Some((head, spare))) if refused => match spare.reclaim() {
                Ok(body) => {
                    let head = match head {
                        Head::Given(head) => head.clone(),
                        Head::Own(head) => *head,
                    };
                    Ok(Request::from_parts(head, body))
                }
                Err(why) if connection.protocol == Protocol::Http2 => Err(ForwardError::NotTaken {
                    reason: format!("{error}; it could not be sent again: {why}"),
                }),
                Err(_) => Err(error),
            },
            (_, _) => Err(error),
        }
    }
}

/// The error of a request that has failed a second time, on `connection`.
pub(super) fn given_up(failed: Failed, connection: &ConnectionInfo) -> ForwardError {
    if failed.refused && connection.protocol == Protocol::Http2 {
        return ForwardError::NotTaken {
            reason: format!("{}, twice", failed.error),
        };
    }
    failed.error
}

fn copy(request: &Request<RequestBody>) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = request.method().clone();
    parts.uri = request.uri().clone();
    parts.headers = request.headers().clone();
    parts
}
