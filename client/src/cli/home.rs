//! The folder of one user's client: its key, its installation, its lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use phantom_client::{ClientConfig, Safe, Secret};
use phantom_core::rendezvous::Bundle;
use phantom_core::runtime::tokio::journal::{Journal, WAITING_MAX};
use phantom_core::runtime::tokio::{Config, Hosts, TokioRuntime};
use phantom_core::runtime::{Entropy, Spawn};
use rand_core::Rng;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::args::{Args, Settings};
use super::{Failure, failed, usage};

const KEY: &str = "key";
const LOCK: &str = "lock";
const SETTINGS: &str = "config.toml";
const INSTALLATION: &str = "installation.vault";

/// The folder, and the peer that works in it.
pub(crate) struct Home {
    pub(crate) rt: TokioRuntime,
    dir: PathBuf,
    passphrase: Option<Zeroizing<Vec<u8>>>,
    /// Held as long as the program runs: two clients with one state would use boxes twice.
    _lock: File,
}

impl Home {
    /// Opens or makes the folder.
    pub(crate) fn open(args: &Args) -> Result<Self, Failure> {
        let said = args
            .home
            .clone()
            .or_else(|| std::env::var_os("PHANTOM_HOME").map(PathBuf::from));
        let usual = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".phantom"));
        let dir = said
            .or_else(usual)
            .ok_or_else(|| usage("there is no home folder: say --home DIR"))?;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| usage(format!("making the folder {}: {error}", dir.display())))?;
        let lock = lock(&dir.join(LOCK))?;
        let passphrase = args.passphrase_file.as_deref().map(passphrase).transpose()?;
        let hosts = Hosts::default();
        for (name, ip) in &args.hosts {
            hosts.set(name, vec![*ip]);
        }
        let open = |path: &PathBuf| {
            Journal::open(path).map_err(|error| usage(format!("opening {}: {error}", path.display())))
        };
        let journal = args.events.as_ref().map(open).transpose()?;
        let (sender, events) = mpsc::channel(WAITING_MAX);
        let config = Config {
            address: args.address,
            hosts,
            events: journal.is_some().then_some(sender),
            ..Config::new("phantom", &dir)
        };
        let rt = TokioRuntime::start(config)
            .map_err(|error| usage(format!("opening the folder {}: {error}", dir.display())))?;
        if let Some(journal) = journal {
            rt.spawn("events", journal.keep(rt.clone(), events));
        }
        Ok(Self {
            rt,
            dir,
            passphrase,
            _lock: lock,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes the client's files.
    pub(crate) async fn init(&self, bundle: &Path) -> Result<(), Failure> {
        if self.dir.join(INSTALLATION).exists() {
            return Err(usage(format!(
                "there is a client in {} already; choose another folder with --home DIR",
                self.dir.display()
            )));
        }
        let bytes =
            fs::read(bundle).map_err(|e| usage(format!("reading the bundle {}: {e}", bundle.display())))?;
        let bytes = Zeroizing::new(bytes);
        Bundle::decode(&bytes).map_err(|error| {
            usage(format!(
                "{} is no installation bundle of this version: {error}",
                bundle.display()
            ))
        })?;
        if self.passphrase.is_none() {
            self.make_key()?;
        }
        let secret = self.secret()?;
        let (mut safe, _) = Safe::open(&self.rt, INSTALLATION, &secret)
            .await
            .map_err(|e| failed(e.to_string()))?;
        safe.save(&bytes).await.map_err(|e| failed(e.to_string()))?;
        println!("A client is ready in {}.", self.dir.display());
        Ok(())
    }

    fn make_key(&self) -> Result<(), Failure> {
        let mut key = Zeroizing::new([0; 32]);
        self.rt.rng("home key").fill_bytes(&mut *key);
        let path = self.dir.join(KEY);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(&*key)?;
                file.sync_all()
            });
        match written {
            // Of an init that broke off: nothing is sealed under another.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            written => written.map_err(|error| failed(format!("writing {}: {error}", path.display()))),
        }
    }

    /// What opens the sealed files.
    pub(crate) fn secret(&self) -> Result<Secret, Failure> {
        if let Some(passphrase) = &self.passphrase {
            return Ok(Secret::Passphrase(passphrase.clone()));
        }
        let path = self.dir.join(KEY);
        let bytes = fs::read(&path).map(Zeroizing::new).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => usage(format!(
                "there is no client in {}: run `phantom init --bundle FILE`, or say --passphrase-file FILE if it has one",
                self.dir.display()
            )),
            _ => failed(format!("reading {}: {error}", path.display())),
        })?;
        let key = <[u8; 32]>::try_from(&bytes[..]).map_err(|_| {
            usage(format!(
                "{} is no key: 32 bytes are wanted, it has {}",
                path.display(),
                bytes.len()
            ))
        })?;
        Ok(Secret::Key(Zeroizing::new(key)))
    }

    /// The installation.
    pub(crate) async fn bundle(&self) -> Result<Bundle, Failure> {
        let secret = self.secret()?;
        let opened = Safe::open(&self.rt, INSTALLATION, &secret).await;
        let (_, content) = opened.map_err(|error| usage(error.to_string()))?;
        let content = content.ok_or_else(|| {
            usage(format!(
                "there is no client in {}: run `phantom init --bundle FILE`",
                self.dir.display()
            ))
        })?;
        Bundle::decode(&content)
            .map_err(|error| failed(format!("the installation in {}: {error}", self.dir.display())))
    }

    /// The client's configuration: defaults, then `config.toml`, then the command line.
    pub(crate) async fn config(&self, args: &Args) -> Result<ClientConfig, Failure> {
        let mut config = ClientConfig::new(self.bundle().await?, self.secret()?);
        let path = self.dir.join(SETTINGS);
        let settings = match fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str::<Settings>(&text).map_err(|e| usage(format!("{}: {e}", path.display())))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Settings::default(),
            Err(error) => return Err(failed(format!("reading {}: {error}", path.display()))),
        };
        args.apply(&settings, &mut config)
            .map_err(|e| usage(format!("{}: {e}", path.display())))?;
        Ok(config)
    }
}

fn lock(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    let file = file.map_err(|error| usage(format!("opening {}: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(usage(format!(
            "another phantom works with {}: end it, or choose another folder with --home DIR",
            path.parent().unwrap_or(path).display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(failed(format!("locking {}: {error}", path.display()))),
    }
}

fn passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let text = fs::read(path)
        .map_err(|error| usage(format!("reading the passphrase in {}: {error}", path.display())))?;
    let text = Zeroizing::new(text);
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(usage(format!(
            "the first line of {} is empty: it is to be the passphrase",
            path.display()
        )));
    }
    Ok(Zeroizing::new(line.to_vec()))
}
