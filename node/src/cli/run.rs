//! `phantom-node run`, `phantom-node directory run`.

use std::fs::{self, DirBuilder};
use std::future::Future;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phantom_core::event::Event;
use phantom_core::runtime::tokio::journal::{Journal, WAITING_MAX};
use phantom_core::runtime::tokio::{Config, Record, TokioRuntime};
use phantom_core::runtime::{Clock, Spawn, Store};
use phantom_core::units::WallTime;
use phantom_node::settings::text::hex;
use phantom_node::settings::{AuthoritySettings, NodeSettings, Source};
use phantom_node::{Gauges, Prepared};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::status::{FILE, PERIOD, Written};
use super::{Failure, on_tokio, peer};

/// Events that wait to be logged; more are dropped and counted.
const EVENTS: usize = 1_024;
/// The status file is not written more often than this.
const STATUS_GAP: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node's settings
    #[arg(long, default_value = "node.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    events: EventsArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AuthorityArgs {
    /// The authority's settings
    #[arg(long, default_value = "directory.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    events: EventsArgs,
}

/// Where events go besides the log.
#[derive(Debug, clap::Args)]
pub(super) struct EventsArgs {
    /// Also write every event as a JSON line to this file (0600), at its end; what is logged with --log debug, for programs.
    /// No secret is in it, and yet it is a record of what passed here and when: delete it when it has served
    #[arg(long = "events", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl EventsArgs {
    fn open(&self) -> Result<Option<Journal>, Failure> {
        let open = |path: &PathBuf| Journal::open(path).map_err(Failure::doing(path.display()));
        self.file.as_ref().map(open).transpose()
    }

    /// The settings of a peer whose events all go to the file; a peer that is not asked for any has none.
    pub(super) fn kept(&self, config: Config) -> Result<(Config, Option<Keeping>), Failure> {
        let Some(journal) = self.open()? else {
            return Ok((config, None));
        };
        let (sender, events) = mpsc::channel(WAITING_MAX);
        let config = Config {
            events: Some(sender),
            ..config
        };
        Ok((config, Some(Keeping(journal, events))))
    }
}

/// A file of events that is about to be written.
pub(super) struct Keeping(Journal, mpsc::Receiver<Record>);

impl Keeping {
    pub(super) fn begin(self, rt: &TokioRuntime) {
        rt.spawn("events", self.0.keep(rt.clone(), self.1));
    }
}

/// What the log and the status file say about, of all events.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    published: Option<(u32, u32)>,
}

pub(crate) fn node(args: &Args) -> Result<(), Failure> {
    let settings = NodeSettings::parse(&Source::read(&args.config)?)?;
    let (config, store) = settings.config()?;
    let name = config.keys.identity.public().node_id();
    let what = if config.bridge.is_some() { "bridge" } else { "node" };
    tracing::info!(name = hex(name.as_bytes()), listen = ?settings.listen, data = %settings.data.display(), "{what} starts");
    let _lock = lock(&settings.data)?;
    on_tokio(async move {
        let (rt, seen) = start(what, &settings.data, settings.outgoing, &args.events)?;
        let program = rt.clone();
        let done = supervise(&rt, async move {
            let prepared = Prepared::new(program.clone(), config, store).await?;
            program.spawn("status", write_status(program.clone(), prepared.gauges(), seen));
            prepared.run().await
        })
        .await;
        // Not running is what an absent file says.
        let _ = fs::remove_file(settings.data.join(FILE));
        done
    })
}

pub(crate) fn authority(args: &AuthorityArgs) -> Result<(), Failure> {
    let settings = AuthoritySettings::parse(&Source::read(&args.config)?)?;
    let config = settings.config()?;
    tracing::info!(listen = ?settings.listen, data = %settings.data.display(), "directory authority starts");
    let _lock = lock(&settings.data)?;
    on_tokio(async move {
        let (rt, _seen) = start("authority", &settings.data, settings.outgoing, &args.events)?;
        supervise(&rt, phantom_node::authority::run(rt.clone(), config)).await
    })
}

/// Keeps a second program out of a data directory. The lock goes with the process, however that ends.
fn lock(data: &Path) -> Result<fs::File, Failure> {
    let failed = || Failure::doing(data.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(failed())?;
    let file = fs::File::create(data.join("lock")).map_err(failed())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Failure::Failed(format!(
            "{} is in use by another phantom-node",
            data.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(failed()(error)),
    }
}

/// A peer whose notable events are logged.
fn start(
    name: &str,
    data: &Path,
    outgoing: Option<std::net::IpAddr>,
    file: &EventsArgs,
) -> Result<(TokioRuntime, watch::Receiver<Seen>), Failure> {
    let journal = file.open()?;
    let room = if journal.is_some() { WAITING_MAX } else { EVENTS };
    let (sender, events) = mpsc::channel(room);
    let (tell, seen) = watch::channel(Seen::default());
    let rt = peer(Config {
        address: outgoing,
        events: Some(sender),
        ..Config::new(name, data)
    })?;
    rt.spawn("events", log_events(rt.clone(), events, tell, journal));
    Ok((rt, seen))
}

async fn log_events(
    rt: TokioRuntime,
    mut events: mpsc::Receiver<Record>,
    tell: watch::Sender<Seen>,
    mut journal: Option<Journal>,
) {
    while let Some(record) = events.recv().await {
        if let Some(file) = &mut journal
            && let Err(error) = file.write(&rt, record.clone())
        {
            tracing::error!(%error, "events are no longer written to their file");
            journal = None;
        }
        match record.event {
            Event::Started => tracing::info!("listening"),
            Event::DocumentAccepted { valid_after, nodes } => {
                tracing::info!(
                    nodes,
                    valid_after = valid_after.as_unix_secs(),
                    "new directory document"
                );
                tell.send_modify(|_| {});
            }
            Event::BridgePublished { stored, failed } => {
                tell.send_modify(|seen| seen.published = Some((stored, failed)));
            }
            Event::ClockRefused { claimed, believed } => {
                tracing::warn!(
                    claimed = claimed.as_unix_secs(),
                    believed = believed.as_unix_secs(),
                    "the wall clock leapt and is not believed; see [clock]"
                );
            }
            _ => {}
        }
    }
}

/// Keeps the status file fresh. Never returns.
async fn write_status(rt: TokioRuntime, gauges: Gauges<TokioRuntime>, mut seen: watch::Receiver<Seen>) {
    let started = WallTime::from_unix_secs(rt.wall().as_unix_secs());
    loop {
        let published = seen.borrow_and_update().published;
        let status = Written::new(started, rt.wall(), &gauges.read(), published);
        if let Err(error) = rt.write(FILE, &status.bytes()).await {
            tracing::warn!(%error, "the status could not be written");
        }
        rt.sleep(STATUS_GAP).await;
        tokio::select! {
            biased;
            news = seen.changed() => if news.is_err() { return },
            () = rt.sleep(PERIOD) => {}
        }
    }
}

/// Runs a program until it ends, Ctrl-C or SIGTERM; then ends every task of the peer.
pub(super) async fn supervise<E: std::fmt::Display>(
    rt: &TokioRuntime,
    program: impl Future<Output = Result<(), E>>,
) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(Failure::doing("waiting for signals"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let done = tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        ended = rt.run(program) => match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::Failed(error.to_string())),
            Err(ended) => Err(Failure::Failed(ended.to_string())),
        },
    };
    rt.shutdown().await;
    tracing::info!("ended");
    done
}
