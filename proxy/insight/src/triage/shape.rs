//! The shape of a path: what differs from one thing to the next is left out, so that requests of one kind count
//! together.

/// Appends the shape of a path: segments that look like an id become `*`.
pub(super) fn append(path: &str, shape: &mut String) {
    for (index, segment) in path.split('/').enumerate().take(12) {
        if index > 0 {
            shape.push('/');
        }
        shape.push_str(if is_id(segment) { "*" } else { segment });
    }
}

/// Whether a segment names one thing of many: numbers, UUIDs, hashes, Slack's ids.
fn is_id(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let all = |is: fn(&u8) -> bool| segment.bytes().all(|byte| is(&byte));
    if digits == 0 {
        return segment.len() > 64;
    }
    // `v1` and `oauth2` are names.
    digits == segment.len()
        || segment.len() > 64
        || (segment.len() >= 8
            && digits >= 2
            && all(|byte| byte.is_ascii_hexdigit() || *byte == b'-'))
        || (segment.len() >= 8 && all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    #[rstest]
    #[case("/api/chat.postMessage", "/api/chat.postMessage")]
    #[case("/v1/run/DEMO/1234", "/v1/run/DEMO/*")]
    #[case("/v1/case/0194f3c1-2a44-7000-8000-000000000001", "/v1/case/*")]
    #[case("/services/T0123ABCD/B0123ABCD", "/services/*/*")]
    #[case("/oauth2/v2.0/token", "/oauth2/v2.0/token")]
    #[case("", "")]
    fn ids_are_left_out(#[case] path: &str, #[case] expected: &str) {
        let mut shape = String::new();
        super::append(path, &mut shape);
        assert_eq!(shape, expected);
    }
}
