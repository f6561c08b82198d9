//! The ledger of slots: which bridge each was given to, once and for all. SPEC §7.5.
//!
//! It is kept offline by whoever runs the bridges. Its one rule makes the bound of four hold over all time: a slot that was
//! given is never given again, and its write capability leaves the ledger when it is given. A blocked bridge is therefore
//! not replaced in its slot; a cohort may be opened with slots held back for later bridges.

use rand_core::CryptoRng;
use thiserror::Error;

use super::cohort::{Cohort, CohortPublic, CohortSecret, SLOTS, Slot, SlotWriter};
use crate::mailbox::{ReadCap, WriteCap};
use crate::wire::{DecodeError, Reader, Writer};

/// Why a slot is not given, or cohorts are not minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// The slot was given before. It is given once, ever.
    #[error("slot {slot} of cohort {cohort} was given to bridge {bridge} before")]
    AlreadyGiven {
        /// The cohort's index.
        cohort: usize,
        /// The slot's number.
        slot: u8,
        /// Who has it.
        bridge: u32,
    },
    /// The bridge holds another slot of this cohort: the four are four different bridges.
    #[error("bridge {bridge} holds a slot of cohort {cohort} already")]
    SameBridge {
        /// The cohort's index.
        cohort: usize,
        /// The bridge.
        bridge: u32,
    },
    /// There is no such cohort.
    #[error("there is no cohort {cohort}")]
    NoSuchCohort {
        /// The index asked for.
        cohort: usize,
    },
    /// A cohort needs four different bridges.
    #[error("{got} bridges cannot fill the 4 slots of a cohort")]
    TooFewBridges {
        /// What was given.
        got: u32,
    },
}

#[derive(Clone)]
enum State {
    Held(WriteCap),
    Given { read: ReadCap, bridge: u32 },
}

#[derive(Clone)]
struct Entry {
    secret: CohortSecret,
    slots: [State; SLOTS],
}

impl Entry {
    fn cohort(&self) -> Cohort {
        let read = |state: &State| match state {
            State::Held(cap) => cap.read_cap().clone(),
            State::Given { read, .. } => read.clone(),
        };
        let [a, b, c, d] = &self.slots;
        Cohort {
            secret: self.secret.clone(),
            public: CohortPublic::new([read(a), read(b), read(c), read(d)]),
        }
    }
}

/// All cohorts that were ever opened. Secret.
#[derive(Clone, Default)]
pub struct Ledger {
    cohorts: Vec<Entry>,
}

const VERSION: u8 = 1;

impl Ledger {
    /// Opens a cohort whose slots nobody has yet; returns its index.
    pub fn open(&mut self, rng: &mut impl CryptoRng) -> usize {
        let secret = CohortSecret::from_rng(rng);
        let slots = std::array::from_fn(|_| State::Held(WriteCap::from_rng(rng)));
        self.cohorts.push(Entry { secret, slots });
        self.cohorts.len() - 1
    }

    /// Cohorts opened so far.
    pub fn len(&self) -> usize {
        self.cohorts.len()
    }

    /// Whether no cohort was opened.
    pub fn is_empty(&self) -> bool {
        self.cohorts.is_empty()
    }

    /// What the clients of a cohort get.
    ///
    /// # Errors
    /// [`LedgerError::NoSuchCohort`].
    pub fn cohort(&self, cohort: usize) -> Result<Cohort, LedgerError> {
        self.cohorts
            .get(cohort)
            .map(Entry::cohort)
            .ok_or(LedgerError::NoSuchCohort { cohort })
    }

    /// The bridge that holds a slot, if it was given.
    pub fn holder(&self, cohort: usize, slot: Slot) -> Option<u32> {
        match &self.cohorts.get(cohort)?.slots[usize::from(slot.number())] {
            State::Held(_) => None,
            State::Given { bridge, .. } => Some(*bridge),
        }
    }

    /// Gives a slot to `bridge`, for all time.
    ///
    /// # Errors
    /// [`LedgerError`] when it was given before, or the bridge has another slot of the cohort.
    pub fn give(&mut self, cohort: usize, slot: Slot, bridge: u32) -> Result<SlotWriter, LedgerError> {
        let entry = self
            .cohorts
            .get_mut(cohort)
            .ok_or(LedgerError::NoSuchCohort { cohort })?;
        let holds = |state: &State| matches!(state, State::Given { bridge: holder, .. } if *holder == bridge);
        if entry.slots.iter().any(holds) {
            return Err(LedgerError::SameBridge { cohort, bridge });
        }
        let public = entry.cohort();
        let state = &mut entry.slots[usize::from(slot.number())];
        match state {
            State::Given { bridge, .. } => Err(LedgerError::AlreadyGiven {
                cohort,
                slot: slot.number(),
                bridge: *bridge,
            }),
            State::Held(cap) => {
                let writer = SlotWriter::new(&public, slot, cap.clone());
                *state = State::Given {
                    read: cap.read_cap().clone(),
                    bridge,
                };
                Ok(writer)
            }
        }
    }

