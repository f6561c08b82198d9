//! A random stream that is drawn from rarely, in 48 bytes instead of 300.
//!
//! A generator keeps the block of words that it gives next. A client has one for every contact, asked a few times an hour:
//! this keeps the place in the stream instead and makes the block again for every draw. The words are the same.

use std::convert::Infallible;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};

/// Gives what the generator that it was made from would give.
pub struct Frugal {
    seed: [u8; 32],
    stream: u64,
    /// The word that is next; 2^64 of them are never drawn.
    word: u64,
}

impl From<ChaCha12Rng> for Frugal {
    fn from(rng: ChaCha12Rng) -> Self {
        Self {
            seed: rng.get_seed(),
            stream: rng.get_stream(),
            word: rng.get_word_pos() as u64,
        }
    }
}

impl Frugal {
    fn draw<T>(&mut self, draw: impl FnOnce(&mut ChaCha12Rng) -> T) -> Result<T, Infallible> {
        let mut rng = ChaCha12Rng::from_seed(self.seed);
        rng.set_stream(self.stream);
        rng.set_word_pos(u128::from(self.word));
        let drawn = draw(&mut rng);
        self.word = rng.get_word_pos() as u64;
        Ok(drawn)
    }
}

impl TryRng for Frugal {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.draw(Rng::next_u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.draw(Rng::next_u64)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.draw(|rng| rng.fill_bytes(bytes))
    }
}

impl TryCryptoRng for Frugal {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_gives_what_the_generator_gives(before in 0_usize..40, draws in prop::collection::vec(0_usize..70, 0..80)) {
            let mut whole = ChaCha12Rng::seed_from_u64(7);
            (0..before).for_each(|_| _ = whole.next_u32());
            let mut frugal = Frugal::from(whole.clone());
            for draw in draws {
                match draw {
                    0..20 => prop_assert_eq!(frugal.next_u32(), whole.next_u32()),
                    20..40 => prop_assert_eq!(frugal.next_u64(), whole.next_u64()),
                    _ => {
                        let (mut one, mut other) = (vec![0; draw - 40], vec![0; draw - 40]);
                        frugal.fill_bytes(&mut one);
                        whole.fill_bytes(&mut other);
                        prop_assert_eq!(one, other);
                    }
                }
            }
        }
    }
}
