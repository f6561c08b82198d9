//! The file store of one peer: a directory of flat files, owner-only.
//!
//! Durability: `sync` is `fdatasync` of the file, and `fsync` of the directory if the file is new; `write` is a
//! temporary file, `fsync`, `rename`, `fsync` of the directory; `remove` is `unlink`, `fsync` of the directory.
//! Blocking calls run on tokio's blocking threads, a bounded number at once; a call whose future is dropped still
//! completes, and [`Files::close`] waits for those.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::runtime::file_name::check_file_name;

/// Blocking calls of one peer at once.
const CALLS_MAX: u32 = 32;
/// Files kept open for appending.
const OPEN_MAX: usize = 64;
/// Begins the name of a file that is being written; no [`Store`](crate::runtime::Store) name contains it.
const TEMPORARY: char = '~';

/// The files of one peer.
#[derive(Debug)]
pub(super) struct Files {
    handle: Handle,
    calls: Arc<Semaphore>,
    dir: Arc<Dir>,
}

#[derive(Debug)]
struct Dir {
    path: PathBuf,
    /// One slot per file in use: its lock orders the changes of that file, and of no other.
    slots: Mutex<BTreeMap<String, Arc<Mutex<Slot>>>>,
}

#[derive(Debug, Default)]
struct Slot {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: Arc<File>,
    len: u64,
    /// The directory entry may not be on disk yet.
    entry_unsynced: bool,
}

impl Files {
    /// Opens the store at `path`, making the directory (0700) if need be, and clears away unfinished writes.
    pub(super) fn open(handle: Handle, path: &Path) -> io::Result<Self> {
        let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        make.map_err(|e| named(e, "cannot make the store's directory", path))?;
        for entry in fs::read_dir(path).map_err(|e| named(e, "cannot list the store's directory", path))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path())?;
            }
        }
        let dir = Dir {
            path: path.to_owned(),
            slots: Mutex::default(),
        };
        Ok(Self {
            handle,
            calls: Arc::new(Semaphore::new(CALLS_MAX as usize)),
            dir: Arc::new(dir),
        })
    }

    pub(super) async fn append(&self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        let bytes = Bytes::copy_from_slice(bytes);
        self.call(file, move |dir, file| dir.append(file, &bytes)).await
    }

    pub(super) async fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let bytes = Bytes::copy_from_slice(bytes);
        self.call(file, move |dir, file| dir.write(file, &bytes)).await
    }

    pub(super) async fn read(&self, file: &str) -> io::Result<Option<Bytes>> {
        let read = |dir: &Dir, file: &str| match fs::read(dir.path.join(file)) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(named(e, "cannot read", &dir.path.join(file))),
        };
        self.call(file, read).await
    }

    pub(super) async fn read_at(&self, file: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        self.call(file, move |dir, file| dir.read_at(file, offset, len))
            .await
    }

    pub(super) async fn remove(&self, file: &str) -> io::Result<()> {
        self.call(file, |dir, file| dir.remove(file)).await
    }

    pub(super) async fn sync(&self, file: &str) -> io::Result<()> {
        self.call(file, |dir, file| dir.sync(file)).await
    }

    pub(super) async fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.blocking(move |dir| dir.list(&prefix)).await
    }

    /// Refuses further calls and waits for those under way.
    pub(super) async fn close(&self) {
        // All permits at once are there only when no call is under way; an error means that it is closed already.
        if let Ok(all) = self.calls.acquire_many(CALLS_MAX).await {
            self.calls.close();
            drop(all);
        }
    }

    async fn call<T, F>(&self, file: &str, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Dir, &str) -> io::Result<T> + Send + 'static,
    {
        check_file_name(file)?;
        let file = file.to_owned();
        self.blocking(move |dir| work(dir, &file)).await
    }

    async fn blocking<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Dir) -> io::Result<T> + Send + 'static,
    {
        let ended = |_| io::Error::other("the peer has ended");
        let permit = self.calls.clone().acquire_owned().await.map_err(ended)?;
        let dir = self.dir.clone();
        let done = self.handle.spawn_blocking(move || {
            let _permit = permit;
            work(&dir)
        });
        done.await.map_err(io::Error::other)?
    }
}

impl Dir {
    fn append(&self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        let slot = self.slot(file);
        let mut slot = lock(&slot);
        let path = self.path.join(file);
        let open = match &mut slot.open {
            Some(open) => open,
            none => none.insert(open_append(&path, true)?.ok_or(io::ErrorKind::NotFound)?),
        };
        let offset = open.len;
        if let Err(e) = (&*open.file).write_all(bytes) {
            // A part may be there (disk full): take it back, or the next offset would be wrong.
            let undone = open.file.set_len(offset);
            slot.open = None;
            undone?;
            return Err(named(e, "cannot append to", &path));
        }
        open.len += bytes.len() as u64;
        Ok(offset)
    }

    fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let slot = self.slot(file);
        let mut slot = lock(&slot);
        let path = self.path.join(file);
        let temporary = self.path.join(format!("{TEMPORARY}{file}"));
        let replace = || {
            let mut new = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            new.write_all(bytes)?;
            new.sync_all()?;
            fs::rename(&temporary, &path)?;
            sync_dir(&self.path)
        };
        // The open file is the old one from now on, whether or not the rename was reached.
        slot.open = None;
        replace().map_err(|e| named(e, "cannot write", &path))
    }

    fn read_at(&self, file: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        let path = self.path.join(file);
        let open = File::open(&path).map_err(|e| named(e, "cannot read", &path))?;
        // Judged before the buffer is made: `len` may come from a damaged index.
        let end = offset
            .checked_add(len as u64)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > open.metadata()?.len() {
            return Err(named(
                io::ErrorKind::UnexpectedEof.into(),
                "shorter than asked",
                &path,
            ));
        }
        let mut bytes = vec![0; len];
        open.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }

    fn remove(&self, file: &str) -> io::Result<()> {
        let slot = self.slot(file);
        let mut slot = lock(&slot);
        slot.open = None;
        let path = self.path.join(file);
        match fs::remove_file(&path) {
            Ok(()) => sync_dir(&self.path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(named(e, "cannot remove", &path)),
        }
    }

    fn sync(&self, file: &str) -> io::Result<()> {
        let path = self.path.join(file);
        let slot = self.slot(file);
        let (open, entry_unsynced) = {
            let mut slot = lock(&slot);
            match &slot.open {
                Some(_) => {}
                // Closed since it was appended to: its pages may still be dirty, and any descriptor syncs them.
                None => slot.open = open_append(&path, false)?,
            }
            let open = slot
                .open
                .as_ref()
                .ok_or_else(|| named(io::ErrorKind::NotFound.into(), "cannot sync", &path))?;
            (open.file.clone(), open.entry_unsynced)
        };
        // Without the lock: others may append meanwhile, and are not covered.
        open.sync_data().map_err(|e| named(e, "cannot sync", &path))?;
        if entry_unsynced {
            sync_dir(&self.path)?;
            if let Some(now) = &mut lock(&slot).open
                && Arc::ptr_eq(&now.file, &open)
            {
                now.entry_unsynced = false;
            }
        }
        Ok(())
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string()
                && name.starts_with(prefix)
                && check_file_name(&name).is_ok()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn slot(&self, file: &str) -> Arc<Mutex<Slot>> {
        let mut slots = lock(&self.slots);
        if slots.len() >= OPEN_MAX && !slots.contains_key(file) {
            // Only slots that nobody uses may go: two slots for one file would not exclude each other.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(file.to_owned()).or_default().clone()
    }
}

/// Opens `path` for appending; `None` if it is not there and `create` is not set. Whether the directory entry of a file
/// found there was ever synced is not known, so it is taken as not.
fn open_append(path: &Path, create: bool) -> io::Result<Option<Open>> {
    match OpenOptions::new()
        .append(true)
        .create(create)
        .mode(0o600)
        .open(path)
    {
        Ok(file) => {
            let len = file.metadata()?.len();
            Ok(Some(Open {
                file: Arc::new(file),
                len,
                entry_unsynced: true,
            }))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound && !create => Ok(None),
        Err(e) => Err(named(e, "cannot open", path)),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn named(e: io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(e.kind(), format!("{what} {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn files_and_directory_are_for_the_owner_only() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("peer/store");
        let files = Files::open(Handle::current(), &path).unwrap();
        files.append("log", b"x").await.unwrap();
        files.write("state", b"y").await.unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(
            (mode(&path.join("log")), mode(&path.join("state"))),
            (0o600, 0o600)
        );
    }

    #[tokio::test]
    async fn an_unfinished_write_is_cleared_away_and_never_listed() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("~state"), b"half").unwrap();
        let files = Files::open(Handle::current(), temp.path()).unwrap();
        assert_eq!(files.list("").await.unwrap(), Vec::<String>::new());
        assert!(!temp.path().join("~state").exists());
    }

    #[tokio::test]
    async fn appends_to_more_files_than_are_kept_open_keep_their_offsets() {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::open(Handle::current(), temp.path()).unwrap();
        for round in 0..3_u64 {
            for i in 0..OPEN_MAX + 10 {
                assert_eq!(files.append(&format!("f{i}"), b"abc").await.unwrap(), round * 3);
            }
        }
        files.sync("f0").await.unwrap();
        assert_eq!(files.read("f0").await.unwrap().unwrap(), "abcabcabc");
        assert!(lock(&files.dir.slots).len() <= OPEN_MAX);
    }

    #[tokio::test]
    async fn an_append_after_a_write_goes_to_the_new_file() {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::open(Handle::current(), temp.path()).unwrap();
        files.append("f", b"old").await.unwrap();
        files.write("f", b"n").await.unwrap();
        assert_eq!(files.append("f", b"ew").await.unwrap(), 1);
        assert_eq!(files.read("f").await.unwrap().unwrap(), "new");
    }

    #[tokio::test]
    async fn an_absurd_length_is_refused_before_it_is_allocated() {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::open(Handle::current(), temp.path()).unwrap();
        files.write("f", b"0123").await.unwrap();
        for (offset, len) in [(0, usize::MAX), (u64::MAX, 1), (4, 1), (0, 5)] {
            assert_eq!(
                files.read_at("f", offset, len).await.unwrap_err().kind(),
                io::ErrorKind::UnexpectedEof
            );
        }
        assert_eq!(files.read_at("f", 1, 2).await.unwrap(), "12");
    }
}
