//! Bytes as base32 (RFC 4648 §6, without padding), for what people copy, print and read aloud: one text for each value.

use base32ct::{Base32Unpadded, Encoding};

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// `bytes` in lower case.
pub(crate) fn encode(bytes: &[u8]) -> String {
    Base32Unpadded::encode_string(bytes)
}

/// Reads lower case; else the number of the first character that does not belong, from 0: after the last one if the length, or what
/// the last digit has too many, is of no bytes.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, usize> {
    if let Some(at) = text.bytes().position(|byte| !ALPHABET.contains(&byte)) {
        return Err(at);
    }
    Base32Unpadded::decode_vec(text)
        .ok()
        .filter(|bytes| encode(bytes) == text)
        .ok_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_are_those_of_rfc_4648() {
        let cases = [
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
        ];
        for (bytes, text) in cases {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Ok(bytes.as_bytes()));
        }
    }

    #[test]
    fn what_does_not_belong_is_named() {
        assert_eq!(decode("mz1w6"), Err(2));
        assert_eq!(decode("mzxW6"), Err(3));
        assert_eq!(decode("mzxw6é"), Err(5));
        assert_eq!(decode("m"), Err(1), "no bytes have this length");
        assert_eq!(decode("mz"), Err(2), "the last digit says more than one byte");
    }

    proptest! {
        #[test]
        fn there_is_one_text_for_each_value(text in "[a-z2-7]{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
