//! Bodies are streamed untouched, but for one case: a form that may carry the caller's own copy
//! of a credential is read (bounded), rewritten and sent as a whole.

use bytes::{Buf, Bytes, BytesMut};
use countersign_config::model::Strip;
use http::{HeaderMap, HeaderValue, header};
use http_body::Body;
use http_body_util::BodyExt;

use super::{InjectError, form};

/// What became of a body.
#[derive(Debug)]
pub enum Stripped<B> {
    /// Not a form, or nothing to strip: to be streamed.
    Untouched(B),
    /// Rewritten; the headers' length was set to match.
    Rewritten(Bytes),
}

/// Removes the form fields of `strip` from a form body.
///
/// # Errors
/// When a form is larger than `limit` bytes or encoded, so that it cannot be looked at, or the
/// client broke off.
pub async fn strip_form<B>(
    headers: &mut HeaderMap,
    body: B,
    strip: &Strip,
    limit: usize,
) -> Result<Stripped<B>, InjectError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if strip.form_fields.is_empty() || body.is_end_stream() || !is_form(headers) {
        return Ok(Stripped::Untouched(body));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(InjectError::Form("is compressed"));
    }
    let form = read(body, limit).await?;
    let kept = form::without(&form, |name| {
        strip.form_fields.iter().any(|field| field == name)
    });
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(kept.len()));
    Ok(Stripped::Rewritten(kept.into()))
}

/// Any of the content types may be the one the server goes by, so one form among them counts.
fn is_form(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_TYPE).iter().any(|value| {
        let essence = value
            .as_bytes()
            .split(|byte| matches!(byte, b';' | b','))
            .next();
        essence
            .unwrap_or_default()
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
    })
}

async fn read<B>(mut body: B, limit: usize) -> Result<Bytes, InjectError>
where
    B: Body<Data = Bytes> + Unpin,
{
    const TOO_LARGE: InjectError = InjectError::Form("is too large to be checked");
    if body.size_hint().lower() > limit as u64 {
        return Err(TOO_LARGE);
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| InjectError::ClientGone)?;
        // Trailers of a form carry nothing that a form's reader would look at.
        let Ok(mut data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.remaining() > limit {
            return Err(TOO_LARGE);
        }
        whole.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(whole.freeze())
}
