//! What the two ends tell each other inside the handshake. Spec: SPEC §2.3.
//!
//! Both hellos are encrypted and part of the transcript that the keys are made from: an offer that is changed on the way
//! ends in keys that differ, so nobody in between can talk the two down to an older version.

use crate::wire::{DecodeError, Reader, Writer};

use super::LinkError;
use super::frame::zeros;

/// Wire versions this program speaks: lowest and highest.
pub const VERSIONS: (u8, u8) = (1, 1);

/// The dialler's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// Lowest and highest wire version.
    pub(crate) versions: (u8, u8),
    /// Bytes it takes ahead.
    pub(crate) window: u32,
    /// How much of the stream towards it is there; 0 in a fresh session.
    pub(crate) received: u64,
}

/// The server's hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerHello {
    /// The version chosen; 0 when there is none in common.
    pub(crate) version: u8,
    /// Lowest and highest wire version of the server, so that the dialler can check the choice.
    pub(crate) versions: (u8, u8),
    /// Bytes it takes ahead.
    pub(crate) window: u32,
    /// How much of the stream towards it is there; 0 in a fresh session.
    pub(crate) received: u64,
}

/// The highest version that two ranges share.
pub(crate) fn common(a: (u8, u8), b: (u8, u8)) -> Option<u8> {
    let (low, high) = (a.0.max(b.0), a.1.min(b.1));
    (low <= high).then_some(high)
}

fn versions(r: &mut Reader<'_>) -> Result<(u8, u8), DecodeError> {
    let (low, high) = (r.u8()?, r.u8()?);
    if low == 0 || low > high {
        return Err(DecodeError::BadValue {
            field: "lowest wire version",
            got: u64::from(low),
        });
    }
    Ok((low, high))
}

impl ClientHello {
    /// Its `len` bytes: fields, then zeros.
    pub(crate) fn encode(&self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        out.put(&[self.versions.0, self.versions.1]);
        out.put_u32(self.window);
        out.put_u64(self.received);
        out.resize(len, 0);
        out
    }

    /// The answer of a server that speaks `ours`; its offsets are filled in by whoever knows them.
    pub(crate) fn choose(&self, ours: (u8, u8), window: u32, received: u64) -> ServerHello {
        let version = common(self.versions, ours).unwrap_or(0);
        ServerHello {
            version,
            versions: ours,
            window,
            received,
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let hello = Self {
            versions: versions(&mut r)?,
            window: r.u32()?,
            received: r.u64()?,
        };
        zeros(r.rest())?;
        Ok(hello)
    }
}

impl ServerHello {
    /// Its `len` bytes: fields, then zeros.
    pub(crate) fn encode(&self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        out.put(&[self.version, self.versions.0, self.versions.1]);
        out.put_u32(self.window);
        out.put_u64(self.received);
        out.resize(len, 0);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let hello = Self {
            version: r.u8()?,
            versions: versions(&mut r)?,
            window: r.u32()?,
            received: r.u64()?,
        };
        zeros(r.rest())?;
        Ok(hello)
    }

    /// Checks that the choice is the highest version in common with `ours`.
    ///
    /// # Errors
    /// There is none, or the server chose another.
    pub(crate) fn check(&self, ours: (u8, u8)) -> Result<(), LinkError> {
        match common(ours, self.versions) {
            Some(best) if best == self.version => Ok(()),
            Some(best) if self.version != 0 => Err(LinkError::Violation {
                rule: "choose the highest wire version in common",
                wanted: u64::from(best),
                got: u64::from(self.version),
            }),
            _ => Err(LinkError::Version {
                ours,
                theirs: self.versions,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_highest_common_version_is_chosen() {
        assert_eq!(common((1, 3), (2, 5)), Some(3));
        assert_eq!(common((4, 9), (2, 5)), Some(5));
        assert_eq!(common((1, 2), (3, 4)), None);
    }

    #[test]
    fn a_choice_below_the_best_is_refused() {
        let hello = |version| ServerHello {
            version,
            versions: (1, 3),
            window: 0,
            received: 0,
        };
        assert_eq!(hello(3).check((2, 4)), Ok(()));
        assert!(matches!(
            hello(2).check((2, 4)),
            Err(LinkError::Violation {
                wanted: 3,
                got: 2,
                ..
            })
        ));
        assert!(matches!(
            hello(0).check((4, 5)),
            Err(LinkError::Version { theirs: (1, 3), .. })
        ));
    }

    proptest! {
        #[test]
        fn hellos_read_back(low in 1..5u8, more in 0..5u8, version: u8, window: u32, received: u64, len in 20..200usize) {
            let versions = (low, low + more);
            let hello = ClientHello { versions, window, received };
            prop_assert_eq!(ClientHello::decode(&hello.encode(len)), Ok(hello));
            let hello = ServerHello { version, versions, window, received };
            prop_assert_eq!(ServerHello::decode(&hello.encode(len)), Ok(hello));
        }

        #[test]
        fn arbitrary_bytes_decode_canonically_or_not_at_all(
            mut bytes in prop::collection::vec(any::<u8>(), 0..40), pad in 0..40usize,
        ) {
            bytes.resize(bytes.len() + pad, 0);
            if let Ok(hello) = ClientHello::decode(&bytes) {
                prop_assert_eq!(hello.encode(bytes.len()), bytes.clone());
            }
            if let Ok(hello) = ServerHello::decode(&bytes) {
                prop_assert_eq!(hello.encode(bytes.len()), bytes);
            }
        }
    }
}
