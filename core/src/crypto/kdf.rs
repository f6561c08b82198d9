//! Key derivation: BLAKE3 `derive_key`, with a context of its own for every purpose. Spec: SPEC §1.

use zeroize::Zeroizing;

/// What a derived key is for. Two purposes never share a context, so their keys are independent.
///
/// ```
/// use phantom_core::crypto::kdf::Context;
/// const NODE_ID: Context = Context::new("phantom-net 2026 node id v1");
/// assert_ne!(NODE_ID.derive(b"key"), [0; 32]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context(&'static str);

impl Context {
    /// The context `name`, which has the form `phantom-net 2026 <purpose> v<number>` (SPEC §1).
    ///
    /// # Panics
    /// When it has not; in a `const` that is an error of compilation.
    pub const fn new(name: &'static str) -> Self {
        const PREFIX: &[u8] = b"phantom-net 2026 ";
        let bytes = name.as_bytes();
        assert!(
            bytes.len() > PREFIX.len() + 3,
            "a context names a purpose and a version"
        );
        let mut at = 0;
        while at < PREFIX.len() {
            assert!(
                bytes[at] == PREFIX[at],
                "a context begins with `phantom-net 2026 `"
            );
            at += 1;
        }
        let version = bytes.len() - 2;
        assert!(
            bytes[version - 1] == b' ' && bytes[version] == b'v' && bytes[version + 1].is_ascii_digit(),
            "a context ends with its version, ` v1`"
        );
        Self(name)
    }

    /// The context string.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// 32 bytes derived from `material`.
    pub fn derive(self, material: &[u8]) -> [u8; 32] {
        blake3::derive_key(self.0, material)
    }

    /// `N` bytes derived from `material`. The first 32 are those of [`Context::derive`].
    pub fn derive_array<const N: usize>(self, material: &[u8]) -> [u8; N] {
        let mut out = [0; N];
        self.derive_into(material, &mut out);
        out
    }

    /// Fills `out` from `material`, however long it is.
    pub fn derive_into(self, material: &[u8], out: &mut [u8]) {
        let mut hasher = blake3::Hasher::new_derive_key(self.0);
        hasher.update(material);
        hasher.finalize_xof().fill(out);
    }

    /// 32 bytes derived from several fields, each behind its length as 8 big-endian bytes, so that no two different
    /// lists of fields are the same material.
    pub fn derive_fields(self, fields: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(self.0);
        for field in fields {
            let len = u64::try_from(field.len()).expect("a length fits 64 bits");
            hasher.update(&len.to_be_bytes());
            hasher.update(field);
        }
        *hasher.finalize().as_bytes()
    }

    /// [`Context::derive_fields`] for a secret: wiped when dropped.
    pub fn derive_secret(self, fields: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.derive_fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Context = Context::new("phantom-net 2026 test a v1");
    const B: Context = Context::new("phantom-net 2026 test b v1");

    #[test]
    fn contexts_separate_keys() {
        assert_ne!(A.derive(b"x"), B.derive(b"x"));
        assert_eq!(
            A.derive(b"x"),
            blake3::derive_key("phantom-net 2026 test a v1", b"x")
        );
    }

    #[test]
    fn a_longer_key_begins_with_the_shorter_one() {
        let long: [u8; 80] = A.derive_array(b"x");
        assert_eq!(long[..32], A.derive(b"x"));
    }

    #[test]
    fn fields_that_run_together_alike_derive_different_keys() {
        assert_ne!(A.derive_fields(&[b"ab", b"c"]), A.derive_fields(&[b"a", b"bc"]));
        assert_ne!(A.derive_fields(&[b"ab"]), A.derive_fields(&[b"ab", b""]));
    }

    #[test]
    #[should_panic(expected = "begins with")]
    fn a_context_outside_our_namespace_is_refused() {
        let _ = Context::new("someone else's purpose v1");
    }

    #[test]
    #[should_panic(expected = "ends with its version")]
    fn a_context_without_a_version_is_refused() {
        let _ = Context::new("phantom-net 2026 something");
    }
}
