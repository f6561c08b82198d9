//! The driver of the ladder on a host without a network.

use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
use phantom_core::directory::descriptor::{BridgeDescriptor, VersionRange};
use phantom_core::directory::ways::Ways;
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Entropy, Spawn};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

use super::*;
use phantom_rotation::Input;

const DAY: Duration = Duration::from_secs(86_400);
/// Long enough for a few starts of the ladder.
const A_WHILE: Duration = Duration::from_millis(1_500);

/// A client that knows bridges from friends only, at ports where nobody listens.
struct World {
    rt: TokioRuntime,
    entrance: Entrance<TokioRuntime>,
    found: queue::Receiver<Box<News>>,
    kept: Kept,
    documents: Documents,
    rotor: Rotor,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(bridges: &[BridgeDescriptor], time: WallTime) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
        let mut config = crate::run::tests::config();
        config.steps = vec![Step::Friend];
        let mut kept = Kept::new(&mut ChaCha12Rng::seed_from_u64(1));
        kept.befriend(bridges.iter().cloned(), time);
        let pins = config.installation.directory.clone();
        let documents = Documents::restore(&rt, pins, config.time, &[], &[]);
        let rotor = Rotor::new(
            config.rotation.clone(),
            phantom_rotation::Memory::default(),
            (config.network, config.address),
            (rt.now(), time),
            rt.rng("rotation").into(),
        );
        let (find, found) = queue::queue(64);
        let entrance = Entrance::new(&rt, &Arc::new(config), &kept, find);
        Self {
            rt,
            entrance,
            found,
            kept,
            documents,
            rotor,
            _dir: dir,
        }
    }

    /// Climbs for a while at this time; which candidates were dialled.
    async fn climb(&mut self, time: WallTime) -> Vec<Candidate> {
        self.entrance.stop();
        self.entrance.climb(&self.rotor);
        let (end, mut dialled) = (self.rt.now() + A_WHILE, Vec::new());
        while self.rt.now() < end {
            let mut sources = Sources {
                time,
                kept: &self.kept,
                documents: &mut self.documents,
                rotor: &self.rotor,
                want_invitation: false,
            };
            self.entrance.drive(&mut sources);
            dialled.extend(self.entrance.dials.values().map(|dial| dial.candidate.clone()));
            while let Some(news) = self.found.try_recv() {
                match *news {
                    News::Found(found) => {
                        assert!(self.entrance.take(found, &mut self.kept, &self.rotor).is_none());
                    }
                    News::Told(_) => panic!("a session reported, and there is none"),
                }
            }
            self.rt.sleep(Duration::from_millis(5)).await;
        }
        dialled
    }
}

fn bridge(n: u8, expires: WallTime) -> BridgeDescriptor {
    BridgeDescriptor {
        versions: VersionRange { min: 1, max: 1 },
        identity: IdentitySecret::from_bytes(&[n; 32]).public(),
        link: LinkSecret::from_bytes([n; 32]).public(),
        psk: Zeroizing::new([n; 32]),
        expires,
        ways: Ways::plain(vec![([127, 0, 0, 1], u16::from(n)).into()]),
    }
}

/// The clock leapt three days ahead and is not believed: bridges are judged by the time that is.
#[tokio::test]
async fn a_bridge_is_dialled_as_long_as_it_is_good_by_the_time_believed() {
    let wall = WallTime::from_unix_secs(2_000_000_000);
    let mut world = World::new(&[bridge(1, wall + DAY)], wall);
    assert!(
        world.rt.wall() < wall || world.rt.wall() > wall + DAY,
        "another time than the host's"
    );
    assert!(!world.climb(wall).await.is_empty(), "still good");
    assert!(world.climb(wall + 2 * DAY).await.is_empty(), "over");
}

/// Rotation says whom to leave alone.
#[tokio::test]
async fn entries_that_carried_nothing_are_neither_dialled_nor_reported_as_tried() {
    let time = WallTime::from_unix_secs(2_000_000_000);
    let both = [bridge(1, time + DAY), bridge(2, time + DAY)];
    let mut world = World::new(&both, time);
    let both: Vec<_> = both.iter().flat_map(Candidate::of_bridge).collect();
    for candidate in &both {
        let useless = Input::Missed(candidate.way(), Failure::Useless);
        world.rotor.tell(world.rt.now(), useless);
    }
    assert!(world.climb(time).await.is_empty(), "each, not only the last");
    assert_eq!(world.entrance.report().attempts(), 0);
    let free = world.rotor.free_at(world.rt.now(), &both[0], 0);
    let left = free.expect("not for ever").saturating_since(world.rt.now());
    assert!(
        left > Duration::from_secs(50) && left <= Duration::from_secs(60),
        "{left:?}"
    );
}

/// The bridge's descriptor ends while the client runs; the bridge itself goes on.
#[tokio::test]
async fn a_renewed_descriptor_takes_the_place_of_one_that_is_over() {
    let time = WallTime::from_unix_secs(2_000_000_000);
    let mut world = World::new(&[bridge(1, time + DAY)], time);
    assert!(!world.climb(time).await.is_empty());
    let later = time + 2 * DAY;
    assert!(world.climb(later).await.is_empty());
    world.kept.befriend([bridge(1, later + DAY)], later);
    assert!(!world.climb(later).await.is_empty());
}

#[tokio::test]
async fn the_end_of_an_earlier_question_does_not_end_a_later_one() {
    let mut world = World::new(&[], WallTime::from_unix_secs(2_000_000_000));
    world.entrance.climb(&world.rotor);
    let earlier = world.entrance.climb;
    world.entrance.climb(&world.rotor);
    let question = Owned(world.rt.spawn("a question", std::future::pending::<()>()));
    world.entrance.asking.insert(Step::Dht, question);
    world.entrance.take(
        Found::End(Step::Dht, earlier, true),
        &mut world.kept,
        &world.rotor,
    );
    assert!(world.entrance.asking.contains_key(&Step::Dht));
    let this = world.entrance.climb;
    world
        .entrance
        .take(Found::End(Step::Dht, this, true), &mut world.kept, &world.rotor);
    assert!(!world.entrance.asking.contains_key(&Step::Dht));
}
