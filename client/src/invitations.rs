//! Helping a friend in: fetches the sealed records of its cohort and signs them into an invitation. Spec: SPEC §8.
//!
//! This client opens none of the records; it only carries them. Several fetches may run at once, each a few reads long.

use std::collections::BTreeMap;
use std::time::Duration;

use litemap::LiteMap;
use phantom_core::crypto::keys::IdentitySecret;
use phantom_core::event::{Event, Refusal};
use phantom_core::invite::envelope::Note;
use phantom_core::invite::{CourierRecord, Invitation, courier_box, open_box};
use phantom_core::mailbox::{BoxAddress, ReadAnswer};
use phantom_core::rendezvous::cohort::OVERLAP;
use phantom_core::rendezvous::{CohortPublic, Day, Slot};
use phantom_core::runtime::Events;
use phantom_core::units::{Instant, WallTime};
use tokio::sync::oneshot;

/// Fetches at once; further ones are answered with nothing.
const FETCHES_MAX: usize = 8;
/// Reads that fail, or cannot be sent, before a fetch gives up.
const FAILURES_MAX: u32 = 8;
/// Pause after such a read.
const PAUSE: Duration = Duration::from_secs(3);

/// Names a fetch.
pub(crate) type FetchId = u64;

struct Fetch {
    cohort: Box<CohortPublic>,
    left: Vec<(Slot, Day, BoxAddress)>,
    records: Vec<CourierRecord>,
    failures: u32,
    /// When to ask (again); `None` while an answer is awaited.
    due: Option<Instant>,
    reply: oneshot::Sender<Option<Invitation>>,
}

/// All fetches under way.
#[derive(Default)]
pub(crate) struct Fetches {
    fetches: LiteMap<FetchId, Fetch>,
    next: FetchId,
}

impl Fetches {
    /// Begins.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        time: WallTime,
        cohort: Box<CohortPublic>,
        reply: oneshot::Sender<Option<Invitation>>,
    ) {
        if self.fetches.len() >= FETCHES_MAX {
            let _ = reply.send(None); // whoever does not wait for the answer misses nothing
            return;
        }
        let days = Day::around(time).into_iter();
        let left = days
            .flat_map(|day| courier_box(&cohort, day).map(|(slot, address)| (slot, day, address)))
            .collect();
        let fetch = Fetch {
            cohort,
            left,
            records: Vec::new(),
            failures: 0,
            due: Some(now),
            reply,
        };
        self.fetches.insert(self.next, fetch);
        self.next += 1;
    }

    /// When the next read is due.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.fetches.values().filter_map(|fetch| fetch.due).min()
    }

    /// A read that is due: which boxes, for which fetch. To be answered with [`Fetches::answered`] or [`Fetches::failed`].
    pub(crate) fn ask(&mut self, now: Instant) -> Option<(FetchId, Vec<BoxAddress>)> {
        let due = |fetch: &Fetch| fetch.due.is_some_and(|due| due <= now);
        let (id, fetch) = self.fetches.iter_mut().find(|(_, fetch)| due(fetch))?;
        fetch.due = None;
        Some((*id, fetch.left.iter().map(|(.., address)| *address).collect()))
    }

    /// No answer, or no way to ask.
    pub(crate) fn failed(&mut self, id: FetchId, now: Instant, inviter: &IdentitySecret) {
        let Some(fetch) = self.fetches.get_mut(&id) else {
            return;
        };
        fetch.failures += 1;
        fetch.due = Some(now + PAUSE);
        if fetch.failures >= FAILURES_MAX {
            self.end(id, inviter);
        }
    }

    /// What a read of the boxes that [`Fetches::ask`] gave found: one record at most, and which others are there.
    pub(crate) fn answered(
        &mut self,
        id: FetchId,
        now: Instant,
        rt: &impl Events,
        answer: ReadAnswer,
        inviter: &IdentitySecret,
    ) {
        let Some(fetch) = self.fetches.get_mut(&id) else {
            return;
        };
        let asked = fetch.left.len();
        if let Some(record) = &answer.record
            && let Some(at) = fetch
                .left
                .iter()
                .position(|(.., address)| address == record.address())
        {
            let (slot, day, _) = fetch.left.remove(at);
            match open_box(&fetch.cohort, slot, day, record) {
                Ok(opened) => fetch.records.push(opened),
                Err(error) => {
                    tracing::debug!(%error, "a courier box");
                    rt.emit(Event::Refused {
                        what: "courier box",
                        why: Refusal::BadAuthentication,
                    });
                }
            }
        }
        let brought = fetch.left.len() < asked;
        let more = answer.found.count_ones() > 1 && brought;
        if more && !fetch.left.is_empty() {
            fetch.due = Some(now);
        } else if answer.unknown != 0 && fetch.failures < FAILURES_MAX {
            fetch.failures += 2;
            fetch.due = Some(now + PAUSE);
        } else {
            self.end(id, inviter);
        }
    }

    /// Signs what was found: the records of the day that has the most.
    fn end(&mut self, id: FetchId, inviter: &IdentitySecret) {
        let Some(fetch) = self.fetches.remove(&id) else {
            return;
        };
        let mut days: BTreeMap<Day, usize> = BTreeMap::new();
        for record in &fetch.records {
            *days.entry(record.day).or_default() += 1;
        }
        let best = days.into_iter().max_by_key(|(day, records)| (*records, *day));
        let invitation = best.and_then(|(day, _)| {
            let expires = day.end() + OVERLAP;
            Invitation::sign(
                inviter,
                fetch.cohort.id(),
                day,
                expires,
                Note::default(),
                &fetch.records,
            )
        });
        let _ = fetch.reply.send(invitation); // as in `start`
    }
}

