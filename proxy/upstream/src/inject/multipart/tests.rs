use countersign_core::budget::Purse;
use http::{HeaderMap, header::CONTENT_TYPE};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

const TYPE: &str = "multipart/form-data; boundary=b0";

fn guard(boundary: &str) -> MultipartGuard {
    let strip = Strip {
        form_fields: vec!["token".to_owned()],
        ..Strip::default()
    };
    MultipartGuard::new(boundary, &strip, Purse::unshared().charge()).unwrap()
}

/// What is sent of a form that comes in pieces of this size, and why the rest is not.
fn sent(form: &[u8], piece: usize) -> (Vec<u8>, Result<(), FormFault>) {
    let (mut guard, mut sent) = (guard("b0"), Vec::new());
    for piece in form.chunks(piece) {
        match guard.feed(Bytes::copy_from_slice(piece)) {
            Ok(bytes) => sent.extend_from_slice(&bytes),
            Err(fault) => return (sent, Err(fault)),
        }
        assert!(guard.held() <= MOST_HEAD + 128);
    }
    match guard.finish() {
        Ok(rest) => sent.extend_from_slice(&rest),
        Err(fault) => return (sent, Err(fault)),
    }
    assert!(guard.is_settled());
    (sent, Ok(()))
}

/// A part with this disposition behind `form-data`.
fn part(disposition: &str) -> String {
    format!("--b0\r\nContent-Disposition: form-data{disposition}\r\n\r\nSECRET\r\n")
}

fn form(disposition: &str) -> String {
    let first = "--b0\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\
        Content-Type: image/png\r\n\r\n\x01\x02\r\n--b\r\n--\r\n\r\n";
    format!("{first}{}--b0--\r\n", part(disposition))
}

const PIECES: [usize; 6] = [1, 2, 3, 7, 64, 100_000];

#[rstest]
#[case::quoted("; name=\"title\"")]
#[case::unquoted("; name=title")]
#[case::other_order("; filename=\"x.txt\"; name=\"file\"")]
#[case::extended_file_name("; name=\"file\"; filename*=UTF-8''x")]
#[case::longer("; name=\"tokens\"")]
#[case::within("; name=\"mytoken\"")]
#[case::file_is_called_so("; name=\"file\"; filename=\"token\"")]
#[case::file_path("; name=\"file\"; filename=\"C:\\dir\\x.txt\"")]
#[case::not_ascii("; name=\"t\u{f6}ken\"")]
#[case::empty("; name=\"\"")]
fn a_form_without_the_field_passes_unchanged(#[case] disposition: &str) {
    let form = form(disposition);
    for piece in PIECES {
        assert_eq!(
            sent(form.as_bytes(), piece),
            (form.clone().into_bytes(), Ok(()))
        );
    }
}

#[rstest]
#[case::no_part("--b0--\r\n")]
#[case::no_last_line_end("--b0\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--b0--")]
#[case::preamble("This is a form.\r\n--b0--\r\n")]
#[case::line_before("\r\n--b0--\r\n")]
fn forms_at_the_edge_pass(#[case] form: &str) {
    for piece in PIECES {
        assert_eq!(
            sent(form.as_bytes(), piece),
            (form.into(), Ok(())),
            "{piece}"
        );
    }
}

#[rstest]
#[case::quoted("; name=\"token\"")]
#[case::unquoted("; name=token")]
#[case::case("; NAME=\"Token\"")]
#[case::no_blank(";name=token")]
#[case::tab(";\tname=token")]
#[case::blanks("; name=\" token \"")]
#[case::list("; name=\"token[]\"")]
#[case::encoded("; name=\"%74oken\"")]
#[case::file("; name=\"token\"; filename=\"x\"")]
#[case::behind_a_file("; filename=\"x\"; name=\"token\"")]
fn the_field_is_refused_and_nothing_of_it_was_sent(#[case] disposition: &str) {
    let form = form(disposition);
    for piece in PIECES {
        let (sent, result) = sent(form.as_bytes(), piece);
        let fault = FormFault::Field {
            name: "token".into(),
            part: 2,
        };
        assert_eq!(result, Err(fault), "{piece}");
        assert!(form.as_bytes().starts_with(&sent));
        let sent = String::from_utf8_lossy(&sent);
        assert!(
            !sent.contains("SECRET") && sent.matches("Content-Disposition").count() <= 1,
            "{sent}"
        );
    }
}

