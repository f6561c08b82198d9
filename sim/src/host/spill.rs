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
    pub(super) fn put(self: &Arc<Self>, bytes: &[u8; BLOCK]) -> Option<Block> {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Blocks { file, made, free } = &mut *blocks;
        let file = file.get_or_insert_with(|| tempfile::tempfile().ok()).as_ref()?;
        let number = free.pop().unwrap_or(*made);
        if file.write_all_at(bytes, at(number)).is_err() {
            free.push(number);
            return None;
        }
        *made = (*made).max(number + 1);
        Some(Block {
            spill: self.clone(),
            number,
        })
    }
}

fn at(number: u32) -> u64 {
    u64::from(number) * BLOCK as u64
}

/// A block that was written. Its place is used again when it is dropped.
#[derive(Debug)]
pub(super) struct Block {
    spill: Arc<Spill>,
    number: u32,
}

impl Block {
    /// Its bytes.
    ///
    /// # Panics
    /// If the machine lost what it had written: nothing that is simulated after that would mean anything.
    pub(super) fn get(&self) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        let blocks = self.spill.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = blocks.file.as_ref().and_then(Option::as_ref);
        file.expect("a block lies in a file")
            .read_exact_at(&mut bytes, at(self.number))
            .expect("the temporary file of simulated disks can be read");
        bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut blocks = self.spill.0.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.free.push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_as_they_were_and_their_places_are_used_again() {
        let spill = Arc::new(Spill::default());
        let mut held: Vec<Option<Block>> = (0..50_u8).map(|n| spill.put(&[n; BLOCK])).collect();
        for n in (0..50).step_by(2) {
            held[n] = None;
        }
        let again: Vec<_> = (100..125_u8).map(|n| spill.put(&[n; BLOCK])).collect();
        assert_eq!(spill.0.lock().map(|blocks| blocks.made).ok(), Some(50));
        for (n, block) in held
            .iter()
            .enumerate()
            .filter_map(|(n, b)| Some((n, b.as_ref()?)))
        {
            assert_eq!(block.get(), [n as u8; BLOCK]);
        }
        for (n, block) in (100..125_u8).zip(again) {
            assert_eq!(block.map(|block| block.get()), Some([n; BLOCK]));
        }
    }
}
