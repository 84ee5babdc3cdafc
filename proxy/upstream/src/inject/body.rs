//! Bodies are streamed unchanged, with one exception: a form that may contain the caller's own copy of a
//! credential is read (within a bound), rewritten and sent as a whole. A multipart form is checked while
//! it is streamed.

use std::time::Duration;

use bytes::Bytes;
use countersign_config::model::Strip;
use countersign_core::{
    budget::{Charge, Short},
    wire::overrides::is_method_field,
};
use http::{HeaderMap, HeaderValue, header};
use http_body::Body;
use http_body_util::BodyExt;
use serde::de::IgnoredAny;

use super::{
    InjectError,
    content::{self, Kind},
    form,
    multipart::{self, MultipartGuard},
};

/// The most white space before JSON, in bytes.
const MOST_BLANKS: usize = 1024;

const TOO_LARGE: InjectError = InjectError::Form("is too large to be checked");

/// The body after stripping.
#[derive(Debug)]
pub enum Stripped<B> {
    /// JSON, or nothing to strip: streamed, after what was already read.
    Untouched(Bytes, B),
    /// Read completely; the headers' length was adjusted. It is kept until it is sent.
    Rewritten(Bytes, Charge),
    /// A multipart form, of which nothing was read: streamed through its check.
    Checked(B, Box<MultipartGuard>),
}

/// The bounds of reading a form.
#[derive(Debug, Clone, Copy)]
pub struct FormBounds {
    /// The largest form, in bytes.
    pub bytes: usize,
    /// How long the client may be idle within it.
    pub idle: Duration,
}

/// Removes the form fields of `strip` from a form body.
///
/// Servers differ in what they treat as a form (a missing or repeated content type, `text/plain`,
/// `application/x+json`), so anything that is not certainly JSON, by its type and its first bytes, is read
/// as one. A multipart form is streamed through [`MultipartGuard`], which refuses it if it has a field of
/// `strip`: a part cannot be taken out of a form whose length is announced.
///
/// # Errors
/// When a form cannot be looked at, because it is larger than the bound, compressed, multipart of
/// another kind than `form-data`, or in a charset that hides its names, when it overrides the method, or
/// the client broke off or stood still.
pub async fn strip_form<B>(
    headers: &mut HeaderMap,
    mut body: B,
    strip: &Strip,
    bounds: FormBounds,
    charge: impl FnOnce() -> Charge,
) -> Result<Stripped<B>, InjectError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if strip.form_fields.is_empty() || body.is_end_stream() {
        return Ok(Stripped::Untouched(Bytes::new(), body));
    }
    let kind = content::kind(headers);
    let mut begun = Bytes::new();
    match kind {
        Kind::Json => {
            let is_json;
            (begun, is_json) = begins_as_json(&mut body, bounds).await?;
            if is_json {
                return Ok(Stripped::Untouched(begun, body));
            }
        }
        Kind::Multipart => return checked(headers, body, strip, charge()),
        Kind::OtherCharset => {
            return Err(InjectError::Form("is in a charset that hides its names"));
        }
        Kind::Form | Kind::OtherJson => {}
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(InjectError::Form("is compressed"));
    }
    let mut charge = charge();
    let form = read(body, begun, bounds, &mut charge).await?;
    let held = charge.bytes();
    charge
        .set_revocable(held + form.len())
        .map_err(InjectError::Memory)?;
    let kept = stripped(&form, strip, kind)?;
    drop(form);
    charge.set(held).map_err(InjectError::Memory)?;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(kept.len()));
    Ok(Stripped::Rewritten(kept, charge))
}

/// A multipart form, to be checked while it is streamed.
fn checked<B>(
    headers: &HeaderMap,
    body: B,
    strip: &Strip,
    charge: Charge,
) -> Result<Stripped<B>, InjectError> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(InjectError::Form("is compressed"));
    }
    let boundary = multipart::boundary(headers).map_err(InjectError::Form)?;
    let guard = MultipartGuard::new(boundary, strip, charge).map_err(InjectError::Memory)?;
    Ok(Stripped::Checked(body, Box::new(guard)))
}

/// A complete body without the fields.
fn stripped(form: &Bytes, strip: &Strip, kind: Kind) -> Result<Bytes, InjectError> {
    if form.contains(&0) || form.starts_with(&[0xfe, 0xff]) || form.starts_with(&[0xff, 0xfe]) {
        return Err(InjectError::Form("is in a charset that hides its names"));
    }
    if form::all_names(form).any(is_method_field) {
        return Err(InjectError::MethodField);
    }
    let names: Vec<_> = strip
        .form_fields
        .iter()
        .map(|name| form::folded(name))
        .collect();
    let kept = form::without(form, |name| names.iter().any(|field| field == name));
    if kept.len() == form.len() {
        return Ok(form.clone());
    }
    // Without the field it would no longer be valid JSON.
    if kind == Kind::OtherJson && serde_json::from_slice::<IgnoredAny>(form).is_ok() {
        return Err(InjectError::Form(
            "is JSON that a server may read as one with a credential",
        ));
    }
    Ok(kept.into())
}

/// Reads until it is certain whether the body begins as a JSON object or array. A form that claims to be
/// JSON does not. Returns what was read, too.
async fn begins_as_json<B>(body: &mut B, bounds: FormBounds) -> Result<(Bytes, bool), InjectError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut begun = Bytes::new();
    loop {
        if let Some(answer) = content::begins_as_json(&begun) {
            return Ok((begun, answer));
        }
        if begun.len() > MOST_BLANKS {
            return Ok((begun, false));
        }
        let Some(data) = next(body, bounds).await? else {
            return Ok((begun, false));
        };
        begun = if begun.is_empty() {
            data
        } else {
            [begun, data].concat().into()
        };
    }
}

/// Reads a whole form. Its buffer grows by doubling, and is charged for before.
async fn read<B>(
    mut body: B,
    begun: Bytes,
    bounds: FormBounds,
    charge: &mut Charge,
) -> Result<Bytes, InjectError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().lower().saturating_add(begun.len() as u64);
    if announced > bounds.bytes as u64 {
        return Err(TOO_LARGE);
    }
    let mut whole = Vec::new();
    let mut fresh = Some(begun);
    while let Some(data) = fresh {
        let length = whole.len() + data.len();
        if length > bounds.bytes {
            return Err(TOO_LARGE);
        }
        reserve(&mut whole, length, bounds.bytes, charge).map_err(InjectError::Memory)?;
        whole.extend_from_slice(&data);
        fresh = tokio::select! {
            biased;
            () = charge.revoked() => return Err(InjectError::Memory(charge.given_up())),
            data = next(&mut body, bounds) => data?,
        };
    }
    Ok(whole.into())
}

/// Reserves `length` bytes, or twice the present capacity.
fn reserve(
    whole: &mut Vec<u8>,
    length: usize,
    most: usize,
    charge: &mut Charge,
) -> Result<(), Short> {
    if length <= whole.capacity() {
        return Ok(());
    }
    let capacity = length.max(2 * whole.capacity()).min(most);
    // The old buffer exists until its bytes were moved.
    charge.set_revocable(capacity + whole.capacity())?;
    whole.reserve_exact(capacity - whole.len());
    charge.set_revocable(whole.capacity())
}

/// The next piece; `None` at the end.
async fn next<B>(body: &mut B, bounds: FormBounds) -> Result<Option<Bytes>, InjectError>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = tokio::time::timeout(bounds.idle, body.frame())
            .await
            .map_err(|_| InjectError::FormStalled(bounds.idle))?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|_| InjectError::ClientGone)?;
        // Trailers are not part of a form.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}
