//! Queries under way: which answer belongs to which question. SPEC §7.1.
//!
//! An answer counts only if it carries the transaction id of a query that was sent, and comes from the address it was sent
//! to: a stranger who guesses the one must also forge the other.

use std::net::SocketAddr;
use std::time::Duration;

use rand_core::Rng;

use super::addr::Addr;
use crate::units::Instant;

/// Most queries under way; one more makes the oldest be forgotten.
pub const PENDING_MAX: usize = 256;

/// Queries under way, each with what it was for.
#[derive(Clone, Debug)]
pub struct Pending<T> {
    /// By transaction id. A list, since there are a few: the nodes of a map have room for eleven.
    queries: Vec<Query<T>>,
}

#[derive(Clone, Debug)]
struct Query<T> {
    at: Instant,
    to: Addr,
    id: u16,
    what: T,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { queries: Vec::new() }
    }
}

impl<T> Pending<T> {
    /// Takes note of a query to `to`; returns its transaction id, which is random.
    pub fn begin(&mut self, now: Instant, to: SocketAddr, what: T, rng: &mut impl Rng) -> [u8; 2] {
        if self.queries.len() >= PENDING_MAX {
            let ages = self.queries.iter().enumerate();
            if let Some((oldest, _)) = ages.min_by_key(|(_, query)| query.at) {
                self.queries.remove(oldest);
            }
        }
        let [a, b, _, _] = rng.next_u32().to_be_bytes();
        let mut id = u16::from_be_bytes([a, b]);
        let place = loop {
            match self.place(id) {
                Ok(_) => id = id.wrapping_add(1),
                Err(place) => break place,
            }
        };
        let (at, to) = (now, to.into());
        self.queries.insert(place, Query { at, to, id, what });
        id.to_be_bytes()
    }

    /// Takes out the query that a message from `from` with this transaction id answers.
    pub fn end(&mut self, transaction: &[u8], from: SocketAddr) -> Option<T> {
        let id = u16::from_be_bytes(transaction.try_into().ok()?);
        let place = self.place(id).ok()?;
        if self.queries[place].to != from.into() {
            return None;
        }
        Some(self.queries.remove(place).what)
    }

    /// Where a query is, or would be.
    fn place(&self, id: u16) -> Result<usize, usize> {
        self.queries.binary_search_by_key(&id, |query| query.id)
    }

    /// Takes out what was asked `age` ago or longer.
    pub fn expire(&mut self, now: Instant, age: Duration) -> Vec<(SocketAddr, T)> {
        let old = self.queries.extract_if(.., |query| query.at + age <= now);
        old.map(|query| (query.to.socket(), query.what)).collect()
    }

    /// When the oldest query was sent.
    pub fn oldest(&self) -> Option<Instant> {
        self.queries.iter().map(|query| query.at).min()
    }

    /// Queries under way.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 6881))
    }

    #[test]
    fn an_answer_needs_the_transaction_and_the_address_and_counts_once() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut pending = Pending::default();
        let tid = pending.begin(Instant::ZERO, addr(1), "ping", &mut rng);
        assert_eq!(pending.end(&tid, addr(2)), None);
        assert_eq!(pending.end(&tid[..1], addr(1)), None);
        assert_eq!(pending.end(&tid, addr(1)), Some("ping"));
        assert_eq!(pending.end(&tid, addr(1)), None);
    }

    #[test]
    fn queries_under_way_are_bounded_and_expire() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut pending = Pending::default();
        for i in 0..1000_u64 {
            pending.begin(Instant::from_nanos(i), addr(1), i, &mut rng);
            assert!(pending.len() <= PENDING_MAX);
        }
        assert_eq!(
            pending.oldest(),
            Some(Instant::from_nanos(1000 - PENDING_MAX as u64))
        );
        let expired = pending.expire(Instant::from_nanos(1000), Duration::from_nanos(100));
        assert_eq!(expired.len(), PENDING_MAX - 99);
    }
}