    /// Its file.
    pub fn encode(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let mut out = zeroize::Zeroizing::new(Vec::with_capacity(5 + self.cohorts.len() * (32 + SLOTS * 65)));
        out.put_u8(VERSION);
        out.put_u32(u32::try_from(self.cohorts.len()).expect("a ledger of fewer than 2^32 cohorts"));
        for entry in &self.cohorts {
            out.put(entry.secret.as_bytes());
            for state in &entry.slots {
                match state {
                    State::Held(cap) => {
                        out.put_u8(0);
                        out.put(&*cap.to_bytes());
                    }
                    State::Given { read, bridge } => {
                        out.put_u8(1);
                        out.put(read.as_bytes());
                        out.put_u32(*bridge);
                    }
                }
            }
        }
        out
    }

    /// Reads its file.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r, "ledger version", VERSION)?;
        let count = r.u32()?;
        let mut cohorts = Vec::new();
        // Grows with what is really there, not with the number that is claimed.
        for _ in 0..count {
            let secret = CohortSecret::from_bytes(r.array()?);
            let mut slot = || -> Result<State, DecodeError> {
                let bad = |_| DecodeError::BadValue {
                    field: "slot capability",
                    got: 0,
                };
                Ok(match r.u8()? {
                    0 => State::Held(WriteCap::from_bytes(&r.array()?).map_err(bad)?),
                    1 => State::Given {
                        read: ReadCap::from_bytes(r.array()?).map_err(bad)?,
                        bridge: r.u32()?,
                    },
                    got => {
                        return Err(DecodeError::BadValue {
                            field: "slot state",
                            got: u64::from(got),
                        });
                    }
                })
            };
            cohorts.push(Entry {
                secret,
                slots: [slot()?, slot()?, slot()?, slot()?],
            });
        }
        r.finish()?;
        Ok(Self { cohorts })
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({} cohorts)", self.cohorts.len())
    }
}

pub(super) fn version(r: &mut Reader<'_>, field: &'static str, wanted: u8) -> Result<(), DecodeError> {
    match r.u8()? {
        got if got == wanted => Ok(()),
        got => Err(DecodeError::BadValue {
            field,
            got: u64::from(got),
        }),
    }
}

/// What minting gives out.
#[derive(Debug)]
pub struct Minted {
    /// Per cohort, what its clients get.
    pub cohorts: Vec<Cohort>,
    /// Per bridge, the slots that it holds.
    pub bridges: Vec<Vec<SlotWriter>>,
    /// Who has what, for later.
    pub ledger: Ledger,
}

/// Opens `cohorts` cohorts and gives all their slots to `bridges` bridges, four different ones each.
///
/// Bridges are dealt from a shuffled deck, a fresh one whenever it runs out: loads differ by at most two, and two cohorts
/// of different decks share bridges only by chance, so that insiders burn overlapping sets.
///
/// # Errors
/// [`LedgerError::TooFewBridges`] below four bridges.
pub fn mint(rng: &mut impl CryptoRng, cohorts: usize, bridges: u32) -> Result<Minted, LedgerError> {
    if (bridges as usize) < SLOTS {
        return Err(LedgerError::TooFewBridges { got: bridges });
    }
    let mut ledger = Ledger::default();
    let mut written: Vec<Vec<SlotWriter>> = (0..bridges).map(|_| Vec::new()).collect();
    let mut deck: Vec<u32> = Vec::new();
    for _ in 0..cohorts {
        let cohort = ledger.open(rng);
        let mut hand: Vec<u32> = Vec::with_capacity(SLOTS);
        while hand.len() < SLOTS {
            // The next card that is not in the hand; a deck holds each bridge once, so only a fresh one can repeat.
            match deck.iter().rposition(|card| !hand.contains(card)) {
                Some(at) => hand.push(deck.remove(at)),
                None => {
                    let mut fresh: Vec<u32> = (0..bridges).collect();
                    shuffle(&mut fresh, rng);
                    // Leftovers that could not be dealt stay on top, to be dealt next.
                    fresh.append(&mut deck);
                    deck = fresh;
                }
            }
        }
        for (slot, bridge) in Slot::ALL.into_iter().zip(hand) {
            written[bridge as usize].push(ledger.give(cohort, slot, bridge)?);
        }
    }
    let minted = (0..ledger.len())
        .map(|cohort| ledger.cohort(cohort))
        .collect::<Result<_, _>>()?;
    Ok(Minted {
        cohorts: minted,
        bridges: written,
        ledger,
    })
}

