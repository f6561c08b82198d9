//! What is inside the payload: a zero check, a length, the content, zeros to the end. Spec: SPEC §3.4.
//!
//! The wide-block cipher turns any change into a payload of random bytes, which pass the check of 16 zero bytes once in
//! 2^128 attempts.

use std::ops::Range;

use subtle::{Choice, ConstantTimeEq};

const CHECK_LEN: usize = 16;

/// Bytes of the payload that are not content.
pub const PAYLOAD_OVERHEAD: usize = CHECK_LEN + 2;

/// Content that the length field can tell.
pub(super) const CAPACITY_MAX: usize = 65_535;

/// Writes `content` into `block`, which is zero.
///
/// # Panics
/// When it does not fit: the caller has checked.
pub(super) fn write(block: &mut [u8], content: &[u8]) {
    let len = u16::try_from(content.len()).expect("content that the length field can tell");
    block[CHECK_LEN..PAYLOAD_OVERHEAD].copy_from_slice(&len.to_be_bytes());
    block[PAYLOAD_OVERHEAD..PAYLOAD_OVERHEAD + content.len()].copy_from_slice(content);
}

/// Where the content of `block` is, `None` if anything else in it is not as [`write()`] leaves it.
pub(super) fn find(block: &[u8]) -> Option<Range<usize>> {
    let (check, rest) = block.split_first_chunk::<CHECK_LEN>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len));
    if !bool::from(check.ct_eq(&[0; CHECK_LEN])) || len > rest.len() {
        return None;
    }
    let padding: Choice = rest[len..].iter().fold(0, |all, byte| all | byte).ct_eq(&0);
    bool::from(padding).then_some(PAYLOAD_OVERHEAD..PAYLOAD_OVERHEAD + len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_found_and_a_changed_frame_is_not(
            content in proptest::collection::vec(1_u8.., 0..200),
            bit in 0_usize..8 * 218,
        ) {
            let mut block = vec![0; 218];
            write(&mut block, &content);
            prop_assert_eq!(find(&block).map(|at| &block[at]), Some(&content[..]));
            block[bit / 8] ^= 1 << (bit % 8);
            match find(&block) {
                // Content is not judged here; and the zeros of a longer length are content of that length.
                Some(at) => prop_assert!(bit / 8 >= CHECK_LEN && (at.contains(&(bit / 8)) || at.end > PAYLOAD_OVERHEAD + content.len())),
                None => prop_assert!(!(PAYLOAD_OVERHEAD..PAYLOAD_OVERHEAD + content.len()).contains(&(bit / 8))),
            }
        }

        #[test]
        fn arbitrary_blocks_never_panic(block in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(at) = find(&block) {
                prop_assert!(at.end <= block.len());
            }
        }
    }
}
