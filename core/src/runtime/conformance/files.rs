//! The store and its crashes.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Case, Check, Harness, LONG, ensure};
use crate::runtime::{Runtime, Store};

/// Everything that needs no crash.
pub fn files_follow_their_contract<H: Harness>() {
    let mut case = Case::<H>::new(1);
    case.check(0, |rt| async move {
        ensure!(rt.read("none").await?.is_none(), "a file that nobody made");
        ensure!(
            rt.append("log", b"abc").await? == 0,
            "the first append is not at 0"
        );
        ensure!(rt.append("log", b"").await? == 3, "an empty append moved");
        ensure!(
            rt.append("log", b"de").await? == 3,
            "the second append is not at 3"
        );
        ensure!(
            rt.read("log").await?.as_deref() == Some(b"abcde"),
            "another content"
        );
        ensure!(&rt.read_at("log", 1, 3).await?[..] == b"bcd", "another middle");
        for (offset, len) in [(3, 3), (6, 0), (u64::MAX, 2), (0, usize::MAX)] {
            let kind = rt.read_at("log", offset, len).await.map_err(|e| e.kind());
            ensure!(
                kind == Err(ErrorKind::UnexpectedEof),
                "{len} bytes at {offset}: {kind:?}"
            );
        }
        rt.write("log", b"new").await?;
        ensure!(
            rt.append("log", b"er").await? == 3,
            "an append after a write is elsewhere"
        );
        rt.sync("log").await?;
        rt.write("state.1", b"x").await?;
        rt.append("state.0", b"y").await?;
        ensure!(rt.list("state").await? == ["state.0", "state.1"], "another list");
        rt.remove("state.0").await?;
        rt.remove("state.0").await?;
        ensure!(
            rt.list("").await? == ["log", "state.1"],
            "a removed file is listed"
        );
        ensure!(
            rt.append("state.0", b"z").await? == 0,
            "a removed file has left something"
        );
        ensure!(
            rt.read("log").await?.as_deref() == Some(b"newer"),
            "another content after all"
        );
        let big = vec![7; 300_000];
        rt.write("big", &big).await?;
        ensure!(
            rt.read("big").await?.as_deref() == Some(&big[..]),
            "a large file differs"
        );
        Ok(())
    });
    case.finish(LONG);
}

/// Flat names only.
pub fn names_that_leave_the_store_are_refused<H: Harness>() {
    let mut case = Case::<H>::new(1);
    case.check(0, |rt| async move {
        for name in [
            "",
            "../up",
            "a/b",
            "/etc/passwd",
            "Upper",
            "with space",
            "nul\0",
            "ä",
        ] {
            let kind = rt.write(name, b"x").await.map_err(|e| e.kind());
            ensure!(kind == Err(ErrorKind::InvalidInput), "{name:?}: {kind:?}");
            ensure!(rt.append(name, b"x").await.is_err(), "appended to {name:?}");
            ensure!(rt.read(name).await.is_err(), "read {name:?}");
        }
        Ok(())
    });
    case.finish(LONG);
}

/// A host whose program does `first` until it is crashed, and `second` when it is restarted.
fn crashed<H, A, B, FA, FB>(first: A, second: B)
where
    H: Harness,
    A: Fn(H::Runtime) -> FA + Send + Sync + Clone + 'static,
    B: Fn(H::Runtime) -> FB + Send + Sync + Clone + 'static,
    FA: Future<Output = Check> + Send + 'static,
    FB: Future<Output = Check> + Send + 'static,
{
    let starts = Arc::new(AtomicU32::new(0));
    let mut case = Case::<H>::new(1);
    case.check(0, move |rt| {
        let start = starts.fetch_add(1, Ordering::Relaxed);
        let (first, second) = (first.clone(), second.clone());
        async move {
            if start == 0 {
                first(rt).await?;
                std::future::pending().await
            } else {
                second(rt).await
            }
        }
    });
    case.world.crash(Duration::from_secs(1), 0);
    case.world.start(Duration::from_millis(1_200), 0);
    case.finish(LONG);
}

/// `Store::sync` is the durability point.
pub fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest<H: Harness>() {
    async fn first<R: Runtime>(rt: R) -> Check {
        for i in 0..20 {
            let file = format!("segment-{i}");
            rt.append(&file, b"synced").await?;
            rt.sync(&file).await?;
            rt.append(&file, b"-then").await?;
            rt.append(&file, b"-more").await?;
        }
        rt.append("loose", b"never synced").await?;
        Ok(())
    }
    async fn second<R: Runtime>(rt: R) -> Check {
        for i in 0..20 {
            let left = rt
                .read(&format!("segment-{i}"))
                .await?
                .ok_or("a synced file is gone")?;
            ensure!(
                left.len() >= 6 && b"synced-then-more".starts_with(&left),
                "a crash left {left:?}"
            );
            let end = rt.append(&format!("segment-{i}"), b"!").await?;
            ensure!(
                end == left.len() as u64,
                "an append at {end} after {} bytes",
                left.len()
            );
        }
        if let Some(left) = rt.read("loose").await? {
            ensure!(b"never synced".starts_with(&left), "a crash left {left:?}");
        }
        Ok(())
    }
    crashed::<H, _, _, _, _>(first, second);
}

/// `Store::write` and `Store::remove` are durable when they return.
pub fn a_written_file_is_whole_and_a_removed_one_gone_after_a_crash<H: Harness>() {
    async fn first<R: Runtime>(rt: R) -> Check {
        rt.write("gone", b"key").await?;
        rt.remove("gone").await?;
        rt.write("kept", b"old").await?;
        rt.write("kept", b"new").await?;
        Ok(())
    }
    async fn second<R: Runtime>(rt: R) -> Check {
        ensure!(rt.read("gone").await?.is_none(), "a removed file came back");
        let kept = rt.read("kept").await?;
        ensure!(kept.as_deref() == Some(b"new"), "a written file is {kept:?}");
        ensure!(rt.list("").await? == ["kept"], "other files are there");
        Ok(())
    }
    crashed::<H, _, _, _, _>(first, second);
}
