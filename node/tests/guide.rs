//! docs/OPERATOR.md, followed to the letter: every command in it is run, on addresses of this machine.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const GUIDE: &str = include_str!("../../docs/OPERATOR.md");

/// Where the guide's addresses are here; the bridge's and the node's ports are the same, their addresses are not.
const ADDRESSES: [(&str, &str); 4] = [
    (
        "0.0.0.0:9100 --address 192.0.2.1:9100",
        "127.78.1.1:9100 --outgoing 127.78.1.1 --interval 2s",
    ),
    (
        "0.0.0.0:443 --address 203.0.113.5:443",
        "127.78.2.1:4430 --outgoing 127.78.2.1 --interval 2s",
    ),
    (
        "0.0.0.0:443 --address 203.0.113.77:443",
        "127.78.2.2:4430 --outgoing 127.78.2.2 --interval 2s --router 127.78.3.1:6881",
    ),
    (
        "0.0.0.0:6881 --join router.bittorrent.com:6881",
        "127.78.3.5:6881 --join 127.78.3.1:6881",
    ),
];

/// Programs in the background, ended with the test.
#[derive(Default)]
struct Background(Vec<Child>);

impl Background {
    fn start(&mut self, dir: &Path, args: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phantom-node"));
        // Killed, a DHT node leaves an empty directory: not in the machine's.
        command.env("TMPDIR", dir);
        command.current_dir(dir).args(args).stdin(Stdio::null());
        let log = fs::File::create(dir.join(format!("log-{}", self.0.len()))).unwrap();
        self.0
            .push(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a command printed, if it succeeded; otherwise all it said.
fn run(dir: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phantom-node"));
    let output = command.current_dir(dir).args(args).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    if output.status.success() {
        return Ok(out);
    }
    Err(out + &String::from_utf8(output.stderr).unwrap())
}

/// A command that waits for others to be ready is run until it succeeds.
#[expect(
    clippy::disallowed_methods,
    reason = "a test of real processes waits for them in real time"
)]
fn eventually(dir: &Path, args: &[&str], wanted: &str) {
    let mut last = String::new();
    for _ in 0..300 {
        match run(dir, args) {
            Ok(out) if out.contains(wanted) => return,
            Ok(said) | Err(said) => last = said,
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{args:?}: not within 30 s {wanted:?}; last: {last}");
}

fn line(printed: &str) -> String {
    printed
        .lines()
        .find_map(|line| line.strip_prefix("line   "))
        .unwrap()
        .to_owned()
}

/// The commands in one section of the guide.
fn section(title: &str) -> Vec<String> {
    let from = GUIDE.find(&format!("## {title}\n")).unwrap();
    let text = &GUIDE[from..];
    let end = text[3..].find("\n## ").map_or(text.len(), |end| end + 3);
    let commands = text[..end]
        .lines()
        .filter(|line| line.starts_with("phantom-node "));
    commands.map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_operators_guide_works() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut background = Background::default();
    // The other two authorities, and a DHT to join, belong to others.
    let mut lines = vec![String::new()];
    let place = |n: u8| {
        [
            format!("127.78.1.{n}:9100"),
            format!("127.78.1.{n}"),
            format!("other-{n}"),
        ]
    };
    for n in 2..=3 {
        let [listen, ip, name] = place(n);
        let args = [
            "directory",
            "init",
            "--dir",
            &name,
            "--listen",
            &listen,
            "--outgoing",
            &ip,
            "--interval",
            "2s",
        ];
        lines.push(line(&run(dir, &args).unwrap()));
    }
    for n in 1..=4 {
        background.start(
            dir,
            &[
                "dht",
                "--bind",
                &format!("127.78.3.{n}:6881"),
                "--join",
                "127.78.3.1:6881",
            ],
        );
    }
    let mut done = 0;
    let mut follow = |title: &str, lines: &mut Vec<String>, background: &mut Background| {
        for command in section(title) {
            done += 1;
            let mut here = command.clone();
            for (there, ours) in ADDRESSES {
                here = here.replace(there, ours);
            }
            for (n, line) in lines.iter().enumerate() {
                here = here.replace(&format!("AUTHORITY_{}", n + 1), line);
            }
            assert!(!here.contains("0.0.0.0") && !here.contains("AUTHORITY"), "{here}");
            let args: Vec<&str> = here.split(' ').skip(1).collect();
            match args[..] {
                ["run" | "dht", ..] | ["directory", "run", ..] => background.start(dir, &args),
                ["status", ..] => eventually(dir, &args, "document"),
                // The second time the node runs and is to be listed; a bridge wants the DHT.
                ["check", "--offline", ..] => drop(run(dir, &args).unwrap()),
                ["check", ..] => eventually(dir, &args, "ok    document"),
                _ => {
                    let printed = run(dir, &args).unwrap_or_else(|said| panic!("{command}: {said}"));
                    if args[..2] == ["directory", "init"] && lines[0].is_empty() {
                        lines[0] = line(&printed);
                        // Now that there are three lines the others write their settings, too, and start.
                        for n in 2..=3 {
                            let [listen, ip, name] = place(n);
                            let mut args = vec!["directory", "init", "--rewrite", "--dir", &name];
                            args.extend(["--listen", &listen, "--outgoing", &ip, "--interval", "2s"]);
                            lines.iter().for_each(|line| args.extend(["--authority", line]));
                            run(dir, &args).unwrap();
                            background.start(
                                dir,
                                &["directory", "run", "--config", &format!("{name}/directory.toml")],
                            );
                        }
                    }
                }
            }
        }
    };
    follow("A directory authority", &mut lines, &mut background);
    follow("A DHT node", &mut lines, &mut background);
    follow("A service node", &mut lines, &mut background);
    fs::write(
        dir.join("network.toml"),
        include_str!("../../deploy/network.toml"),
    )
    .unwrap();
    follow("Cohorts and bundles", &mut lines, &mut background);
    follow("A bridge", &mut lines, &mut background);
    let all = GUIDE
        .lines()
        .filter(|line| line.starts_with("phantom-node "))
        .count();
    assert_eq!(done, all, "every command was run");
    for child in &mut background.0 {
        assert!(child.try_wait().unwrap().is_none(), "what was started runs");
    }
}
