//! SHA-256 and SHA-384 for rustls, plain and keyed.

use std::marker::PhantomData;

use hmac::digest::{Digest, KeyInit};
use hmac::{Hmac, Mac};
use rustls::crypto::hash::{self, HashAlgorithm};
use rustls::crypto::hmac as keyed;
use sha2::{Sha256, Sha384};

pub(super) static SHA256: Plain<Sha256> = Plain(HashAlgorithm::SHA256, PhantomData);
pub(super) static SHA384: Plain<Sha384> = Plain(HashAlgorithm::SHA384, PhantomData);
pub(super) static HMAC_SHA256: Keyed<Hmac<Sha256>> = Keyed(32, PhantomData);
pub(super) static HMAC_SHA384: Keyed<Hmac<Sha384>> = Keyed(48, PhantomData);

pub(super) struct Plain<D>(HashAlgorithm, PhantomData<fn() -> D>);

struct Running<D>(D);

impl<D: Digest + Clone + Send + Sync + 'static> hash::Hash for Plain<D> {
    fn start(&self) -> Box<dyn hash::Context> {
        Box::new(Running(D::new()))
    }

    fn hash(&self, data: &[u8]) -> hash::Output {
        hash::Output::new(&D::digest(data))
    }

    fn output_len(&self) -> usize {
        <D as Digest>::output_size()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.0
    }
}

impl<D: Digest + Clone + Send + Sync + 'static> hash::Context for Running<D> {
    fn fork_finish(&self) -> hash::Output {
        hash::Output::new(&self.0.clone().finalize())
    }

    fn fork(&self) -> Box<dyn hash::Context> {
        Box::new(Self(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> hash::Output {
        hash::Output::new(&self.0.finalize())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

/// The length of its tags, in bytes.
pub(super) struct Keyed<M>(usize, PhantomData<fn() -> M>);

struct Key<M>(M, usize);

impl<M: Mac + KeyInit + Clone + Send + Sync + 'static> keyed::Hmac for Keyed<M> {
    fn with_key(&self, key: &[u8]) -> Box<dyn keyed::Key> {
        let mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
        Box::new(Key(mac, self.0))
    }

    fn hash_output_len(&self) -> usize {
        self.0
    }
}

impl<M: Mac + Clone + Send + Sync> keyed::Key for Key<M> {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> keyed::Tag {
        let mut mac = self.0.clone();
        mac.update(first);
        for part in middle {
            mac.update(part);
        }
        mac.update(last);
        keyed::Tag::new(&mac.finalize().into_bytes())
    }

    fn tag_len(&self) -> usize {
        self.1
    }
}