#[cfg(test)]
mod tests {
    use phantom_core::crypto::keys::LinkSecret;
    use phantom_core::directory::descriptor::{BridgeDescriptor, VersionRange};
    use phantom_core::directory::ways::Ways;
    use phantom_core::invite::drop_box;
    use phantom_core::mailbox::Record;
    use phantom_core::rendezvous::{Cohort, mint};
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;
    use zeroize::Zeroizing;

    use super::*;

    const NOON: WallTime = WallTime::from_unix_secs(1_800_000_000 / 86_400 * 86_400 + 43_200);

    struct Quiet;
    impl Events for Quiet {
        fn emit(&self, _: Event) {}
    }

    fn inviter() -> IdentitySecret {
        IdentitySecret::from_bytes(&[5; 32])
    }

    /// A cohort and the boxes that its bridges dropped.
    fn cohort(boxes: usize) -> (Cohort, Vec<Record>) {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let minted = mint(&mut rng, 1, 4).expect("four bridges");
        let day = Day::of(NOON);
        let records = minted
            .bridges
            .iter()
            .flatten()
            .take(boxes)
            .enumerate()
            .map(|(n, writer)| {
                let bridge = BridgeDescriptor {
                    versions: VersionRange { min: 1, max: 1 },
                    identity: IdentitySecret::from_bytes(&[n as u8; 32]).public(),
                    link: LinkSecret::from_bytes([n as u8; 32]).public(),
                    psk: Zeroizing::new([1; 32]),
                    expires: NOON + Duration::from_secs(86_400),
                    ways: Ways::plain(vec![([192, 0, 2, n as u8], 443).into()]),
                };
                let mut rng = ChaCha12Rng::seed_from_u64(n as u64);
                let sealed = writer.seal(&mut rng, day, &bridge);
                drop_box(writer, &mut rng, &CourierRecord::sign(writer, day, sealed))
            });
        let records = records.collect();
        (minted.cohorts[0].clone(), records)
    }

    fn read(boxes: &[Record], asked: &[BoxAddress]) -> ReadAnswer {
        let held = |address: &BoxAddress| boxes.iter().find(|record| record.address() == address);
        let bits = asked.iter().enumerate().filter(|(_, a)| held(a).is_some());
        ReadAnswer {
            found: bits.fold(0, |all, (bit, _)| all | 1 << bit),
            unknown: 0,
            record: asked.iter().find_map(held).map(|record| Box::new(record.clone())),
        }
    }

    fn fetch(boxes: usize) -> (Cohort, Option<Invitation>, usize) {
        let (cohort, held) = cohort(boxes);
        let (reply, mut replied) = oneshot::channel();
        let mut fetches = Fetches::default();
        fetches.start(Instant::ZERO, NOON, Box::new(cohort.public.clone()), reply);
        let mut reads = 0;
        while let Some((id, asked)) = fetches.ask(Instant::ZERO) {
            reads += 1;
            fetches.answered(id, Instant::ZERO, &Quiet, read(&held, &asked), &inviter());
        }
        (cohort, replied.try_recv().expect("an answer"), reads)
    }

    #[test]
    fn a_friend_collects_every_record_and_the_user_opens_them() {
        let (cohort, invitation, reads) = fetch(4);
        let opened = invitation
            .expect("one")
            .open(&cohort, Some(&inviter().public()), NOON)
            .expect("opens");
        assert_eq!((opened.bridges.len(), opened.refused.len(), reads), (4, 0, 4));
    }

    #[test]
    fn one_record_makes_an_invitation_and_none_makes_none() {
        let (cohort, invitation, _) = fetch(1);
        assert_eq!(
            invitation
                .expect("one")
                .open(&cohort, None, NOON)
                .expect("opens")
                .bridges
                .len(),
            1
        );
        assert_eq!(fetch(0).1, None);
    }

    #[test]
    fn a_fetch_without_answers_ends() {
        let (cohort, _) = cohort(0);
        let (reply, mut replied) = oneshot::channel();
        let mut fetches = Fetches::default();
        fetches.start(Instant::ZERO, NOON, Box::new(cohort.public), reply);
        let mut now = Instant::ZERO;
        while let Some(due) = fetches.wake() {
            now = now.max(due);
            let (id, _) = fetches.ask(now).expect("due");
            fetches.failed(id, now, &inviter());
        }
        assert_eq!(replied.try_recv(), Ok(None));
    }
}
