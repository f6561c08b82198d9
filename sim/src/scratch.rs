//! Directories that must not outlive what they were made for: removed when dropped, and when the program is interrupted.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What the shell gives to a program that a signal ended: 128 and SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Every directory that would be left behind now.
static STANDING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A directory of the process that is removed with this.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes `path` and what it is in.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make(path: PathBuf) -> io::Result<Self> {
        standing().insert(path.clone());
        let scratch = Self(path);
        std::fs::create_dir_all(&scratch.0)?;
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Keeps it as `to`, in place of what is there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(self, to: &Path) -> io::Result<()> {
        // Whoever is interrupted meanwhile waits: either all of it is kept or nothing.
        let mut standing = standing();
        // A directory takes no other's place unless that is empty.
        let mut before = self.0.clone().into_os_string();
        before.push(".before");
        let moved = match std::fs::rename(to, &before) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        std::fs::rename(&self.0, to)?;
        standing.remove(&self.0);
        drop(standing);
        if moved {
            std::fs::remove_dir_all(&before)?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if standing().remove(&self.0) {
            // Not there if it could not be made; nothing is lost if it stays.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// From now on Ctrl-C, or being asked to end, removes what stands and ends the program with [`INTERRUPTED`].
///
/// # Errors
/// The system takes no handler.
pub fn end_cleanly_when_interrupted() -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_none() {
                return;
            }
            let standing = standing();
            for path in standing.iter() {
                // What a thread is writing in it at this moment makes this fail: nobody begins anew meanwhile.
                let _ = (0..3).any(|_| std::fs::remove_dir_all(path).is_ok());
            }
            eprintln!("\nphantom-sim: interrupted; what was unfinished is removed");
            // Held to the end: nobody keeps half of what was just removed.
            std::process::exit(i32::from(INTERRUPTED));
        })?;
    Ok(())
}

fn standing() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    STANDING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_takes_the_place_of_what_was_there_as_a_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let to = dir.path().join("run");
        for (file, gone) in [("one", "two"), ("two", "one")] {
            let scratch = Scratch::make(dir.path().join(".run.1")).expect("made");
            std::fs::write(scratch.path().join(file), "x").expect("written");
            scratch.keep(&to).expect("kept");
            assert!(to.join(file).is_file() && !to.join(gone).exists());
            assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 1);
        }
    }

    #[test]
    fn what_is_dropped_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let scratch = Scratch::make(dir.path().join("a/b")).expect("made");
        std::fs::write(scratch.path().join("file"), "x").expect("written");
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
}
