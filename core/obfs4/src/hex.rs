//! Lower-case hexadecimal text, as obfs4proxy's state file has it.

/// The text of `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
    bytes
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(b & 15)])
        .collect()
}

/// The bytes of `text`, of either case; `None` unless it is exactly `2 N` digits.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neither_signs_nor_other_lengths_pass() {
        assert_eq!(decode::<2>("+1ff"), None);
        assert_eq!(decode::<2>("00"), None);
        assert_eq!(decode::<2>("01fF"), Some([1, 255]));
    }

    proptest! {
        #[test]
        fn bytes_read_back(bytes: [u8; 24]) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
