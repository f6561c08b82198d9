//! A tor that stays on this machine: the one directory authority that it knows is a port where nothing listens.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 800;
/// A running tor, killed when dropped; what it started ends with its input.
pub(crate) struct Tor {
    child: Child,
    folder: PathBuf,
}

impl Drop for Tor {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

impl Tor {
    pub(crate) fn start(program: &Path, folder: PathBuf, settings: &[(&str, &str)]) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let nobody = "0123456789ABCDEF0123456789ABCDEF01234567";
        let authority = format!("fake orport=1 v3ident={nobody} 127.0.0.1:1 {nobody}");
        let log = folder.join("log");
        let (data, log_to, empty) = (
            folder.join("data"),
            format!("notice file {}", log.display()),
            folder.join("torrc"),
        );
        fs::write(&empty, "").unwrap();
        let mut command = Command::new(program);
        command.arg("-f").arg(&empty).arg("--defaults-torrc").arg(&empty);
        command.args([
            "--TestingTorNetwork",
            "1",
            "--UseDefaultFallbackDirs",
            "0",
            "--DirAuthority",
        ]);
        command
            .arg(authority)
            .arg("--DataDirectory")
            .arg(data)
            .arg("--Log")
            .arg(log_to);
        for (name, value) in settings {
            command.arg(format!("--{name}")).arg(value);
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Waits until its log has all of these.
    pub(crate) fn says(&mut self, wanted: &[&str]) {
        for looks_left in (0..LOOKS).rev() {
            let log = self.log();
            let missing = wanted.iter().find(|text| !log.contains(**text));
            let Some(missing) = missing else { return };
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && looks_left > 0,
                "tor does not say {missing:?} (ended: {ended:?}):\n{log}"
            );
            super::wait(LOOK);
        }
    }

    /// The bridge's name, which its log has as well.
    pub(crate) fn fingerprint(&self) -> String {
        let text = fs::read_to_string(self.folder.join("data/fingerprint")).unwrap();
        text.split_whitespace().last().unwrap().to_owned()
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A bridge whose transport is this one of this program, listening there, which hands over through its Extended ORPort.
pub(crate) fn bridge(
    tor: &Path,
    folder: PathBuf,
    (name, program): (&str, &str),
    at: &str,
    more: &[(&str, &str)],
) -> Tor {
    let (plugin, listens) = (format!("{name} exec {program}"), format!("{name} {at}"));
    let mut settings = vec![
        ("SocksPort", "0"),
        ("ORPort", "127.0.0.1:auto"),
        ("ExtORPort", "auto"),
        ("Address", "127.0.0.1"),
        ("BridgeRelay", "1"),
        ("PublishServerDescriptor", "0"),
        ("AssumeReachable", "1"),
        ("ServerTransportPlugin", &*plugin),
        ("ServerTransportListenAddr", &*listens),
    ];
    settings.extend(more);
    let mut bridge = Tor::start(tor, folder, &settings);
    bridge.says(&[&format!("Registered server transport '{name}' at '{at}'")]);
    bridge
}

/// A client of a bridge, by its line.
pub(crate) fn client(tor: &Path, folder: PathBuf, (name, program): (&str, &str), line: &str) -> Tor {
    let settings = [
        ("SocksPort", "auto"),
        ("UseBridges", "1"),
        ("ClientTransportPlugin", &*format!("{name} exec {program}")),
        ("Bridge", line),
    ];
    Tor::start(tor, folder, &settings)
}
