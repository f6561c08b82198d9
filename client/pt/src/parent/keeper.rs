//! A program that is kept running: started, started again when it dies, ended when its owner wants it to.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use super::event::{Event, Events, Outlet};
use super::launch::{Launch, Limits};
use super::life::{Failure, Life, live};
use super::restart::{Decision, Restarts};
use super::startup::Methods;

/// What the owner sees.
#[derive(Clone, Debug)]
enum State {
    /// Between two lives, or before the first is ready.
    Unready,
    Ready(Arc<Methods>),
    /// It ended as asked; or it failed for good.
    Over(Option<Arc<Failure>>),
}

/// There is no program any more.
#[derive(Clone, Debug, Error)]
pub enum Over {
    /// It was given up, and why.
    #[error(transparent)]
    GivenUp(Arc<Failure>),
    /// Its owner ended it, or dropped its keeper.
    #[error("the program was ended")]
    Ended,
}

/// The owner's handle to a program. When it is dropped the program ends.
#[derive(Debug)]
pub struct Managed {
    state: watch::Receiver<State>,
    end: watch::Sender<bool>,
    events: Option<Events>,
}

/// What keeps the program running: a future for the owner to spawn. When it is dropped the program is killed.
#[derive(Debug)]
pub struct Keeper {
    launch: Launch,
    limits: Limits,
    state: watch::Sender<State>,
    end: watch::Receiver<bool>,
    outlet: Outlet,
}

impl Managed {
    /// Nothing is started before [`Keeper::run`] runs, on a tokio runtime.
    pub fn new(launch: Launch, limits: Limits) -> (Self, Keeper) {
        let (state_sender, state) = watch::channel(State::Unready);
        let (end, end_receiver) = watch::channel(false);
        let (outlet, events) = Outlet::new();
        let managed = Self {
            state,
            end,
            events: Some(events),
        };
        let keeper = Keeper {
            launch,
            limits,
            state: state_sender,
            end: end_receiver,
            outlet,
        };
        (managed, keeper)
    }

    /// What is told of the program; the first time this is called.
    pub const fn take_events(&mut self) -> Option<Events> {
        self.events.take()
    }

    /// Its transports, once they are ready; through restarts, if need be. Cancel safe.
    ///
    /// # Errors
    /// There is no program any more.
    pub async fn ready(&mut self) -> Result<Arc<Methods>, Over> {
        let settled = self
            .state
            .wait_for(|state| !matches!(state, State::Unready))
            .await;
        match settled.as_deref() {
            Ok(State::Ready(methods)) => Ok(methods.clone()),
            Ok(State::Over(Some(failure))) => Err(Over::GivenUp(failure.clone())),
            Ok(State::Over(None) | State::Unready) | Err(_) => Err(Over::Ended),
        }
    }

    /// Its transports, if they are ready now.
    pub fn methods(&self) -> Option<Arc<Methods>> {
        match &*self.state.borrow() {
            State::Ready(methods) => Some(methods.clone()),
            _ => None,
        }
    }

    /// Ends the program, and waits until it is no more.
    pub async fn end(mut self) {
        self.end.send_replace(true);
        // An error: the keeper is no more, and then neither is the program.
        let _ = self.state.wait_for(|state| matches!(state, State::Over(_))).await;
    }
}

impl Keeper {
    /// Keeps the program running until the owner ends it or drops its handle.
    ///
    /// # Errors
    /// It was given up, and why.
    pub async fn run(mut self) -> Result<(), Arc<Failure>> {
        let zero = now();
        let mut restarts = Restarts::new(self.limits.restart.clone());
        loop {
            let started = zero.elapsed();
            let state = &self.state;
            let on_ready = |methods: &Arc<Methods>| {
                state.send_replace(State::Ready(methods.clone()));
            };
            let end = asked(self.end.clone());
            let life = live(&self.launch, &self.limits, &mut self.outlet, on_ready, end).await;
            let what = match life {
                Life::Asked => {
                    self.state.send_replace(State::Over(None));
                    return Ok(());
                }
                Life::Failed(what) => what,
            };
            self.state.send_replace(State::Unready);
            let decision = if what.is_final() {
                Decision::GiveUp
            } else {
                restarts.died(started, zero.elapsed())
            };
            let program = self.launch.program.clone();
            let failure = Arc::new(Failure { program, what });
            let pause = match decision {
                Decision::RestartAt(at) => Some(at.saturating_sub(zero.elapsed())),
                Decision::GiveUp => None,
            };
            self.outlet.tell(Event::Ended {
                failure: failure.clone(),
                restart_in: pause,
            });
            let Some(pause) = pause else {
                self.state.send_replace(State::Over(Some(failure.clone())));
                return Err(failure);
            };
            tokio::select! {
                biased;
                () = asked(self.end.clone()) => {
                    self.state.send_replace(State::Over(None));
                    return Ok(());
                }
                () = sleep(pause) => {}
            }
        }
    }
}

/// Until the owner wants the program to end, or is no more.
async fn asked(mut end: watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "keeps a process of the real world, on tokio"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "keeps a process of the real world, on tokio"
)]
async fn sleep(pause: Duration) {
    tokio::time::sleep(pause).await;
}
