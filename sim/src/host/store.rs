//! A peer's files, with exactly the crash semantics that [`phantom_core::runtime::Store`] promises.
//!
//! `write` and `remove` are durable when they return. Appended bytes become durable at `sync`; of those that were not,
//! a crash keeps a prefix drawn from the seed, which may end in the middle of an append (a torn write). Synced bytes are
//! never touched.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use litemap::LiteMap;
use phantom_core::runtime::file_name::check_file_name;
use rand_core::Rng;

use super::spill::{BLOCK, Spill, Spilled};

#[derive(Debug, Default)]
struct File {
    /// Its first bytes, in blocks that are out of memory.
    spilled: Option<Spilled>,
    /// The rest.
    tail: Vec<u8>,
    /// How many leading bytes survive a crash; `None`: the file itself was made by an append that was never synced.
    durable: Option<usize>,
}

impl File {
    fn len(&self) -> usize {
        self.held() + self.tail.len()
    }

    /// How many of its bytes are out of memory.
    fn held(&self) -> usize {
        self.spilled.as_ref().map_or(0, Spilled::len) * BLOCK
    }

    fn append(&mut self, bytes: &[u8], spill: Option<&Arc<Spill>>) {
        self.tail.extend_from_slice(bytes);
        let (Some(spill), true) = (spill, self.tail.len() >= BLOCK) else {
            return;
        };
        let spilled = self.spilled.get_or_insert_with(|| Spilled::on(spill.clone()));
        let mut done = 0;
        while let Some(block) = self.tail[done..].first_chunk()
            && spilled.push(block)
        {
            done += BLOCK;
        }
        if done > 0 {
            self.tail.drain(..done);
            self.tail.shrink_to(BLOCK);
        }
    }

    /// `None` if it is shorter.
    fn range(&self, from: usize, len: usize) -> Option<Vec<u8>> {
        let until = from.checked_add(len).filter(|until| *until <= self.len())?;
        let mut out = Vec::with_capacity(len);
        let held = self.held();
        let mut at = from;
        while let Some(spilled) = &self.spilled
            && at < until.min(held)
        {
            let (block, skip) = (spilled.get(at / BLOCK), at % BLOCK);
            let take = (BLOCK - skip).min(until - at);
            out.extend_from_slice(&block[skip..skip + take]);
            at += take;
        }
        if at < until {
            out.extend_from_slice(&self.tail[at - held..until - held]);
        }
        Some(out)
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        match self.held() {
            0 => Cow::Borrowed(&self.tail),
            _ => Cow::Owned(self.range(0, self.len()).unwrap_or_default()),
        }
    }

    fn truncate(&mut self, len: usize) {
        let whole = len / BLOCK;
        if let Some(spilled) = &mut self.spilled
            && whole < spilled.len()
        {
            self.tail = spilled.get(whole).to_vec();
            spilled.truncate(whole);
        }
        self.tail.truncate(len - self.held());
    }
}

/// One peer's files.
#[derive(Debug, Default)]
pub struct Disk {
    /// Few, mostly: a flat map, whose memory does not come in pieces for eleven.
    files: LiteMap<String, File>,
    spill: Option<Arc<Spill>>,
}

impl Disk {
    /// A disk without files, in memory.
    pub const fn new() -> Self {
        Self {
            files: LiteMap::new_vec(),
            spill: None,
        }
    }

    /// A disk without files, whose long files are kept out of memory.
    pub const fn on(spill: Arc<Spill>) -> Self {
        Self {
            files: LiteMap::new_vec(),
            spill: Some(spill),
        }
    }

    /// Adds `bytes` at the end of `file`; returns the offset of the first of them.
    ///
    /// # Errors
    /// `InvalidInput` for a name outside `a-z 0-9 . _ -`.
    pub fn append(&mut self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        check_file_name(file)?;
        // Looked up first: an append to a file that is there allocates no name.
        if !self.files.contains_key(file) {
            self.files.insert(file.to_owned(), File::default());
        }
        let entry = self.files.get_mut(file).ok_or(io::ErrorKind::NotFound)?;
        let offset = entry.len() as u64;
        entry.append(bytes, self.spill.as_ref());
        Ok(offset)
    }

