//! The randomness of TLS, from the runtime.
//!
//! rustls asks a `&'static` source and knows nothing of connections, while each of ours has a generator of its own
//! ([`Entropy::rng`](phantom_core::runtime::Entropy::rng)). So whoever calls into rustls lends it the connection's generator for that call, in a cell
//! of the thread, and takes it back: between two calls nothing is there, and who draws then gets an error, never other randomness.
//! A source per connection would need memory that is never freed.

use std::cell::RefCell;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, TryCryptoRng, TryRng};
use rustls::crypto::{GetRandomFailed, SecureRandom};

thread_local! {
    static LENT: RefCell<Option<ChaCha12Rng>> = const { RefCell::new(None) };
}

/// Runs `call` with this generator as rustls's source of randomness. Calls may stand within each other: TLS over TLS.
pub(crate) fn lend<T>(rng: &mut ChaCha12Rng, call: impl FnOnce() -> T) -> T {
    /// Takes the generator back on every way out, a panic's too.
    struct Back<'a> {
        rng: &'a mut ChaCha12Rng,
        outer: Option<ChaCha12Rng>,
    }

    impl Drop for Back<'_> {
        fn drop(&mut self) {
            if let Some(used) = LENT.replace(self.outer.take()) {
                *self.rng = used;
            }
        }
    }

    let outer = LENT.replace(Some(rng.clone()));
    let back = Back { rng, outer };
    let output = call();
    drop(back);
    output
}

/// Fills from the generator that is lent.
pub(super) fn fill(bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
    LENT.with_borrow_mut(|lent| match lent {
        Some(rng) => {
            rng.fill_bytes(bytes);
            Ok(())
        }
        None => Err(GetRandomFailed),
    })
}

/// The same for crates that want a generator.
pub(super) struct Lent;

/// Something drew outside a call into rustls: a broken rule of ours.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no generator is lent")]
pub(super) struct NothingLent;

impl From<GetRandomFailed> for NothingLent {
    fn from(_: GetRandomFailed) -> Self {
        Self
    }
}

impl TryRng for Lent {
    type Error = NothingLent;

    fn try_next_u32(&mut self) -> Result<u32, NothingLent> {
        let mut bytes = [0; 4];
        fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, NothingLent> {
        let mut bytes = [0; 8];
        fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), NothingLent> {
        Ok(fill(bytes)?)
    }
}

impl TryCryptoRng for Lent {}

/// What rustls draws itself: randoms, session ids, tickets, the order of a hello's extensions.
#[derive(Debug)]
pub(super) struct Source;

impl SecureRandom for Source {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        fill(bytes)
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    fn drawn() -> [u8; 8] {
        let mut bytes = [0; 8];
        fill(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn nothing_is_drawn_but_from_the_generator_that_is_lent_and_it_goes_on_where_it_was() {
        assert!(fill(&mut [0; 8]).is_err());
        let rng = |seed| ChaCha12Rng::seed_from_u64(seed);
        let (mut outer, mut inner, mut same) = (rng(1), rng(2), rng(1));
        let mut of_outer = Vec::new();
        lend(&mut outer, || {
            of_outer.push(drawn());
            lend(&mut inner, drawn);
            of_outer.push(drawn());
        });
        assert!(fill(&mut [0; 8]).is_err());
        of_outer.push(lend(&mut outer, drawn));
        let expected = [(); 3].map(|()| lend(&mut same, drawn));
        assert_eq!(of_outer, expected);
    }

    #[test]
    fn a_panic_takes_the_generator_back_too() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lend(&mut rng, || panic!("within a call"));
        }));
        assert!(caught.is_err());
        assert!(fill(&mut [0; 8]).is_err());
    }
}
