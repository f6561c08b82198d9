//! What a peer keeps goes through `Store`, so that a simulated crash loses what a real one would. Only the back ends of the
//! runtime touch files, and the programs around the peers: command lines, settings, the recordings of runs.

use std::fs;
use std::path::{Path, PathBuf};

/// Sources of the workspace, by how their path begins, that may touch files.
const MAY: [&str; 16] = [
    "core/src/runtime/tokio/files.rs",
    // A record for programs outside, which the peer does not read.
    "core/src/runtime/tokio/journal.rs",
    "node/src/cli/",
    "node/src/settings/",
    "client/src/cli/",
    "sim/src/cli/",
    // Where runs are recorded, and what crosses their borders.
    "sim/src/scratch.rs",
    "sim/src/capture.rs",
    // Kernels are set up by files of theirs.
    "sim/rig/src/kernel/",
    // What the simulated disks of all back ends keep out of memory.
    "sim/src/host/spill.rs",
    // The back end of real time, one directory per host.
    "sim/src/loopback.rs",
    "sim/src/scenario/load.rs",
    "reports/src/",
    "deploy/demo/src/",
    "deploy/drive/src/",
    // Real processes, and the files that they are given.
    "sim/src/play/emulate/",
];

/// The lines of a source that touch files, up to its tests.
fn touches(source: &str) -> Vec<&str> {
    let code = source
        .split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let touching = |line: &&str| {
        let code = line.trim_start();
        let names = [
            "std::fs",
            "tokio::fs",
            "File::open(",
            "File::create(",
            "OpenOptions",
        ];
        !code.starts_with("//") && (names.iter().any(|name| code.contains(name)) || code.contains(" fs::"))
    };
    code.lines().filter(touching).collect()
}

#[test]
fn only_back_ends_and_command_lines_touch_files() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut files, mut allowed, mut wrong) = (0, 0, Vec::new());
    let mut ahead: Vec<PathBuf> = [
        "core/src",
        "node/src",
        "client/src",
        "sim/src",
        "sim/censor/src",
        "sim/path/src",
        "sim/rig/src",
        "sim/script/src",
        "reports/src",
        "deploy/demo/src",
        "deploy/drive/src",
    ]
    .map(PathBuf::from)
    .to_vec();
    while let Some(path) = ahead.pop() {
        let full = workspace.join(&path);
        if full.is_dir() {
            let entries = fs::read_dir(full).expect("a directory");
            ahead.extend(entries.map(|entry| path.join(entry.expect("an entry").file_name())));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files += 1;
            let source = fs::read_to_string(full).expect("text");
            let name = path.to_str().expect("text");
            // Modules that are tests as a whole.
            if name.contains("/tests") || name.ends_with("_tests.rs") {
                continue;
            }
            let touches = touches(&source);
            if MAY.iter().any(|may| name.starts_with(may)) {
                allowed += touches.len();
            } else {
                wrong.extend(touches.iter().map(|line| format!("{name}: {line}")));
            }
        }
    }
    assert!(
        files > 150 && allowed > 10,
        "{files} sources, {allowed} lines that may touch files"
    );
    assert!(
        wrong.is_empty(),
        "files outside the back ends:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn what_touches_files_is_found_and_talk_of_it_is_not() {
    for line in [
        "use std::fs;",
        "    let x = fs::read(path);",
        "use std::fs::{self, File};",
        "File::open(p)?",
    ] {
        assert_eq!(touches(line), [line]);
    }
    for line in [
        "//! Not std::fs.",
        "let offs::x = 1;",
        "Profs::new()",
        "\n#[cfg(test)]\nmod tests {\nuse std::fs;",
    ] {
        assert_eq!(touches(line), Vec::<&str>::new(), "{line}");
    }
}
