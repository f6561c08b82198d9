//! Clocks, sleeps and timeouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Case, Harness, LONG, ensure};
use crate::runtime::{Clock, timeout};
use crate::units::Instant;

/// `Clock::sleep_until`.
pub fn sleeps_end_at_their_instant_and_not_before<H: Harness>() {
    let mut case = Case::<H>::new(1);
    case.check(0, |rt| async move {
        for ms in [0, 1, 7, 20, 133] {
            let (asked, before) = (Duration::from_millis(ms), rt.now());
            rt.sleep(asked).await;
            let took = rt.now().saturating_since(before);
            ensure!(took >= asked, "a sleep of {asked:?} took {took:?}");
            ensure!(took <= asked + H::GRAIN, "a sleep of {asked:?} took {took:?}");
        }
        let before = rt.now();
        rt.sleep_until(Instant::ZERO).await;
        ensure!(
            rt.now().saturating_since(before) <= H::GRAIN,
            "a sleep until the past waits"
        );
        Ok(())
    });
    case.finish(LONG);
}

/// `Clock::now`.
pub fn clocks_never_step_back<H: Harness>() {
    let mut case = Case::<H>::new(1);
    case.check(0, |rt| async move {
        let mut last = rt.now();
        for i in 0..200 {
            if i % 10 == 0 {
                rt.sleep(Duration::from_millis(1)).await;
            }
            let now = rt.now();
            ensure!(now >= last, "{last} then {now}");
            last = now;
        }
        ensure!(
            last >= Instant::ZERO + Duration::from_millis(20),
            "twenty sleeps of 1 ms end at {last}"
        );
        Ok(())
    });
    case.finish(LONG);
}

/// "Dropping it costs nothing later."
pub fn dropped_sleeps_are_forgotten<H: Harness>() {
    let mut case = Case::<H>::new(1);
    case.check(0, |rt| async move {
        for _ in 0..1_000 {
            // Polled once, so that it is registered, then dropped.
            let short = timeout(&rt, Duration::from_secs(3_600), async {}).await;
            ensure!(short.is_ok(), "a ready future timed out");
            tokio::select! {
                biased;
                () = rt.sleep(Duration::from_secs(3_600)) => return Err("an hour passed".into()),
                () = std::future::ready(()) => {}
            }
        }
        let before = rt.now();
        rt.sleep(Duration::from_millis(5)).await;
        let took = rt.now().saturating_since(before);
        ensure!(
            took <= Duration::from_millis(5) + H::GRAIN,
            "a sleep of 5 ms took {took:?}"
        );
        Ok(())
    });
    case.finish(LONG);
}

/// `timeout`.
pub fn a_timeout_ends_at_its_limit_and_drops_what_it_limits<H: Harness>() {
    let mut case = Case::<H>::new(1);
    case.check(0, |rt| async move {
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = Guard(dropped.clone());
        let limit = Duration::from_millis(30);
        let before = rt.now();
        let ended = timeout(&rt, limit, async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        ensure!(ended.await.is_err(), "what never ends has ended");
        let took = rt.now().saturating_since(before);
        ensure!(
            took >= limit && took <= limit + H::GRAIN,
            "a limit of {limit:?} took {took:?}"
        );
        ensure!(dropped.load(Ordering::Relaxed), "what timed out is still there");
        let value = timeout(&rt, Duration::from_secs(5), async {
            rt.sleep(Duration::from_millis(10)).await;
            7
        });
        ensure!(value.await == Ok(7), "what ends in time has timed out");
        Ok(())
    });
    case.finish(LONG);
}

/// `Clock::wall`, on a clock that is right.
pub fn the_wall_clock_moves_with_time<H: Harness>() {
    let mut case = Case::<H>::new(1);
    case.check(0, |rt| async move {
        let before = rt.wall();
        ensure!(
            before.as_unix_secs() > 1_700_000_000,
            "the wall clock says {before:?}"
        );
        rt.sleep(Duration::from_millis(50)).await;
        let passed = rt.wall().saturating_since(before);
        // A real wall clock may be slewed meanwhile.
        ensure!(passed >= Duration::from_millis(45), "{passed:?} in 50 ms");
        ensure!(
            passed <= Duration::from_millis(55) + H::GRAIN,
            "{passed:?} in 50 ms"
        );
        Ok(())
    });
    case.finish(LONG);
}

/// Says that it was dropped.
pub(super) struct Guard(pub(super) Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
