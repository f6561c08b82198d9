//! The binary as a person or a program meets it: messages, exit codes, files. Without a network.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use phantom_core::crypto::keys::IdentitySecret;
use phantom_core::directory::sign::KeySet;
use phantom_core::rendezvous::{Bundle, mint};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

fn bundle(dir: &Path) -> PathBuf {
    let minted = mint(&mut ChaCha12Rng::seed_from_u64(1), 1, 4).expect("four bridges");
    let key = IdentitySecret::from_bytes(&[1; 32]).public();
    let bundle = Bundle {
        cohort: minted.cohorts[0].clone(),
        dht_nodes: [].into(),
        routers: [].into(),
        entries: [].into(),
        directory: KeySet::new(0, 1, &[key]).expect("1 of 1"),
    };
    let path = dir.join("bundle");
    std::fs::write(&path, &*bundle.encode()).expect("written");
    path
}

struct User {
    home: PathBuf,
    _dir: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let user = Self {
            home: dir.path().join("home"),
            _dir: dir,
        };
        let bundle = bundle(user._dir.path());
        let made = user.run(&["init", "--bundle", bundle.to_str().expect("text")]);
        assert_eq!(made.status.code(), Some(0), "{made:?}");
        user
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phantom"));
        command.arg("--home").arg(&self.home).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

#[test]
fn two_people_become_contacts_and_see_the_same_short_string() {
    let (a, b) = (User::new(), User::new());
    let offer = a.ok(&["invite", "bob"]);
    let accepted = b.run(&["accept", offer.trim(), "--name", "alice"]);
    let answer = String::from_utf8(accepted.stdout).expect("text");
    let finished = a.run(&["accept", answer.trim()]);
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    let short = |stderr: &[u8]| {
        let text = String::from_utf8_lossy(stderr).into_owned();
        let at = text.find("must see ").expect("it says so") + "must see ".len();
        text[at..at + 14].to_owned()
    };
    assert_eq!(short(&accepted.stderr), short(&finished.stderr));
    // The confirmation shows the second that the first has the same keys; once.
    let confirmation = String::from_utf8(finished.stdout).expect("text");
    let confirmed = b.run(&["accept", confirmation.trim()]);
    assert_eq!(confirmed.status.code(), Some(0), "{confirmed:?}");
    let told = String::from_utf8_lossy(&confirmed.stderr).into_owned();
    assert!(told.contains("alice has the same keys"), "{told}");
    let again = b.fails(2, &["accept", confirmation.trim()]);
    assert!(again.contains("confirms no contact"), "{again}");
    // Both can write now; the message waits.
    assert_eq!(
        a.ok(&["send", "bob", "hello", "--wait", "accepted"]),
        "accepted\n"
    );
    // Stored in time or not, such a message ends, and the command with it.
    let ended = a.fails(1, &["send", "bob", "hello", "--ttl", "1 ms", "--within", "1 h"]);
    assert!(ended.contains("its time ended"), "{ended}");
    let again = a.fails(2, &["accept", answer.trim()]);
    assert!(again.contains("answers no offer"), "{again}");
    let taken = b.fails(
        2,
        &["accept", a.ok(&["invite", "carol"]).trim(), "--name", "alice"],
    );
    assert!(taken.contains("already"), "{taken}");
}

#[test]
fn a_client_that_cannot_open_its_state_says_so_and_ends() {
    let user = User::new();
    std::fs::write(user.home.join("client.vault"), b"rubbish").expect("written");
    for args in [
        &["doctor"] as &[&str],
        &["send", "bob", "hi"],
        &["receive", "--for", "1 min"],
    ] {
        let error = user.fails(2, args);
        assert!(
            error.contains("client.vault") && error.lines().count() == 1,
            "{error}"
        );
    }
}

#[test]
fn mistakes_are_answered_with_what_was_wanted_and_exit_code_2() {
    let user = User::new();
    let cases: [(&[&str], &str); 7] = [
        (&["send", "nobody", "hi"], "no contact of that name"),
        (&["accept", "rubbish"], "PHANTOM:"),
        (&["send", "bob", "hi", "--ttl", "5"], "as in \"30 s\""),
        (&["invite"], "NAME"),
        (&["invite", "--for-cohort", "rubbish"], "phantomcohort1"),
        (&["--steps", "dth", "doctor"], "dht"),
        (&["--boxes", "40", "doctor"], "1..=32"),
    ];
    for (args, wanted) in cases {
        let error = user.fails(2, args);
        assert!(error.contains(wanted), "{args:?}: {error}");
    }
    let bundle = bundle(user._dir.path());
    let twice = user.fails(2, &["init", "--bundle", bundle.to_str().expect("text")]);
    assert!(twice.contains("already"), "{twice}");
    std::fs::write(user.home.join("config.toml"), "pol = \"1 s\"").expect("written");
    let error = user.fails(2, &["doctor"]);
    assert!(error.contains("config.toml") && error.contains("pol"), "{error}");
}

#[test]
fn without_init_the_client_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let user = User {
        home: dir.path().join("empty"),
        _dir: dir,
    };
    assert!(user.fails(2, &["doctor"]).contains("phantom init --bundle FILE"));
}

