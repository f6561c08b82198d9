//! A program in the namespace of a host.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// Where programs look for their resolver.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Becomes `command`, in this network namespace and with this file as its resolv.conf; killed when the thread that started
/// this process ends, however it does. Nothing of it is seen outside.
///
/// # Errors
/// The system refuses, or there is no such program. If it succeeds it does not return.
pub fn become_within(
    namespace: &Path,
    resolv_conf: &Path,
    command: &mut Command,
) -> Result<Infallible, io::Error> {
    let doing = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    // First of all, so that nothing is left whatever happens then.
    set_pdeathsig(Signal::SIGKILL).map_err(|error| doing("prctl(PR_SET_PDEATHSIG)", error.into()))?;
    let file = File::open(namespace).map_err(|error| doing(&namespace.display().to_string(), error))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| doing("setns", error.into()))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| doing("unshare(CLONE_NEWNS)", error.into()))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|error| doing("making mounts private", error.into()))?;
    mount(Some(resolv_conf), RESOLV_CONF, none, MsFlags::MS_BIND, none)
        .map_err(|error| doing(&format!("mounting over {RESOLV_CONF}"), error.into()))?;
    Err(command.exec())
}