    /// Replaces `file` by `bytes`, atomically and durably.
    ///
    /// # Errors
    /// `InvalidInput` for a bad name.
    pub fn write(&mut self, file: &str, bytes: &[u8]) -> io::Result<()> {
        check_file_name(file)?;
        let mut new = File {
            durable: Some(bytes.len()),
            ..File::default()
        };
        new.append(bytes, self.spill.as_ref());
        new.tail.shrink_to_fit(); // nothing is appended to most files that are written
        match self.files.get_mut(file) {
            Some(entry) => *entry = new,
            None => {
                self.files.insert(file.to_owned(), new);
            }
        }
        Ok(())
    }

    /// The whole of `file`, `None` if there is none.
    ///
    /// # Errors
    /// `InvalidInput` for a bad name.
    pub fn read(&self, file: &str) -> io::Result<Option<Bytes>> {
        check_file_name(file)?;
        Ok(self.files.get(file).map(|f| f.bytes().into_owned().into()))
    }

    /// `len` bytes of `file` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if it is shorter, `NotFound` if it is not there, `InvalidInput` for a bad name.
    pub fn read_at(&self, file: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        check_file_name(file)?;
        let found = self.files.get(file).ok_or(io::ErrorKind::NotFound)?;
        let range = usize::try_from(offset)
            .ok()
            .and_then(|from| found.range(from, len));
        range.map(Bytes::from).ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    /// Removes `file`, durably; no error if there is none.
    ///
    /// # Errors
    /// `InvalidInput` for a bad name.
    pub fn remove(&mut self, file: &str) -> io::Result<()> {
        check_file_name(file)?;
        self.files.remove(file);
        Ok(())
    }

    /// The names of all files that begin with `prefix`, sorted.
    pub fn list(&self, prefix: &str) -> Vec<String> {
        self.files
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// The durability point of `file`.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, `InvalidInput` for a bad name.
    pub fn sync(&mut self, file: &str) -> io::Result<()> {
        check_file_name(file)?;
        let found = self.files.get_mut(file).ok_or(io::ErrorKind::NotFound)?;
        found.durable = Some(found.len());
        Ok(())
    }

    /// The host lost power: of what was not synced, each file keeps a prefix that `rng` draws.
    pub fn crash(&mut self, rng: &mut impl Rng) {
        for (_, file) in self.files.iter_mut() {
            let durable = file.durable.unwrap_or(0);
            let loose = file.len() - durable;
            // The same draws for every file, so that one file's state shifts no other's fate.
            let (fate, point) = (rng.next_u32() % 4, rng.next_u64());
            let kept = match fate {
                0 => 0,
                1 => loose,
                _ => ((u128::from(point) * (loose as u128 + 1)) >> 64) as usize,
            };
            // Freed bytes are gone, as after an ext4 journal replay: no garbage is exposed.
            file.truncate(durable + kept);
            if file.durable.is_some() || kept > 0 {
                file.durable = Some(file.len());
            }
        }
        self.files.retain(|_, file| file.durable.is_some());
    }

    /// The disk is lost with everything on it.
    pub fn lose(&mut self) {
        self.files.clear();
    }

    /// Every file with its bytes as they are on disk now, sorted by name: for invariants.
    pub fn files(&self) -> impl Iterator<Item = (&str, Cow<'_, [u8]>)> {
        self.files
            .iter()
            .map(|(name, file)| (name.as_str(), file.bytes()))
    }

    /// Bytes in all files.
    pub fn used(&self) -> u64 {
        self.files.values().map(|file| file.len() as u64).sum()
    }

    /// Whether any file holds `needle`; never for an empty one.
    pub fn contains(&self, needle: &[u8]) -> bool {
        !needle.is_empty()
            && self
                .files
                .values()
                .any(|file| file.bytes().windows(needle.len()).any(|window| window == needle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    fn rng(seed: u64) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(seed)
    }

    #[test]
    fn a_crash_keeps_all_synced_bytes_and_a_prefix_of_the_rest() {
        let mut kept_lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut disk = Disk::new();
            disk.append("log", b"synced").unwrap();
            disk.sync("log").unwrap();
            disk.append("log", b"-one").unwrap();
            disk.append("log", b"-two").unwrap();
            disk.crash(&mut rng(seed));
            let left = disk.read("log").unwrap().unwrap();
            assert!(
                b"synced-one-two".starts_with(&left) && left.len() >= 6,
                "{left:?}"
            );
            kept_lengths.insert(left.len());
        }
        assert_eq!(
            kept_lengths.len(),
            9,
            "every prefix happens, torn ones too: {kept_lengths:?}"
        );
    }

    #[test]
    fn what_survived_one_crash_survives_the_next() {
        for seed in 0..50 {
            let mut disk = Disk::new();
            disk.append("log", b"0123456789").unwrap();
            disk.crash(&mut rng(seed));
            let first = disk.read("log").unwrap();
            disk.crash(&mut rng(seed + 1000));
            assert_eq!(disk.read("log").unwrap(), first);
        }
    }

    #[test]
    fn writes_and_removals_are_durable_at_once() {
        let mut disk = Disk::new();
        disk.write("a", b"old").unwrap();
        disk.write("a", b"new").unwrap();
        disk.write("b", b"gone").unwrap();
        disk.remove("b").unwrap();
        disk.crash(&mut rng(1));
        assert_eq!(disk.read("a").unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(disk.read("b").unwrap(), None);
        disk.lose();
        assert_eq!(disk.list(""), Vec::<String>::new());
    }

    #[test]
    fn reads_and_lists_follow_the_contract() {
        let mut disk = Disk::new();
        assert_eq!(disk.append("seg-1", b"abc").unwrap(), 0);
        assert_eq!(disk.append("seg-1", b"def").unwrap(), 3);
        disk.write("key", b"k").unwrap();
        disk.append("seg-2", b"").unwrap();
        assert_eq!(disk.list("seg-"), ["seg-1", "seg-2"]);
        assert_eq!(&disk.read_at("seg-1", 2, 3).unwrap()[..], b"cde");
        for (offset, len) in [(2, 5), (7, 0), (u64::MAX, 1), (1, usize::MAX)] {
            let refused = disk.read_at("seg-1", offset, len).map_err(|e| e.kind());
            assert_eq!(refused, Err(io::ErrorKind::UnexpectedEof), "{offset} {len}");
        }
        assert_eq!(
            disk.append("../up", b"x").map_err(|e| e.kind()),
            Err(io::ErrorKind::InvalidInput)
        );
        assert!(disk.contains(b"bcde") && !disk.contains(b"bcx") && !disk.contains(b""));
    }

    /// Appends of any size, reads of any range, crashes: bytes out of memory behave as bytes in memory.
    #[test]
    fn a_disk_out_of_memory_behaves_as_one_in_memory() {
        let (mut here, mut there) = (Disk::new(), Disk::on(Arc::default()));
        let mut draws = rng(7);
        for round in 0..300_u32 {
            let size = draws.next_u32() as usize % (2 * BLOCK);
            let bytes: Vec<u8> = (0..size).map(|n| (n as u32 ^ round) as u8).collect();
            let ends = (
                here.append("log", &bytes).unwrap(),
                there.append("log", &bytes).unwrap(),
            );
            assert_eq!(ends.0, ends.1);
            match draws.next_u32() % 8 {
                0 => {
                    here.sync("log").unwrap();
                    there.sync("log").unwrap();
                }
                1 => {
                    here.crash(&mut rng(round.into()));
                    there.crash(&mut rng(round.into()));
                }
                _ => {}
            }
            if here.used() > 0 {
                let (from, len) = (
                    draws.next_u64() % here.used(),
                    draws.next_u32() as usize % (3 * BLOCK),
                );
                let read = |disk: &Disk| disk.read_at("log", from, len).map_err(|error| error.kind());
                assert_eq!(read(&here), read(&there));
            }
            assert_eq!(here.read("log").unwrap(), there.read("log").unwrap());
        }
        assert!(there.used() > 10 * BLOCK as u64, "something was spilled");
        let log = there.files.get("log").unwrap();
        assert!(log.tail.len() < BLOCK && log.held() > 0);
    }
}
