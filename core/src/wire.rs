//! Reading and writing of wire formats: fixed-width big-endian integers and length-prefixed bytes, bounded.
//!
//! A [`Reader`] borrows its input and never allocates, so a peer cannot make us reserve memory by a number it wrote.
//! Formats built on it are canonical: what decodes encodes back to the same bytes (checked by property tests).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// Why bytes of a peer or a file do not decode. Always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The input ended early.
    #[error("input ended: wanted {wanted} more bytes, got {got}")]
    Truncated {
        /// Bytes that the format asks for.
        wanted: usize,
        /// Bytes that were left.
        got: usize,
    },
    /// Bytes are left after the last field.
    #[error("{extra} bytes left after the end of the format")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A length is above the bound of its field.
    #[error("{field} is {got} long, at most {bound} is allowed")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its bound.
        bound: usize,
        /// What was found.
        got: usize,
    },
    /// A value is outside the choices of its field.
    #[error("{field} has the unknown or refused value {got}")]
    BadValue {
        /// The field.
        field: &'static str,
        /// What was found.
        got: u64,
    },
}

/// Takes fields off the front of a byte slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.left.len()
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.left.split_at_checked(n).ok_or(DecodeError::Truncated {
            wanted: n,
            got: self.left.len(),
        })?;
        self.left = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A big-endian 16-bit number.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A big-endian 32-bit number.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A big-endian 64-bit number.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Bytes behind a 16-bit length, at most `bound` of them.
    pub fn bytes(&mut self, field: &'static str, bound: usize) -> Result<&'a [u8], DecodeError> {
        let got = usize::from(self.u16()?);
        if got > bound {
            return Err(DecodeError::TooLong { field, bound, got });
        }
        self.take(got)
    }

    /// A 16-bit count, at most `bound`.
    pub fn count(&mut self, field: &'static str, bound: usize) -> Result<usize, DecodeError> {
        let got = usize::from(self.u16()?);
        if got > bound {
            return Err(DecodeError::TooLong { field, bound, got });
        }
        Ok(got)
    }

    /// An address and port: family byte (4 or 6), address, port.
    pub fn socket_addr(&mut self) -> Result<SocketAddr, DecodeError> {
        let ip = match self.u8()? {
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            got => {
                return Err(DecodeError::BadValue {
                    field: "address family",
                    got: u64::from(got),
                });
            }
        };
        Ok(SocketAddr::new(ip, self.u16()?))
    }

    /// The rest of the input.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.left)
    }

    /// Refuses input that has bytes left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.left.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }
}

/// Appends fields to a byte vector, in the form that [`Reader`] takes off.
pub trait Writer {
    /// Raw bytes, without a length.
    fn put(&mut self, bytes: &[u8]);
    /// A big-endian 16-bit number.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }
    /// One byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    /// A big-endian 32-bit number.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }
    /// A big-endian 64-bit number.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }
    /// Bytes behind a 16-bit length.
    ///
    /// # Panics
    /// When there are more than 65,535: a caller that lets that happen has broken the bound of its own format.
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u16(u16::try_from(bytes.len()).expect("a field longer than its format allows"));
        self.put(bytes);
    }
    /// An address and port.
    fn put_socket_addr(&mut self, addr: SocketAddr) {
        match addr.ip() {
            IpAddr::V4(ip) => {
                self.put_u8(4);
                self.put(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.put_u8(6);
                self.put(&ip.octets());
            }
        }
        self.put_u16(addr.port());
    }
}

impl Writer for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        out.put_u8(1);
        out.put_u16(2);
        out.put_u32(3);
        out.put_u64(4);
        out.put_bytes(b"five");
        let addrs: [SocketAddr; 2] = [
            "192.0.2.1:80".parse().expect("literal"),
            "[2001:db8::1]:443".parse().expect("literal"),
        ];
        addrs.iter().for_each(|addr| out.put_socket_addr(*addr));

        let mut r = Reader::new(&out);
        assert_eq!((r.u8(), r.u16(), r.u32(), r.u64()), (Ok(1), Ok(2), Ok(3), Ok(4)));
        assert_eq!(r.bytes("five", 4), Ok(&b"five"[..]));
        assert_eq!((r.socket_addr(), r.socket_addr()), (Ok(addrs[0]), Ok(addrs[1])));
        assert_eq!(r.finish(), Ok(()));
    }

    #[test]
    fn a_length_above_its_bound_is_refused_before_it_is_read() {
        let mut r = Reader::new(&[0xff, 0xff, 1]);
        assert_eq!(
            r.bytes("name", 16),
            Err(DecodeError::TooLong {
                field: "name",
                bound: 16,
                got: 65_535
            })
        );
    }

    #[test]
    fn truncated_and_trailing_input_is_refused() {
        assert_eq!(
            Reader::new(&[1]).u32(),
            Err(DecodeError::Truncated { wanted: 4, got: 1 })
        );
        assert_eq!(
            Reader::new(&[1]).finish(),
            Err(DecodeError::Trailing { extra: 1 })
        );
    }
}
