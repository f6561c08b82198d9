//! The file that a bridge gets: the slots it holds. SPEC §7.5.

use zeroize::Zeroizing;

use super::cohort::SlotWriter;
use super::ledger::version;
use crate::wire::{DecodeError, Reader, Writer};

/// Most slots that one bridge holds.
pub const SLOTS_PER_BRIDGE_MAX: usize = 4096;

const VERSION: u8 = 1;
/// Cohort, slot, capability, two secrets.
const WRITER_LEN: usize = 16 + 1 + 64 + 32 + 32;

/// The slots of one bridge. Secret: whoever has the file can speak as the bridge to its cohorts.
#[derive(Clone, Debug, Default)]
pub struct BridgeSlots(pub Vec<SlotWriter>);

impl BridgeSlots {
    /// The file.
    ///
    /// # Panics
    /// Above [`SLOTS_PER_BRIDGE_MAX`] slots, which no ledger of ours gives out.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        assert!(
            self.0.len() <= SLOTS_PER_BRIDGE_MAX,
            "{} slots for one bridge",
            self.0.len()
        );
        // Capacity for all of it, so that growth leaves no copy of a capability behind.
        let mut out = Zeroizing::new(Vec::with_capacity(3 + self.0.len() * WRITER_LEN));
        out.put_u8(VERSION);
        out.put_u16(self.0.len() as u16);
        self.0.iter().for_each(|writer| writer.encode(&mut out));
        out
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r, "bridge slots version", VERSION)?;
        let count = r.count("bridge slots", SLOTS_PER_BRIDGE_MAX)?;
        let slots = (0..count)
            .map(|_| SlotWriter::decode(&mut r))
            .collect::<Result<_, _>>()?;
        r.finish()?;
        Ok(Self(slots))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rendezvous::cohort::tests::cohort;

    #[test]
    fn the_file_reads_back_and_damaged_ones_never_panic() {
        let (_, writers) = cohort(1);
        let file = BridgeSlots(writers).encode();
        assert_eq!(file.len(), 3 + 4 * WRITER_LEN);
        assert_eq!(BridgeSlots::decode(&file).expect("its own file").encode(), file);
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x80;
            let _ = BridgeSlots::decode(&damaged);
            assert!(BridgeSlots::decode(&file[..at]).is_err());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = BridgeSlots::decode(&bytes);
        }
    }
}
