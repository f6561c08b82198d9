//! One suite for every back end: what the traits of [`runtime`](super) promise, as named tests.
//!
//! A back end provides a [`Harness`]; `phantom_core::conformance_core!` and `conformance_full!` make its `#[test]`s. The
//! core set holds everywhere. The full set adds what some executors cannot do; which, and why, is in
//! docs/ARCHITECTURE.md, "Runtime back ends".
//!
//! Every test runs programs on hosts, as all our code does. A program reports by its result, not by a panic, since a
//! panic in a task ends different back ends differently.

pub mod datagrams;
pub mod files;
pub mod rules;
pub mod streams;
pub mod tasks;
pub mod time;

use std::error::Error;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Runtime;

/// A small world on one back end.
pub trait Harness {
    /// What programs run against.
    type Runtime: Runtime;

    /// A sleep ends at most so much too late. Real time needs room for a busy machine.
    const GRAIN: Duration;
    /// From one host to another, at least.
    const ONE_WAY: Duration;

    /// A world of so many hosts, with nothing running.
    fn new(hosts: usize) -> Self;
    /// Where a host is.
    fn address(&self, host: usize) -> IpAddr;
    /// What an honest resolver says.
    fn name(&mut self, name: &str, addresses: Vec<IpAddr>);
    /// Says what a host runs.
    fn program<F, Fut>(&mut self, host: usize, program: F)
    where
        F: Fn(Self::Runtime) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static;
    /// Starts the host's program at a time (again, after a crash).
    fn start(&mut self, at: Duration, host: usize);
    /// Crashes a host at a time.
    fn crash(&mut self, at: Duration, host: usize);
    /// Runs on for a while.
    fn run(&mut self, time: Duration);
}

/// How a program reports.
pub type Check = Result<(), Box<dyn Error + Send + Sync>>;

/// Fails the check with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}
use ensure;

/// A test on a harness: programs that must end well.
pub struct Case<H: Harness> {
    /// The world.
    pub world: H,
    reports: Arc<Mutex<Reports>>,
    awaited: usize,
}

#[derive(Default)]
struct Reports {
    succeeded: usize,
    failures: Vec<String>,
}

impl<H: Harness> Case<H> {
    /// A world of so many hosts.
    pub fn new(hosts: usize) -> Self {
        Self {
            world: H::new(hosts),
            reports: Arc::default(),
            awaited: 0,
        }
    }

    /// Runs `program` on `host` from the start; it must succeed once per start.
    pub fn check<F, Fut>(&mut self, host: usize, program: F)
    where
        F: Fn(H::Runtime) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Check> + Send + 'static,
    {
        self.awaited += 1;
        self.program(host, true, program);
        self.world.start(Duration::ZERO, host);
    }

    /// Runs `program` on `host` from the start; nobody waits for its end, but it must not fail.
    pub fn serve<F, Fut>(&mut self, host: usize, program: F)
    where
        F: Fn(H::Runtime) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Check> + Send + 'static,
    {
        self.program(host, false, program);
        self.world.start(Duration::ZERO, host);
    }

    fn program<F, Fut>(&mut self, host: usize, counts: bool, program: F)
    where
        F: Fn(H::Runtime) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Check> + Send + 'static,
    {
        let reports = self.reports.clone();
        self.world.program(host, move |rt| {
            let (reports, running) = (reports.clone(), program(rt));
            async move {
                match running.await {
                    Ok(()) => lock(&reports).succeeded += usize::from(counts),
                    Err(e) => lock(&reports).failures.push(format!("host {host}: {e}")),
                }
            }
        });
    }

    /// Runs until every awaited program has succeeded.
    ///
    /// # Panics
    /// If one fails, or they are not done after `limit`.
    pub fn finish(mut self, limit: Duration) -> H {
        let slice = Duration::from_millis(50);
        let mut ran = Duration::ZERO;
        loop {
            {
                let reports = lock(&self.reports);
                assert!(reports.failures.is_empty(), "{}", reports.failures.join("; "));
                if reports.succeeded >= self.awaited {
                    return self.world;
                }
                let (succeeded, awaited) = (reports.succeeded, self.awaited);
                assert!(
                    ran < limit,
                    "{succeeded} of {awaited} programs ended within {limit:?}"
                );
            }
            self.world.run(slice);
            ran += slice;
        }
    }
}

/// Where a host's service is in these tests.
fn at(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 7_000)
}

/// "Any address", port `port`.
fn any(port: u16) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], port))
}

/// Time for the other programs to be ready.
const SETTLE: Duration = Duration::from_millis(200);
/// Longer than anything that happens at all takes.
const LONG: Duration = Duration::from_secs(20);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a `#[test]` of each named conformance test.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($harness:ident, $($module:ident::{$($name:ident),* $(,)?}),* $(,)?) => {
        $(mod $module {
            $(#[test]
            fn $name() {
                $crate::runtime::conformance::$module::$name::<super::$harness>();
            })*
        })*
    };
}

/// The core set, for every back end: `conformance_core!(MyHarness);` at the top of a test file.
#[macro_export]
macro_rules! conformance_core {
    ($harness:ident) => {
        $crate::conformance_tests!(
            $harness,
            time::{
                sleeps_end_at_their_instant_and_not_before,
                clocks_never_step_back,
                dropped_sleeps_are_forgotten,
                a_timeout_ends_at_its_limit_and_drops_what_it_limits,
                the_wall_clock_moves_with_time,
            },
            tasks::{
                an_abort_drops_the_future_wherever_it_waits,
                a_task_outlives_its_handle_unless_it_is_owned,
                tasks_outlive_the_program_that_started_them,
                a_crash_drops_every_task_and_a_restart_starts_anew,
                entropy_differs_by_label_by_call_by_peer_and_by_start,
                shared_values_are_made_once,
            },
            streams::{
                streams_carry_both_ways_in_order,
                a_half_closed_stream_still_carries_the_other_way,
                what_was_written_before_a_drop_arrives_and_then_the_end,
                a_port_that_nobody_listens_on_refuses,
                port_zero_picks_a_free_port_and_a_taken_one_is_refused,
                both_ends_agree_on_their_addresses,
                writing_to_a_peer_that_is_gone_fails_in_the_end,
                an_accept_that_is_dropped_loses_no_stream,
                after_a_crash_no_byte_comes_and_the_restarted_host_listens_again,
                many_streams_at_once,
                unread_bytes_do_not_destroy_an_answer,
            },
            datagrams::{
                datagrams_arrive_with_their_source,
                a_datagram_to_nobody_is_no_error,
                names_resolve_and_unknown_ones_do_not_exist,
            },
            files::{
                files_follow_their_contract,
                names_that_leave_the_store_are_refused,
                a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest,
                a_written_file_is_whole_and_a_removed_one_gone_after_a_crash,
            },
            rules::{
                a_drop_rule_stalls_established_streams_and_heals,
                a_connect_under_a_drop_rule_hangs_until_it_ends,
                a_reset_rule_breaks_streams_and_refuses_new_ones,
                datagrams_can_be_switched_off,
                names_are_forged_and_silenced,
            },
        );
    };
}

/// What the full set adds to the core set.
#[macro_export]
macro_rules! conformance_full {
    ($harness:ident) => {
        mod full {
            use super::$harness;
            $crate::conformance_tests!(
                $harness,
                streams::{
                    a_writer_waits_while_nobody_reads,
                    connecting_takes_a_round_trip,
                },
                datagrams::{a_datagram_beyond_any_mtu_does_not_arrive},
            );
        }
    };
}
