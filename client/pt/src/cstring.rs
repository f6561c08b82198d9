//! Text in double quotes, as LOG and STATUS lines carry it: `CString` of control-spec §2.1.1.

/// In quotes; every byte that is not plain printable ASCII in octal.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | ..=0x1f | 0x7f.. => quoted.push_str(&format!("\\{byte:03o}")),
            plain => quoted.push(char::from(plain)),
        }
    }
    quoted.push('"');
    quoted
}

/// What stands in the quotes that `text` begins with, and what follows them; `None` if they do not end, or something is
/// escaped that cannot be. What is not UTF-8 is replaced.
pub fn unquote(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let bytes = body.as_bytes();
    let mut taken = Vec::new();
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            b'"' => return Some((String::from_utf8_lossy(&taken).into_owned(), &body[at + 1..])),
            b'\\' => {
                let (byte, length) = unescape(&bytes[at + 1..])?;
                taken.push(byte);
                at += 1 + length;
            }
            plain => {
                taken.push(plain);
                at += 1;
            }
        }
    }
}

/// The byte that what follows a backslash stands for, and how many characters say so.
fn unescape(after: &[u8]) -> Option<(u8, usize)> {
    Some(match *after.first()? {
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        same @ (b'"' | b'\\' | b'\'') => (same, 1),
        b'0'..=b'7' => {
            let digits = after
                .iter()
                .take(3)
                .take_while(|byte| matches!(byte, b'0'..=b'7'));
            let (value, length) = digits.fold((0_u16, 0), |(value, length), digit| {
                (value * 8 + u16::from(digit - b'0'), length + 1)
            });
            (u8::try_from(value).ok()?, length)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_survives_its_quotes(text in any::<String>(), rest in any::<String>()) {
            let quoted = quote(&text);
            prop_assert!(quoted.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            let whole = format!("{quoted}{rest}");
            prop_assert_eq!(unquote(&whole), Some((text, &*rest)));
        }

        #[test]
        fn nothing_in_quotes_makes_the_parser_panic(text in any::<String>(), special in "\"[\\\\0-9\"nxé]{0,20}") {
            let _ = unquote(&text);
            let _ = unquote(&special);
        }
    }

    #[test]
    fn every_escape_of_the_control_protocol_is_read() {
        assert_eq!(
            unquote(r#""a\n\t\r\"\\\'\0\101\377" rest"#),
            Some(("a\n\t\r\"\\'\0A\u{fffd}".to_owned(), " rest"))
        );
        for bad in ["", "a", "\"a", r#""\400""#, r#""\x41""#, "\"\\"] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
    }
}