#[rstest]
#[case::extended("; name*=UTF-8''token")]
#[case::continued("; name*0=to; name*1=ken")]
#[case::both("; name=\"a\"; name*=UTF-8''token")]
#[case::twice("; name=\"a\"; name=\"token\"")]
#[case::twice_other_case("; name=\"a\"; Name=\"token\"")]
#[case::none("")]
#[case::not_form_data("-x; name=\"a\"")]
#[case::escaped_quote("; filename=\"a\\\"; name=token; x=\\\"\"; name=\"b\"")]
#[case::in_a_file_name("; name=\"a\"; filename=\"x; name=token\"")]
#[case::escape("; name=\"to\\ken\"")]
#[case::encoded_word("; name=\"=?utf-8?q?token?=\"")]
#[case::open_quote("; name=\"a")]
#[case::behind_the_quote("; name=\"a\"token")]
#[case::blank_before_equals("; name =\"token\"")]
#[case::folded(";\r\n name=\"token\"")]
#[case::bare_line_feed("; name=\"a\"\nContent-Disposition: form-data; name=\"token\"")]
#[case::second_header("; name=\"a\"\r\nContent-Disposition: form-data; name=\"token\"")]
#[case::nested("; name=\"a\"\r\nContent-Type: multipart/mixed; boundary=c")]
#[case::no_header("; name=\"a\"\r\nnothing")]
#[case::nul("; name=\"a\0\"")]
#[case::comma("; name=a,token")]
#[case::delimiter_in_a_head("; name=\"a\"\r\nX: y\r\n--b0")]
fn what_has_more_than_one_reading_is_refused(#[case] disposition: &str) {
    let form = form(disposition);
    for piece in PIECES {
        let (sent, result) = sent(form.as_bytes(), piece);
        assert!(matches!(result, Err(FormFault::Ambiguous(_))), "{result:?}");
        assert!(!sent.windows(6).any(|window| window == b"SECRET"));
    }
}

#[rstest]
#[case::not_a_form("token=SECRET")]
#[case::line_feeds("--b0\nContent-Disposition: form-data; name=token\n\nSECRET\n--b0--\n")]
#[case::line_feed_before(
    "x\n--b0\r\nContent-Disposition: form-data; name=token\r\n\r\nSECRET\r\n--b0--"
)]
#[case::padding("--b0 \r\nContent-Disposition: form-data; name=a\r\n\r\nSECRET\r\n--b0--")]
#[case::longer_boundary("--b0x\r\nContent-Disposition: form-data; name=a\r\n\r\nSECRET\r\n--b0x--")]
#[case::one_dash("--b0-\r\n")]
#[case::no_name_of_a_part("--b0\r\n\r\nSECRET\r\n--b0--")]
#[case::cut_in_a_head("--b0\r\nContent-Disposition: form-data; name=a")]
#[case::cut_in_the_last_delimiter(
    "--b0\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--b0-"
)]
#[case::cut_behind_a_delimiter("--b0")]
#[case::empty("")]
#[case::epilogue(
    "--b0--\r\n--b0\r\nContent-Disposition: form-data; name=token\r\n\r\nSECRET\r\n--b0--"
)]
#[case::epilogue_text("--b0--\r\nSECRET")]
fn what_is_no_form_is_refused(#[case] form: &str) {
    for piece in PIECES {
        let (sent, result) = sent(form.as_bytes(), piece);
        assert!(
            matches!(result, Err(FormFault::Ambiguous(_))),
            "{piece}: {result:?}"
        );
        assert!(!sent.windows(6).any(|window| window == b"SECRET"));
    }
}