#[test]
fn without_a_way_in_doctor_says_honestly_what_was_tried() {
    let user = User::new();
    let output = user.run(&["doctor", "--for", "1500 ms"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        text.contains("entry:     none") && text.contains("cached: nothing found"),
        "{text}"
    );
}

#[test]
fn the_files_are_the_users_alone_and_hold_no_secret_in_the_clear() {
    let user = User::new();
    user.ok(&["invite", "bob-the-contact"]);
    let secret = mint(&mut ChaCha12Rng::seed_from_u64(1), 1, 4)
        .expect("four bridges")
        .cohorts[0]
        .secret
        .clone();
    let mut files = 0;
    for entry in std::fs::read_dir(&user.home).expect("listed") {
        let path = entry.expect("an entry").path();
        let mode = std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        let bytes = std::fs::read(&path).expect("read");
        assert!(!bytes.windows(32).any(|window| window == secret.as_bytes()));
        assert!(!bytes.windows(15).any(|window| window == b"bob-the-contact"));
        files += 1;
    }
    assert!(files >= 4, "{files}");
}

#[test]
fn a_passphrase_opens_what_it_sealed_and_another_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let user = User {
        home: dir.path().join("home"),
        _dir: dir,
    };
    let bundle = bundle(user._dir.path());
    let (right, wrong) = (user._dir.path().join("right"), user._dir.path().join("wrong"));
    std::fs::write(&right, "correct horse\n").expect("written");
    std::fs::write(&wrong, "battery staple\n").expect("written");
    let (right, wrong) = (right.to_str().expect("text"), wrong.to_str().expect("text"));
    user.ok(&[
        "init",
        "--passphrase-file",
        right,
        "--bundle",
        bundle.to_str().expect("text"),
    ]);
    assert!(
        user.ok(&["invite", "--my-cohort", "--passphrase-file", right])
            .starts_with("phantomcohort1")
    );
    let refused = user.fails(2, &["invite", "--my-cohort", "--passphrase-file", wrong]);
    assert!(refused.contains("passphrase"), "{refused}");
}

#[test]
fn the_daemon_answers_every_line_and_ends_with_its_input() {
    let user = User::new();
    let mut daemon = user
        .command(&["--steps", "cached", "daemon"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let lines = concat!(
        "{\"id\": 1, \"do\": \"status\"}\n",
        "{\"id\": 2, \"do\": {\"send\": {\"contact\": \"nobody\", \"text\": \"hi\", \"ttl\": \"1 h\"}}}\n",
        "not json\n",
        "{\"id\": 3, \"do\": {\"offer\": {\"name\": \"bob\"}}}\n",
        "{\"id\": 4, \"do\": {\"offer\": {\"nam\": \"bob\"}}}\n",
    );
    let mut input = daemon.stdin.take().expect("piped");
    input.write_all(lines.as_bytes()).expect("written");
    drop(input);
    let output = daemon.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|v: &serde_json::Value| v.get("notice").is_none())
        .collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[0]["ok"]["entry"].is_null() && lines[0]["id"] == 1);
    assert!(
        lines[1]["error"]
            .as_str()
            .expect("an error")
            .contains("no contact")
    );
    assert!(
        lines[2]["error"]
            .as_str()
            .expect("an error")
            .contains("not a request")
    );
    assert!(
        lines[3]["ok"]["text"]
            .as_str()
            .expect("a text")
            .starts_with("PHANTOM:")
    );
    assert!(lines[4]["error"].as_str().expect("an error").contains("name"));
}

#[test]
fn two_clients_do_not_share_a_folder() {
    let user = User::new();
    let mut daemon = user
        .command(&["--steps", "cached", "daemon"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = daemon.stdin.take().expect("piped");
    input
        .write_all(b"{\"id\": 1, \"do\": \"status\"}\n")
        .expect("written");
    let mut first = String::new();
    let mut output = std::io::BufReader::new(daemon.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut output, &mut first).expect("an answer");
    assert!(user.fails(2, &["doctor"]).contains("another phantom"));
    drop(input);
    assert_eq!(daemon.wait().expect("it ends").code(), Some(0));
}

#[test]
fn verify_prints_the_hash_of_the_program_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let user = User {
        home: dir.path().join("none"),
        _dir: dir,
    };
    let program = std::fs::read(env!("CARGO_BIN_EXE_phantom")).expect("read");
    assert!(
        user.ok(&["verify"])
            .contains(blake3::hash(&program).to_hex().as_str())
    );
}
