//! Bodies are streamed untouched, but for one case: a form that may carry the caller's own copy
//! of a credential is read (bounded), rewritten and sent as a whole.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use countersign_config::model::Strip;
use http::{HeaderMap, HeaderValue, header};
use http_body::Body;
use http_body_util::BodyExt;

use super::{InjectError, form};

/// What became of a body.
#[derive(Debug)]
pub enum Stripped<B> {
    /// JSON, or nothing to strip: to be streamed.
    Untouched(B),
    /// Rewritten; the headers' length was set to match.
    Rewritten(Bytes),
}

/// What bounds the reading of a form.
#[derive(Debug, Clone, Copy)]
pub struct FormBounds {
    /// The largest form, in bytes.
    pub bytes: usize,
    /// How long the client may stand still within it.
    pub idle: Duration,
}

/// Removes the form fields of `strip` from a form body.
///
/// Servers differ in what they take for a form (a missing or doubled content type, `text/plain`),
/// so whatever does not say that it is JSON is read as one. A multipart form is refused: its parts
/// cannot be removed without understanding them exactly as the server does.
///
/// # Errors
/// When a form cannot be looked at, because it is larger than the bound, compressed or multipart,
/// or the client broke off or stood still.
pub async fn strip_form<B>(
    headers: &mut HeaderMap,
    body: B,
    strip: &Strip,
    bounds: FormBounds,
) -> Result<Stripped<B>, InjectError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if strip.form_fields.is_empty() || body.is_end_stream() {
        return Ok(Stripped::Untouched(body));
    }
    match kind(headers) {
        Kind::Json => return Ok(Stripped::Untouched(body)),
        Kind::Multipart => return Err(InjectError::Form("is a multipart one")),
        Kind::Form => {}
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(InjectError::Form("is compressed"));
    }
    let form = read(body, bounds).await?;
    let kept = form::without(&form, |name| {
        strip.form_fields.iter().any(|field| field == name)
    });
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(kept.len()));
    Ok(Stripped::Rewritten(kept.into()))
}

/// What a server may take a body for.
enum Kind {
    Json,
    Multipart,
    Form,
}

/// Any of the content types may be the one the server goes by: it is JSON if all of them say so,
/// multipart if one of them does, and else a form.
fn kind(headers: &HeaderMap) -> Kind {
    let mut all_json = false;
    for (at, value) in headers.get_all(header::CONTENT_TYPE).iter().enumerate() {
        let value = value.as_bytes();
        if value
            .windows(b"multipart/".len())
            .any(|word| word.eq_ignore_ascii_case(b"multipart/"))
        {
            return Kind::Multipart;
        }
        all_json = (at == 0 || all_json) && is_json(value);
    }
    if all_json { Kind::Json } else { Kind::Form }
}

/// `application/json` or `application/anything+json`, alone.
fn is_json(content_type: &[u8]) -> bool {
    if content_type.contains(&b',') {
        return false;
    }
    let essence = content_type.split(|byte| *byte == b';').next();
    let essence = essence
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase();
    essence
        .strip_prefix(b"application/")
        .is_some_and(|kind| kind == b"json" || kind.ends_with(b"+json"))
}

async fn read<B>(mut body: B, bounds: FormBounds) -> Result<Bytes, InjectError>
where
    B: Body<Data = Bytes> + Unpin,
{
    const TOO_LARGE: InjectError = InjectError::Form("is too large to be checked");
    if body.size_hint().lower() > bounds.bytes as u64 {
        return Err(TOO_LARGE);
    }
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(bounds.idle, body.frame())
            .await
            .map_err(|_| InjectError::FormStalled(bounds.idle))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| InjectError::ClientGone)?;
        // Trailers of a form carry nothing that a form's reader would look at.
        let Ok(mut data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.remaining() > bounds.bytes {
            return Err(TOO_LARGE);
        }
        whole.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(whole.freeze())
}