/// Fisher and Yates. The remainder's bias is below 2^-40 for any deck.
fn shuffle(cards: &mut [u32], rng: &mut impl CryptoRng) {
    for last in (1..cards.len()).rev() {
        let pick = rng.next_u64() % (last as u64 + 1);
        cards.swap(last, pick as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn rng(seed: u64) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(seed)
    }

    #[test]
    fn a_slot_is_given_once_ever_even_after_the_ledger_was_stored() {
        let mut rng = rng(1);
        let mut ledger = Ledger::default();
        let cohort = ledger.open(&mut rng);
        let [first, second, ..] = Slot::ALL;
        ledger.give(cohort, first, 7).expect("free");
        let mut ledger = Ledger::decode(&ledger.encode()).expect("its own file");
        assert_eq!(
            ledger.give(cohort, first, 8).expect_err("given"),
            LedgerError::AlreadyGiven {
                cohort,
                slot: 0,
                bridge: 7
            }
        );
        assert_eq!(
            ledger.give(cohort, second, 7).expect_err("has one"),
            LedgerError::SameBridge { cohort, bridge: 7 }
        );
        assert_eq!(
            ledger.give(9, second, 7).expect_err("unknown"),
            LedgerError::NoSuchCohort { cohort: 9 }
        );
        ledger.give(cohort, second, 8).expect("held back, free");
        assert_eq!(
            (ledger.holder(cohort, first), ledger.holder(cohort, second)),
            (Some(7), Some(8))
        );
    }

    #[test]
    fn a_given_capability_is_no_longer_in_the_ledger() {
        let mut rng = rng(2);
        let mut ledger = Ledger::default();
        let cohort = ledger.open(&mut rng);
        let mut file = Vec::new();
        ledger
            .give(cohort, Slot::ALL[0], 1)
            .expect("free")
            .encode(&mut file);
        // Cohort 16, slot 1, then the scalar.
        let scalar = &file[17..49];
        assert!(!ledger.encode().windows(32).any(|window| window == scalar));
    }

    #[test]
    fn three_bridges_are_too_few() {
        assert_eq!(
            mint(&mut rng(3), 1, 3).expect_err("too few"),
            LedgerError::TooFewBridges { got: 3 }
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn whatever_users_are_taken_over_exposes_four_bridges_each_and_loads_are_even(
            seed in any::<u64>(), cohorts in 1_usize..40, bridges in 4_u32..30, taken in any::<u64>(),
        ) {
            let minted = mint(&mut rng(seed), cohorts, bridges).expect("enough bridges");
            // Slots by cohort, from the bridges' side: everything that any source can ever publish for a cohort.
            let mut exposed: BTreeSet<usize> = BTreeSet::new();
            let mut users = 0;
            for (index, cohort) in minted.cohorts.iter().enumerate().filter(|(i, _)| taken >> (i % 64) & 1 == 1) {
                users += 1;
                let id = cohort.public.id();
                let holders: Vec<usize> = minted.bridges.iter().enumerate()
                    .filter(|(_, slots)| slots.iter().any(|slot| slot.cohort() == id)).map(|(b, _)| b).collect();
                prop_assert_eq!(holders.len(), SLOTS, "four different bridges");
                prop_assert!(Slot::ALL.iter().all(|slot| minted.ledger.holder(index, *slot).is_some()));
                exposed.extend(holders);
            }
            prop_assert!(exposed.len() <= SLOTS * users);
            let loads: Vec<usize> = minted.bridges.iter().map(Vec::len).collect();
            let (least, most) = (loads.iter().min().expect("some"), loads.iter().max().expect("some"));
            prop_assert!(most - least <= 2, "{:?}", loads);
            prop_assert_eq!(loads.iter().sum::<usize>(), cohorts * SLOTS);
        }

        #[test]
        fn arbitrary_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), count in any::<u32>()) {
            let _ = Ledger::decode(&bytes);
            let _ = Ledger::decode(&[&[VERSION][..], &count.to_be_bytes(), &bytes].concat());
        }
    }
}
