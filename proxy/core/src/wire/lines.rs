//! The line syntax that HTTP/1.1 requests and responses share (RFC 9112, sections 2.2, 5 and 7.1),
//! parsed equally strictly for both.

/// What is wrong with a line.
pub type LineError = &'static str;

/// A line without its CRLF; `line` has no LF.
pub fn whole(line: &[u8]) -> Result<&[u8], LineError> {
    let line = line
        .strip_suffix(b"\r")
        .ok_or("a line ends with LF alone")?;
    if memchr::memchr2(b'\r', 0, line).is_some() {
        return Err("a line contains a CR or NUL");
    }
    Ok(line)
}

/// The name and the value of a header or a trailer.
pub fn field(line: &[u8]) -> Result<(&[u8], &[u8]), LineError> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("a header is folded over lines");
    }
    let colon = memchr::memchr(b':', line).ok_or("a header has no colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.last().is_none_or(u8::is_ascii_whitespace) {
        return Err("a header's name is empty or followed by a space");
    }
    Ok((name, value.trim_ascii()))
}

/// A chunk's size, before its extensions.
pub fn chunk_size(line: &[u8]) -> Result<u64, LineError> {
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let size = size.trim_ascii_end();
    std::str::from_utf8(size)
        .ok()
        .filter(|size| !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|size| u64::from_str_radix(size, 16).ok())
        .ok_or("a chunk's size is not a number")
}

/// Digits only: `u64::from_str` would also accept a leading `+`.
pub fn digits(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}
