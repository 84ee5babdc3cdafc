//! Canonical JSON (RFC 8785), as far as records need it: their numbers are whole.

use serde_json::Value;

/// The largest whole number that every JSON reader keeps: 2^53 - 1.
const EXACT: u64 = (1 << 53) - 1;

/// A number that canonical JSON would write in another way than records do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a number is not whole, or larger than 2^53 - 1")]
pub struct NotCanonical;

/// The value as canonical JSON: no white space, members in the order of their names' UTF-16, the fewest escapes.
///
/// # Errors
/// For numbers that are not whole or not exact.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::with_capacity(1024);
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
    match value {
        // serde_json escapes texts exactly as RFC 8785 wants it.
        Value::Null | Value::Bool(_) | Value::String(_) => text(value, out),
        Value::Number(number) => {
            let exact = number
                .as_u64()
                .or_else(|| number.as_i64().map(i64::unsigned_abs));
            exact.filter(|exact| *exact <= EXACT).ok_or(NotCanonical)?;
            text(value, out);
        }
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            out.push(b'{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, name).expect("a text is JSON");
                out.push(b':');
                write(member, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn text(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a value is JSON");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// From RFC 8785, section 3.2.3: the order of names, which is neither that of UTF-8 nor of code points.
    #[test]
    fn names_have_the_order_of_the_rfc() {
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis",
        });
        let text = String::from_utf8(canonical(&value).unwrap()).unwrap();
        let order = [
            "Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew",
        ];
        let places: Vec<_> = order.iter().map(|word| text.find(word).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
    }

    /// From RFC 8785, section 3.2.2.2.
    #[test]
    fn texts_have_the_fewest_escapes() {
        let value = json!({"string": "\u{20ac}$\u{f}\u{a}A'\u{42}\u{22}\u{5c}\\\"/", "literals": [null, true, false]});
        let expected = "{\"literals\":[null,true,false],\"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(
            String::from_utf8(canonical(&value).unwrap()).unwrap(),
            expected
        );
    }

    #[test]
    fn what_has_several_spellings_is_refused() {
        for number in [json!(1.5), json!(1e30), json!(u64::MAX), json!(1_u64 << 53)] {
            assert_eq!(
                canonical(&json!({"n": number})),
                Err(NotCanonical),
                "{number}"
            );
        }
        assert_eq!(
            canonical(&json!([0, -7, EXACT])).unwrap(),
            b"[0,-7,9007199254740991]"
        );
    }
}
