//! Tasks, crashes, entropy and sharing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand_core::Rng;

use super::time::Guard;
use super::{Case, Check, Harness, LONG, SETTLE, any, ensure, lock};
use crate::runtime::{Clock, Entropy, Listener, Net, Owned, Runtime, Spawn, Task};

/// `Task::abort`.
pub fn an_abort_drops_the_future_wherever_it_waits<H: Harness>() {
    let mut case = Case::<H>::new(1);
    case.check(0, |rt| async move {
        let flags: [Arc<AtomicBool>; 3] = Default::default();
        let [asleep, forever, accepting] = flags.clone().map(Guard);
        let (clock, net) = (rt.clone(), rt.clone());
        let tasks = [
            rt.spawn("asleep", async move {
                let _guard = asleep;
                clock.sleep(Duration::from_secs(3_600)).await;
            }),
            rt.spawn("forever", async move {
                let _guard = forever;
                std::future::pending().await
            }),
            rt.spawn("accepting", async move {
                let _guard = accepting;
                if let Ok(mut listener) = net.listen(any(7_000)).await {
                    let _ = listener.accept().await;
                }
            }),
        ];
        rt.sleep(Duration::from_millis(50)).await;
        ensure!(
            !flags.iter().any(|flag| flag.load(Ordering::Relaxed)),
            "a task ended by itself"
        );
        for task in &tasks {
            task.abort();
        }
        rt.sleep(Duration::from_millis(50)).await;
        let dropped = flags.iter().filter(|flag| flag.load(Ordering::Relaxed)).count();
        ensure!(dropped == 3, "{dropped} of 3 aborted tasks were dropped");
        tasks[0].abort(); // No effect on one that has ended.
        ensure!(
            rt.listen(any(7_000)).await.is_ok(),
            "the aborted listener still listens"
        );
        Ok(())
    });
    case.finish(LONG);
}

/// `Owned`, and what it is not.
pub fn a_task_outlives_its_handle_unless_it_is_owned<H: Harness>() {
    let mut case = Case::<H>::new(1);
    case.check(0, |rt| async move {
        let ran: [Arc<AtomicBool>; 2] = Default::default();
        let later = |flag: &Arc<AtomicBool>| {
            let (rt, flag) = (rt.clone(), flag.clone());
            async move {
                rt.sleep(Duration::from_millis(30)).await;
                flag.store(true, Ordering::Relaxed);
            }
        };
        drop(rt.spawn("left alone", later(&ran[0])));
        drop(Owned(rt.spawn("owned", later(&ran[1]))));
        rt.sleep(Duration::from_millis(300)).await;
        ensure!(ran[0].load(Ordering::Relaxed), "a task ended with its handle");
        ensure!(
            !ran[1].load(Ordering::Relaxed),
            "an owned task outlived its owner"
        );
        Ok(())
    });
    case.finish(LONG);
}

