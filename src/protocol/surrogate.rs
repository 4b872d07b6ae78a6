//! Repair of escape sequences for lone surrogates. A browser that truncates a string inside an emoji sends an escape
//! such as `"\ud83d"`. serde_json rejects such an escape, but SPEC 4 requires U+FFFD in its place.

use std::borrow::Cow;

/// Replaces each `\uXXXX` escape of a lone surrogate with `\ufffd`. The rest of the JSON text is unchanged.
pub(super) fn repair(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let mut repaired: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(step) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        at += step;
        at += match code_unit(bytes, at) {
            Some(0xd800..=0xdbff) if matches!(code_unit(bytes, at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                let text = repaired.get_or_insert_with(|| String::with_capacity(json.len()));
                text.push_str(&json[copied..at]);
                text.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            Some(_) => 6,
            // Any other escape consists of a backslash and one byte. The loop skips both, so that the second backslash
            // of `\\` does not start another escape.
            None => 2,
        };
    }
    match repaired {
        Some(mut text) => {
            text.push_str(&json[copied..]);
            text.into()
        }
        None => json.into(),
    }
}

/// Returns the code unit of the `\uXXXX` escape at `at`. Returns `None` if there is no such escape at this position.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    // The digits are checked first, because `from_str_radix` accepts a sign and JSON does not.
    digits
        .iter()
        .all(u8::is_ascii_hexdigit)
        .then(|| std::str::from_utf8(digits).ok())?
        .and_then(|hex| u16::from_str_radix(hex, 16).ok())
}

#[cfg(test)]
mod tests {
    use super::repair;

    #[test]
    fn lone_surrogate_becomes_the_replacement_character() {
        for (json, repaired) in [
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ude00\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\uD83Dx\uDE00""#, r#""\ufffdx\ufffd""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#""한\ud83d글""#, r#""한\ufffd글""#),
            (r#""\ud83"#, r#""\ud83"#),
            (r#""\u+83d""#, r#""\u+83d""#),
            ("\\", "\\"),
            ("\\한", "\\한"),
        ] {
            assert_eq!(repair(json), repaired);
        }
    }

    proptest::proptest! {
        #[test]
        fn valid_json_is_unchanged(text in ".*") {
            let json = serde_json::to_string(&text).unwrap();
            proptest::prop_assert_eq!(repair(&json), json.as_str());
        }

        #[test]
        fn any_text_yields_valid_text(json in ".*\\\\.*") {
            repair(&json);
        }
    }
}
