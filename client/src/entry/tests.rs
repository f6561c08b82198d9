//! The driver of the ladder on a host without a network.

use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
use phantom_core::directory::descriptor::{BridgeDescriptor, VersionRange};
use phantom_core::runtime::Clock;
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use rand_core::SeedableRng;
use zeroize::Zeroizing;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
/// Long enough for a few starts of the ladder.
const A_WHILE: Duration = Duration::from_millis(1_500);

/// A client that knows bridges from friends only, at ports where nobody listens.
struct World {
    rt: TokioRuntime,
    entrance: Entrance<TokioRuntime>,
    found: mpsc::Receiver<Found>,
    kept: Kept,
    documents: Documents,
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
        let (find, found) = mpsc::channel(64);
        let entrance = Entrance::new(&rt, &Arc::new(config), &kept, find);
        Self {
            rt,
            entrance,
            found,
            kept,
            documents,
            _dir: dir,
        }
    }

    /// Climbs for a while at this time; which candidates were dialled.
    async fn climb(&mut self, time: WallTime) -> Vec<Candidate> {
        self.entrance.stop();
        self.entrance.climb();
        let (end, mut dialled) = (self.rt.now() + A_WHILE, Vec::new());
        while self.rt.now() < end {
            let mut sources = Sources {
                time,
                kept: &self.kept,
                documents: &mut self.documents,
                want_invitation: false,
            };
            self.entrance.drive(&mut sources);
            dialled.extend(self.entrance.dials.values().map(|dial| dial.candidate.clone()));
            while let Ok(found) = self.found.try_recv() {
                assert!(self.entrance.take(found, &mut self.kept).is_none());
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
        addresses: vec![([127, 0, 0, 1], u16::from(n)).into()],
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
