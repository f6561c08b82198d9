//! Where simulated disks put what would otherwise fill memory: an unnamed temporary file of the machine, in blocks.
//!
//! Thousands of storage nodes hold gigabytes that are hardly ever read, and being ciphertext they share nothing. What a
//! program sees does not depend on it: where the machine gives no file, or has no room, bytes stay in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes in a block: half of it, on average, stays in memory for every file.
pub(super) const BLOCK: usize = 1_024;

/// The temporary file of one world. It has no name, so it is gone with the process however that ends.
#[derive(Debug, Default)]
pub struct Spill(Mutex<Blocks>);

#[derive(Debug, Default)]
struct Blocks {
    /// Made when it is first needed; `Some(None)`: it cannot be had.
    file: Option<Option<File>>,
    made: u32,
    free: Vec<u32>,
}

impl Spill {
    /// Writes a block; `None`: keep the bytes.
    fn put(&self, bytes: &[u8; BLOCK]) -> Option<u32> {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Blocks { file, made, free } = &mut *blocks;
        let file = file.get_or_insert_with(|| tempfile::tempfile().ok()).as_ref()?;
        let number = free.pop().unwrap_or(*made);
        if file.write_all_at(bytes, at(number)).is_err() {
            free.push(number);
            return None;
        }
        *made = (*made).max(number + 1);
        Some(number)
    }
}

fn at(number: u32) -> u64 {
    u64::from(number) * BLOCK as u64
}

/// Blocks that were written, by number. Their places are used again when they are dropped.
#[derive(Debug)]
pub(super) struct Spilled {
    spill: Arc<Spill>,
    numbers: Vec<u32>,
}

impl Spilled {
    /// None yet.
    pub(super) const fn on(spill: Arc<Spill>) -> Self {
        let numbers = Vec::new();
        Self { spill, numbers }
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Adds a block; `false`: keep the bytes.
    pub(super) fn push(&mut self, bytes: &[u8; BLOCK]) -> bool {
        let number = self.spill.put(bytes);
        self.numbers.extend(number);
        number.is_some()
    }

    /// The bytes of the block at `index`.
    ///
    /// # Panics
    /// If the machine lost what it had written: nothing that is simulated after that would mean anything.
    pub(super) fn get(&self, index: usize) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        let blocks = self.spill.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = blocks.file.as_ref().and_then(Option::as_ref);
        file.expect("a block lies in a file")
            .read_exact_at(&mut bytes, at(self.numbers[index]))
            .expect("the temporary file of simulated disks can be read");
        bytes
    }

    /// Drops the blocks behind the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        let gone = self.numbers.drain(len.min(self.numbers.len())..);
        let mut blocks = self.spill.0.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.free.extend(gone);
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.truncate(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_as_they_were_and_their_places_are_used_again() {
        let spill = Arc::new(Spill::default());
        let mut held: Vec<Spilled> = (0..2).map(|_| Spilled::on(spill.clone())).collect();
        let put = |spilled: &mut Spilled, n: u8| assert!(spilled.push(&[n; BLOCK]));
        for n in 0..50 {
            put(&mut held[usize::from(n % 2)], n);
        }
        held[0].truncate(5);
        let mut again = Spilled::on(spill.clone());
        for n in 100..120 {
            put(&mut again, n);
        }
        assert_eq!(spill.0.lock().map(|blocks| blocks.made).ok(), Some(50));
        let all = |spilled: &Spilled| {
            (0..spilled.len())
                .map(|n| spilled.get(n)[BLOCK - 1])
                .collect::<Vec<_>>()
        };
        assert_eq!(all(&held[0]), [0, 2, 4, 6, 8]);
        assert_eq!(all(&held[1]), (0..25).map(|n| 2 * n + 1).collect::<Vec<_>>());
        assert_eq!(all(&again), (100..120).collect::<Vec<_>>());
        drop((held, again));
        assert_eq!(spill.0.lock().map(|blocks| blocks.free.len()).ok(), Some(50));
    }
}
