//! When the program is to end. Spec: pt-spec §3.4.

use std::future::pending;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How often it is looked whether the parent is still there.
const LOOK: Duration = Duration::from_secs(3);

/// What ends the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The parent closed our standard input.
    InputClosed,
    /// A signal asks for it.
    Signal,
    /// The parent is no more.
    ParentGone,
}

/// Waits until the program is to end: its input is closed, if the parent said that this means so, a signal (SIGTERM, SIGINT)
/// asks for it, or the parent died. Cancel safe.
///
/// Where the input is no pipe, a thread may wait for it for ever: end the process with `std::process::exit`, or the runtime
/// with `shutdown_background`.
pub async fn told_to_end(exit_on_stdin_close: bool) -> Told {
    tokio::select! {
        biased;
        () = signalled() => Told::Signal,
        () = input_closed(exit_on_stdin_close) => Told::InputClosed,
        () = parent_gone() => Told::ParentGone,
    }
}

async fn input_closed(means_end: bool) {
    if !means_end {
        return pending().await;
    }
    #[cfg(unix)]
    if let Some(pipe) = input_pipe() {
        return closed(pipe).await;
    }
    closed(tokio::io::stdin()).await;
}

/// Standard input as a pipe that no thread has to wait for, which it is if a program made it.
#[cfg(unix)]
fn input_pipe() -> Option<tokio::net::unix::pipe::Receiver> {
    let input = std::os::fd::AsFd::as_fd(&std::io::stdin())
        .try_clone_to_owned()
        .ok()?;
    tokio::net::unix::pipe::Receiver::from_owned_fd(input).ok()
}

/// What is written there means nothing.
async fn closed(mut input: impl AsyncRead + Unpin) {
    let mut buffer = [0; 256];
    while let Ok(1..) = input.read(&mut buffer).await {}
}

#[cfg(unix)]
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};

    let both = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let Ok((mut term, mut interrupt)) = both else {
        return pending().await;
    };
    tokio::select! {
        biased;
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signalled() {
    if tokio::signal::ctrl_c().await.is_err() {
        pending::<()>().await;
    }
}

/// The parent's id changes when it dies: whoever adopts us is another.
#[cfg(unix)]
#[expect(
    clippy::disallowed_methods,
    reason = "watches a process of the real world, on tokio"
)]
async fn parent_gone() {
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(not(unix))]
async fn parent_gone() {
    pending().await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_to_the_input_does_not_end_the_program_and_its_end_does() {
        let (mut parent, input) = tokio::io::duplex(64);
        let mut closed = Box::pin(closed(input));
        let write = async {
            parent.write_all(&[b'x'; 1000]).await.unwrap();
            parent.flush().await.unwrap();
        };
        tokio::select! {
            biased;
            () = &mut closed => panic!("ended"),
            () = write => {}
        }
        drop(parent);
        closed.await;
    }
}