/// A program that has ended has started what goes on.
pub fn tasks_outlive_the_program_that_started_them<H: Harness>() {
    let ticks = Arc::new(AtomicUsize::new(0));
    let mut case = Case::<H>::new(2);
    let count = ticks.clone();
    case.check(1, move |rt| {
        let count = count.clone();
        async move {
            let clock = rt.clone();
            rt.spawn("ticks", async move {
                for _ in 0..5 {
                    clock.sleep(Duration::from_millis(50)).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            Ok(())
        }
    });
    case.check(0, move |rt| {
        let ticks = ticks.clone();
        async move {
            rt.sleep(Duration::from_millis(1_000)).await;
            let ticked = ticks.load(Ordering::Relaxed);
            ensure!(ticked == 5, "{ticked} of 5 ticks after the program's end");
            Ok(())
        }
    });
    case.finish(LONG);
}

/// The task tree of a peer.
pub fn a_crash_drops_every_task_and_a_restart_starts_anew<H: Harness>() {
    let alive = Arc::new(AtomicUsize::new(0));
    let starts = Arc::new(AtomicUsize::new(0));
    let mut case = Case::<H>::new(2);
    let (lives, started) = (alive.clone(), starts.clone());
    case.serve(1, move |rt| {
        let (lives, started) = (lives.clone(), started.clone());
        async move {
            started.fetch_add(1, Ordering::Relaxed);
            grow(&rt, &lives, 3);
            std::future::pending().await
        }
    });
    // Two children each, three levels deep: 2 + 4 + 8.
    case.check(0, move |rt| {
        let (alive, starts) = (alive.clone(), starts.clone());
        async move {
            rt.sleep(Duration::from_millis(500)).await;
            let (live, started) = (alive.load(Ordering::Relaxed), starts.load(Ordering::Relaxed));
            ensure!(
                (live, started) == (14, 1),
                "before: {live} tasks, {started} starts"
            );
            rt.sleep(Duration::from_millis(1_000)).await;
            let (live, started) = (alive.load(Ordering::Relaxed), starts.load(Ordering::Relaxed));
            ensure!(
                (live, started) == (0, 1),
                "after the crash: {live} tasks, {started} starts"
            );
            rt.sleep(Duration::from_millis(1_000)).await;
            let (live, started) = (alive.load(Ordering::Relaxed), starts.load(Ordering::Relaxed));
            ensure!(
                (live, started) == (14, 2),
                "after the restart: {live} tasks, {started} starts"
            );
            Ok(())
        }
    });
    case.world.crash(Duration::from_millis(1_000), 1);
    case.world.start(Duration::from_millis(2_000), 1);
    case.finish(LONG);
}

fn grow<R: Runtime>(rt: &R, alive: &Arc<AtomicUsize>, levels: u32) {
    for _ in 0..if levels == 0 { 0 } else { 2 } {
        let (child, count) = (rt.clone(), Alive::new(alive));
        rt.spawn("child", async move {
            grow(&child, &count.0, levels - 1);
            loop {
                child.sleep(Duration::from_millis(70)).await;
            }
        });
    }
}

struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `Entropy::rng`.
pub fn entropy_differs_by_label_by_call_by_peer_and_by_start<H: Harness>() {
    let drawn = Arc::new(Mutex::new(Vec::new()));
    let mut case = Case::<H>::new(2);
    for host in 0..2 {
        let all = drawn.clone();
        case.check(host, move |rt| {
            let all = all.clone();
            async move {
                for label in ["a", "a", "b"] {
                    lock(&all).push(rt.rng(label).next_u64());
                }
                // The second start of host 1 draws as well.
                rt.sleep(Duration::from_millis(if host == 0 { 900 } else { 10 }))
                    .await;
                Ok(())
            }
        });
    }
    case.world.crash(SETTLE, 1);
    case.world.start(2 * SETTLE, 1);
    // Host 1 reports before its crash and after its restart.
    case.awaited += 1;
    case.finish(LONG);
    let drawn = lock(&drawn);
    let different: BTreeSet<u64> = drawn.iter().copied().collect();
    assert_eq!((drawn.len(), different.len()), (9, 9), "{drawn:x?}");
}

/// `Share::shared`.
pub fn shared_values_are_made_once<H: Harness>() {
    let made = Arc::new(AtomicUsize::new(0));
    let mut case = Case::<H>::new(2);
    for host in 0..2 {
        let made = made.clone();
        case.check(host, move |rt| {
            let made = made.clone();
            async move { share(rt, &made).await }
        });
    }
    case.finish(LONG);
    assert_eq!(made.load(Ordering::Relaxed), 1, "made by each peer");
}

async fn share<R: Runtime>(rt: R, made: &AtomicUsize) -> Check {
    let make = || {
        made.fetch_add(1, Ordering::Relaxed);
        String::from("parsed")
    };
    let held = rt.shared([7; 32], make);
    // Both peers hold it now, in real time as well.
    rt.sleep(SETTLE).await;
    ensure!(held.as_str() == "parsed", "another value: {held}");
    Ok(())
}
