//! `phantom-node status`, and the small file that a running node writes for it. Nothing in it is about any one peer.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use phantom_core::units::WallTime;
use phantom_node::Figures;
use phantom_node::settings::{NodeSettings, Source};
use serde::{Deserialize, Serialize};

use super::Failure;

/// The file, in the data directory.
pub(crate) const FILE: &str = "status";
/// How often a running node writes it.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);
/// A file that is older was left by a node that is gone.
const STALE: Duration = Duration::from_secs(35);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node's settings
    #[arg(long, default_value = "node.toml", value_name = "FILE")]
    config: PathBuf,
}

/// What is written. Times in seconds since 1970.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Written {
    started: u64,
    written: u64,
    links: u64,
    ways_back: Option<u64>,
    published_items: Option<u32>,
    unpublished_items: Option<u32>,
    boxes: Option<u64>,
    bytes: Option<u64>,
    segments: Option<u64>,
    damaged_frames: Option<u64>,
    next_purge: Option<u64>,
    document_valid_after: Option<u64>,
    document_valid_until: Option<u64>,
    document_nodes: Option<u64>,
    listed: Option<bool>,
}

fn count(n: usize) -> u64 {
    n.try_into().unwrap_or(u64::MAX)
}

impl Written {
    pub(crate) fn new(
        started: WallTime,
        now: WallTime,
        figures: &Figures,
        published: Option<(u32, u32)>,
    ) -> Self {
        let store = figures.store.as_ref();
        let document = figures.document.as_ref();
        Self {
            started: started.as_unix_secs(),
            written: now.as_unix_secs(),
            links: count(figures.links),
            ways_back: figures.ways_back.map(count),
            published_items: published.map(|(stored, _)| stored),
            unpublished_items: published.map(|(_, failed)| failed),
            boxes: store.map(|store| store.boxes),
            bytes: store.map(|store| store.bytes),
            segments: store.map(|store| count(store.segments)),
            damaged_frames: store.map(|store| store.damaged),
            next_purge: store
                .and_then(|store| store.next_purge)
                .map(WallTime::as_unix_secs),
            document_valid_after: document.map(|document| document.valid_after.as_unix_secs()),
            document_valid_until: document.map(|document| document.valid_until.as_unix_secs()),
            document_nodes: document.map(|document| count(document.nodes)),
            listed: document.map(|document| document.listed),
        }
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        toml::to_string(self).unwrap_or_default().into_bytes()
    }

    fn read(data: &Path) -> Result<Option<Self>, Failure> {
        let path = data.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map(Some)
                .map_err(Failure::doing(path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::doing(path.display())(error)),
        }
    }

    /// Whether a node with this data directory runs, as far as the file tells.
    pub(crate) fn is_fresh(data: &Path, now: WallTime) -> bool {
        Self::read(data).is_ok_and(|written| written.is_some_and(|written| written.age(now) < STALE))
    }

    fn age(&self, now: WallTime) -> Duration {
        now.saturating_since(WallTime::from_unix_secs(self.written))
    }

    fn print(&self, now: WallTime) {
        let line = |name: &str, value: String| println!("{name:<10} {value}");
        line("uptime", span(self.written.saturating_sub(self.started)));
        line("links", self.links.to_string());
        if let Some(ways) = self.ways_back {
            line("ways back", ways.to_string());
        }
        if let (Some(stored), Some(failed)) = (self.published_items, self.unpublished_items) {
            line("dht", format!("{stored} items published, {failed} not"));
        }
        if let (Some(boxes), Some(bytes), Some(segments)) = (self.boxes, self.bytes, self.segments) {
            line("boxes", format!("{boxes} in {segments} segments, {bytes} bytes"));
            line(
                "oldest",
                match self.next_purge {
                    None => "nothing to purge".to_owned(),
                    Some(at) if at >= now.as_unix_secs() => {
                        format!("purged in {}", span(at - now.as_unix_secs()))
                    }
                    Some(at) => format!("due to be purged for {}", span(now.as_unix_secs() - at)),
                },
            );
        }
        if let Some(damaged) = self.damaged_frames.filter(|damaged| *damaged > 0) {
            line(
                "damaged",
                format!("{damaged} boxes were not readable: is the disk failing?"),
            );
        }
        line(
            "document",
            match (self.document_nodes, self.document_valid_until) {
                (Some(nodes), Some(until)) if until > now.as_unix_secs() => {
                    let listed = match (self.ways_back, self.listed) {
                        (Some(_), _) => "",
                        (None, Some(true)) => ", this one among them",
                        (None, _) => ", this one NOT among them",
                    };
                    format!(
                        "{nodes} nodes{listed}; valid for {}",
                        span(until - now.as_unix_secs())
                    )
                }
                (Some(_), _) => "expired: are the directory authorities reachable?".to_owned(),
                (None, _) => "none yet".to_owned(),
            },
        );
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

pub(crate) fn status(args: &Args) -> Result<(), Failure> {
    let settings = NodeSettings::parse(&Source::read(&args.config)?)?;
    if !settings.data.exists() {
        return Err(Failure::Failed(format!(
            "never ran: there is no {}",
            settings.data.display()
        )));
    }
    let now = wall();
    match Written::read(&settings.data)? {
        None => Err(Failure::Failed("not running".to_owned())),
        Some(written) if written.age(now) >= STALE => Err(Failure::Failed(format!(
            "not running: it was last heard {} ago and did not end cleanly",
            span(written.age(now).as_secs())
        ))),
        Some(written) => {
            written.print(now);
            Ok(())
        }
    }
}

/// The wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "a look at files, with no peer that has a clock"
)]
pub(crate) fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    WallTime::UNIX_EPOCH + since.unwrap_or_default()
}
