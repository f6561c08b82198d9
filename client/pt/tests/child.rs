//! The child's side with a parent that is this test: when the program ends, and what it says when it cannot begin.

#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use common::{plain, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LOOK: Duration = Duration::from_millis(20);
const CLIENT: (&str, &str) = ("TOR_PT_CLIENT_TRANSPORTS", "unknown,plain");
const VERSION: (&str, &str) = ("TOR_PT_MANAGED_TRANSPORT_VER", "2,1");
const STATE: (&str, &str) = ("TOR_PT_STATE_LOCATION", "/nowhere");
const EXIT: (&str, &str) = ("TOR_PT_EXIT_ON_STDIN_CLOSE", "1");

fn start(pairs: &[(&str, &str)], input: Stdio) -> Child {
    let mut command = Command::new(plain());
    command
        .envs(pairs.iter().copied())
        .stdin(input)
        .stdout(Stdio::piped());
    command.stderr(Stdio::null()).spawn().unwrap()
}

/// Reads up to the last line about transports.
fn ready(program: &mut Child) -> String {
    let mut output = BufReader::new(program.stdout.as_mut().unwrap());
    let mut said = String::new();
    while !said.ends_with("CMETHODS DONE\n") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "{said}");
    }
    said
}

fn ended(program: &mut Child) -> Option<ExitStatus> {
    for _ in 0..500 {
        if let Some(status) = program.try_wait().unwrap() {
            return Some(status);
        }
        wait(LOOK);
    }
    program.kill().unwrap();
    None
}

#[test]
fn the_program_says_just_what_the_specification_has() {
    let mut program = start(&[CLIENT, VERSION, STATE, EXIT], Stdio::piped());
    let said = ready(&mut program);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "VERSION 1"), "{said}");
    assert!(lines[1].starts_with("CMETHOD plain socks5 127.0.0.1:"), "{said}");
    drop(program.stdin.take());
    assert!(ended(&mut program).expect("it goes on without input").success());
}

#[test]
fn a_closed_input_that_means_nothing_ends_nothing_and_a_signal_does() {
    let mut program = start(&[CLIENT, VERSION, STATE], Stdio::null());
    ready(&mut program);
    wait(Duration::from_millis(500));
    assert_eq!(program.try_wait().unwrap(), None);
    kill(
        Pid::from_raw(i32::try_from(program.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert!(ended(&mut program).expect("it goes on").success());
    let mut last = String::new();
    program.stdout.unwrap().read_to_string(&mut last).unwrap();
    assert_eq!(last, "LOG SEVERITY=info MESSAGE=\"ending: Signal\"\n");
}

#[test]
fn an_input_that_is_no_pipe_can_end_the_program_too() {
    let mut program = start(&[CLIENT, VERSION, STATE, EXIT], Stdio::null());
    ready(&mut program);
    assert!(ended(&mut program).expect("it goes on").success());
}

/// As when a parent crashes that did not promise to close the input, or whose end of it another process holds.
#[test]
fn a_program_whose_parent_died_ends() {
    let mut parent = Command::new("/bin/sh");
    // The inner shell says its number before it becomes the program, so that the number comes first.
    let script = "sh -c 'echo $$; exec \"$0\"' \"$0\" & wait";
    parent.args(["-c", script]).arg(plain());
    parent
        .envs([CLIENT, VERSION, STATE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut parent = parent.spawn().unwrap();
    let said = ready(&mut parent);
    let program = said.lines().find_map(|line| line.parse::<u32>().ok()).unwrap();
    assert!(runs(program));
    parent.kill().unwrap();
    parent.wait().unwrap();
    for _ in 0..500 {
        if !runs(program) {
            return;
        }
        wait(LOOK);
    }
    kill(Pid::from_raw(i32::try_from(program).unwrap()), Signal::SIGKILL).unwrap();
    panic!("it goes on");
}

/// Whoever adopts it may leave it a zombie for a while.
fn runs(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_program_that_cannot_begin_says_why_and_ends() {
    for (pairs, wanted) in [
        (&[][..], "ENV-ERROR TOR_PT_MANAGED_TRANSPORT_VER is not set"),
        (
            &[("TOR_PT_MANAGED_TRANSPORT_VER", "2")],
            "VERSION-ERROR no-version\n",
        ),
        (
            &[VERSION, CLIENT],
            "VERSION 1\nENV-ERROR TOR_PT_STATE_LOCATION is not set",
        ),
    ] {
        let mut program = start(pairs, Stdio::piped());
        assert!(!ended(&mut program).expect("it goes on").success());
        let mut said = String::new();
        program.stdout.unwrap().read_to_string(&mut said).unwrap();
        assert!(said.starts_with(wanted), "{said}");
    }
}