/// Its beginning cannot be taken back; that nothing follows is what shows the server that it is cut off.
#[test]
fn a_part_that_is_cut_off_is_refused_at_its_end() {
    let form = b"--b0\r\nContent-Disposition: form-data; name=a\r\n\r\nabcdefghijklmnop";
    let (sent, result) = sent(form, 5);
    assert!(matches!(result, Err(FormFault::Ambiguous(_))));
    assert!(sent.len() < form.len());
}

#[test]
fn heads_and_preambles_are_bounded() {
    for (begin, most) in [("", MOST_PREAMBLE), ("--b0\r\nX: ", MOST_HEAD)] {
        let form = format!("{begin}{}", "x".repeat(most + 1));
        for piece in [100, 100_000] {
            let (_, result) = sent(form.as_bytes(), piece);
            let fault = result.unwrap_err().to_string();
            assert!(
                fault.contains("too large") || fault.contains("begin with"),
                "{fault}"
            );
        }
    }
}

#[test]
fn a_field_that_overrides_the_method_is_refused() {
    let (_, result) = sent(form("; name=\"_method\"").as_bytes(), 10);
    assert_eq!(result, Err(FormFault::Method { part: 2 }));
}

#[rstest]
#[case(TYPE, Some("b0"))]
#[case("Multipart/Form-Data;boundary=\"b0\"", Some("b0"))]
#[case("multipart/form-data; charset=utf-8; boundary=b0", Some("b0"))]
#[case(
    "multipart/form-data; boundary=----=_Part_0_1.2",
    Some("----=_Part_0_1.2")
)]
#[case::none("multipart/form-data", None)]
#[case::twice("multipart/form-data; boundary=b0; boundary=b1", None)]
#[case::extended("multipart/form-data; boundary*=b0", None)]
#[case::both("multipart/form-data; boundary=b0; boundary*=b1", None)]
#[case::empty("multipart/form-data; boundary=\"\"", None)]
#[case::blank("multipart/form-data; boundary=\"b 0\"", None)]
#[case::mixed("multipart/mixed; boundary=b0", None)]
#[case::related("multipart/related; boundary=b0", None)]
#[case::within("x; y=multipart/form-data; boundary=b0", None)]
#[case::charset("multipart/form-data; charset=utf-16; boundary=b0", None)]
#[case::comma("multipart/form-data; boundary=b0, text/plain", None)]
#[case::inside_another("multipart/form-data; boundary=b0; x=\"; boundary=b1\"", None)]
fn a_boundary_is_certain_or_there_is_none(#[case] written: &str, #[case] expected: Option<&str>) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, written.parse().unwrap());
    assert_eq!(boundary(&headers).ok(), expected);
    headers.append(CONTENT_TYPE, "text/plain".parse().unwrap());
    assert!(boundary(&headers).is_err());
}

proptest! {
    /// However it is cut into pieces, the same is sent and the same is refused.
    #[test]
    fn pieces_make_no_difference(
        parts in proptest::collection::vec("(; name=[a-z]{1,6}|; name=\"token\"|; name\\*=x)", 0..4),
        noise in "[-b0\r\n: ]{0,40}",
        piece in 1usize..50,
    ) {
        let parts: String = parts.iter().map(|disposition| part(disposition)).collect();
        let form = format!("{parts}{noise}--b0--\r\n");
        let (whole, result) = sent(form.as_bytes(), form.len());
        let (pieces, of_pieces) = sent(form.as_bytes(), piece);
        prop_assert_eq!(&result, &of_pieces);
        if result.is_ok() {
            prop_assert_eq!(whole, form.into_bytes());
        }
        prop_assert!(!String::from_utf8_lossy(&pieces).contains("name=\"token\""));
    }
}
