//! What the tests with real programs share.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "drives programs of the real world, on tokio"
)]
#![allow(dead_code, reason = "each test uses some of it")]

pub(crate) mod tor;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{env, fs};

use phantom_pt::env::{Environment, OrPort, Role, ServerTransport};
use phantom_pt::parent::{Event, Events, Keeper, Launch, Limits, Managed};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Where a program is; if it is nowhere, the test passes, unless all of them are wanted.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&folders).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        let required = env::var_os("PHANTOM_REQUIRE_INTEROP").is_some();
        assert!(
            !required,
            "{name} is not installed, and PHANTOM_REQUIRE_INTEROP is set"
        );
        println!("{name} is not installed: nothing is tested");
    }
    found
}

/// The example `plain` of this build, built anew if a source is newer: `cargo test` alone has built it, a single test has not.
pub(crate) fn plain() -> PathBuf {
    let test = env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/plain");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let newest = newest(&package.join("src")).max(newest(&package.join("examples")));
    let built = fs::metadata(&program).and_then(|metadata| metadata.modified());
    if built.is_err() || built.is_ok_and(|built| built < newest) {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = std::process::Command::new(cargo);
        build
            .current_dir(package)
            .args(["build", "--locked", "--example", "plain"]);
        if program.parent().unwrap().parent().unwrap().ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the example does not build");
    }
    program
}

fn newest(folder: &Path) -> SystemTime {
    let mut newest_file = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let time = if path.is_dir() {
            newest(&path)
        } else {
            fs::metadata(&path).unwrap().modified().unwrap()
        };
        newest_file = newest_file.max(time);
    }
    newest_file
}

/// A program that is kept running, in a folder of its own.
pub(crate) struct Kept {
    pub(crate) managed: Managed,
    pub(crate) events: Events,
    task: JoinHandle<()>,
    _state: tempfile::TempDir,
}

impl Kept {
    pub(crate) fn start(program: &Path, role: Role, limits: Limits) -> Self {
        Self::start_with(program, &[], role, limits)
    }

    pub(crate) fn start_with(program: &Path, arguments: &[&str], role: Role, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut launch = Launch::new(
            program,
            Environment {
                state: folder.path().join("state"),
                exit_on_stdin_close: true,
                role,
            },
        );
        launch.arguments = arguments.iter().map(Into::into).collect();
        let (mut managed, keeper): (_, Keeper) = Managed::new(launch, limits);
        let events = managed.take_events().unwrap();
        let task = tokio::spawn(async move {
            let _ = keeper.run().await; // what it came to is in the events
        });
        Self {
            managed,
            events,
            task,
            _state: folder,
        }
    }

    /// The next event that `pick` takes.
    pub(crate) async fn event<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let picked = timeout(LIMIT, async {
            loop {
                let event = self.events.next().await.expect("it is over");
                if let Some(picked) = pick(&event) {
                    return picked;
                }
            }
        });
        picked.await.expect("no such event in time")
    }

    /// The number of the process that was started next.
    pub(crate) async fn process(&mut self) -> u32 {
        self.event(|event| match event {
            Event::Started { process } => *process,
            _ => None,
        })
        .await
    }

    /// Why it ended next, and whether it is started again.
    pub(crate) async fn end_of_life(&mut self) -> (String, Option<Duration>) {
        self.event(|event| match event {
            Event::Ended { failure, restart_in } => Some((failure.to_string(), *restart_in)),
            _ => None,
        })
        .await
    }

    /// Drops its keeper, as a crash of the owner's task does.
    pub(crate) async fn abandon(self) {
        self.task.abort();
        let _ = self.task.await; // it was aborted, as it says
    }

    pub(crate) async fn end(self) {
        timeout(LIMIT, self.managed.end()).await.expect("it does not end");
        timeout(LIMIT, self.task)
            .await
            .expect("its keeper does not end")
            .unwrap();
    }
}

pub(crate) fn client(transport: &str) -> Role {
    Role::Client {
        transports: vec![transport.parse().unwrap()],
        proxy: None,
    }
}

pub(crate) fn server(transport: ServerTransport, orport: OrPort) -> Role {
    Role::Server {
        transports: vec![transport],
        orport,
    }
}

pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Blocks: for tests that are not on tokio.
pub(crate) fn wait(time: Duration) {
    std::thread::sleep(time);
}

pub(crate) async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Whether a process is there, be it as a zombie.
pub(crate) fn exists(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

pub(crate) fn rng(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

/// Sends a megabyte from each end at once and compares what arrives.
pub(crate) async fn a_megabyte_each_way(
    mut one: impl AsyncRead + AsyncWrite + Unpin,
    mut two: impl AsyncRead + AsyncWrite + Unpin,
) {
    let (up, down) = (bytes(1), bytes(2));
    let (mut one_read, mut one_write) = tokio::io::split(&mut one);
    let (mut two_read, mut two_write) = tokio::io::split(&mut two);
    let (mut got_up, mut got_down) = (vec![0; up.len()], vec![0; down.len()]);
    let all = async {
        // `biased`, and each goes on to its end.
        tokio::try_join!(
            biased;
            async { one_write.write_all(&up).await?; one_write.flush().await },
            async { two_write.write_all(&down).await?; two_write.flush().await },
            async { two_read.read_exact(&mut got_up).await.map(drop) },
            async { one_read.read_exact(&mut got_down).await.map(drop) },
        )
    };
    timeout(LIMIT, all).await.expect("too slow").unwrap();
    assert_eq!(Sha256::digest(&got_up), Sha256::digest(&up), "upwards");
    assert_eq!(Sha256::digest(&got_down), Sha256::digest(&down), "downwards");
}

fn bytes(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    rng(seed).fill_bytes(&mut bytes);
    bytes
}

pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(LIMIT, listener.accept())
        .await
        .expect("nobody comes")
        .unwrap()
        .0
}
