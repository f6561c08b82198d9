//! A host: a network namespace with one TUN device, and a thread that lives in it.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use nix::sched::{CloneFlags, unshare};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::route;
use crate::RigError;

/// What a real path carries without fragments.
const MTU: u16 = 1_500;
/// Packets that the device holds until they are read: more than any window, so that only the link drops.
const DEVICE_QUEUE: u32 = 20_000;

/// Congestion control, as on most machines and in the simulation; that of this machine may be another.
const CONGESTION: &str = "cubic";

type Task = Box<dyn FnOnce() + Send>;

/// The namespace exists as long as its thread, its device or a socket made in it.
pub(super) struct Host {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// A namespace whose device has this address in a network of 256, and what is sent there.
    pub(super) fn new(address: Ipv4Addr) -> Result<(Self, SyncDevice), RigError> {
        Self::with(move || furnish(address, 24))
    }

    /// The same where everything is sent to the device, and streams go by CUBIC.
    pub(super) fn alone(address: Ipv4Addr) -> Result<(Self, SyncDevice), RigError> {
        Self::with(move || {
            let device = furnish(address, 32)?;
            let index = device
                .if_index()
                .map_err(RigError::system("looking for the TUN device"))?;
            route::loopback_up()
                .and_then(|()| route::everything_to(index, CONGESTION))
                .map_err(RigError::rights("setting the default route of a namespace"))?;
            Ok(device)
        })
    }

    /// Packets enter and leave the device one by one (no IFF_VNET_HDR): the kernel would hand over 64 KiB at once else, which
    /// no link carries.
    fn with(
        furnish: impl FnOnce() -> Result<SyncDevice, RigError> + Send + 'static,
    ) -> Result<(Self, SyncDevice), RigError> {
        // The library would make the file, and nothing shall be left behind.
        let tun = Path::new("/dev/net/tun");
        tun.try_exists()
            .and_then(|there| there.then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(RigError::rights("looking for /dev/net/tun"))?;
        let (tasks, todo) = channel::<Task>();
        let thread = Builder::new()
            .name("host".to_owned())
            .spawn(move || todo.into_iter().for_each(|task| task()))
            .map_err(RigError::system("starting a thread"))?;
        let host = Self {
            tasks: Some(tasks),
            thread: Some(thread),
        };
        let device = host.within(furnish)??;
        Ok((host, device))
    }

    /// The file that stands for the namespace while this lives; see setns(2).
    pub(super) fn namespace(&self) -> Result<PathBuf, RigError> {
        self.within(|| std::fs::read_link("/proc/thread-self"))?
            .map(|thread| Path::new("/proc").join(thread).join("ns/net"))
            .map_err(RigError::system("looking for a namespace in /proc"))
    }

    /// Does something in the namespace and waits for it: sockets stay in the namespace in which they are made.
    pub(super) fn within<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RigError> {
        let (done, answer): (_, Receiver<T>) = channel();
        let tasks = self.tasks.as_ref().ok_or(RigError::Ended)?;
        tasks
            .send(Box::new(move || {
                // Nobody waits any more only if the caller's thread has ended.
                let _ = done.send(task());
            }))
            .map_err(|_| RigError::Ended)?;
        answer.recv().map_err(|_| RigError::Ended)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.tasks.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been told on stderr.
            let _ = thread.join();
        }
    }
}

/// Leaves the namespace of the process, for this thread alone.
fn furnish(address: Ipv4Addr, prefix: u8) -> Result<SyncDevice, RigError> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| RigError::rights("unshare(CLONE_NEWNET)")(errno.into()))?;
    // Nothing but what is measured is on the link, and no connection learns from the one before.
    set("net/ipv6/conf/all/disable_ipv6", "1").or_else(|error| {
        // A kernel without IPv6 has it off.
        if matches!(&error, RigError::System { error, .. } if error.kind() == io::ErrorKind::NotFound) {
            Ok(())
        } else {
            Err(error)
        }
    })?;
    set("net/ipv4/tcp_no_metrics_save", "1")?;
    let device = DeviceBuilder::new()
        .name("tun0")
        .mtu(MTU)
        .tx_queue_len(DEVICE_QUEUE)
        .offload(false)
        .ipv4(address, prefix, None)
        .build_sync()
        .map_err(RigError::rights("making a TUN device"))?;
    device
        .set_nonblocking(true)
        .map_err(RigError::system("making the TUN device non-blocking"))?;
    Ok(device)
}

/// A setting of this thread's namespace.
fn set(name: &str, value: &str) -> Result<(), RigError> {
    let what = format!("setting {name} to {value}");
    std::fs::write(Path::new("/proc/sys").join(name), value).map_err(|error| match error.kind() {
        // As in a container that may have namespaces and may not set them up.
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => RigError::rights(what)(error),
        _ => RigError::system(what)(error),
    })
}
