//! Gives the program the commit that it is built from, as `PHANTOM_COMMIT`; `unknown` where the workspace is no repository.
//!
//! Read from git's own files, and only from those of the workspace: neither git nor a repository need be there, and one
//! that merely surrounds an unpacked archive is not ours.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Asked when it runs, not when it is compiled: clones that share a target folder share this program.
    let here = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let commit = commit(&Path::new(&here).join("../.git"));
    println!(
        "cargo::rustc-env=PHANTOM_COMMIT={}",
        commit.as_deref().unwrap_or("unknown")
    );
}

fn commit(git: &Path) -> Option<String> {
    // In a second worktree `.git` is a file that leads to that tree's part, and from there to what all trees share.
    let own = match fs::read_to_string(git) {
        Ok(text) => git.parent()?.join(text.trim().strip_prefix("gitdir: ")?),
        Err(_) => git.to_path_buf(),
    };
    let shared = match fs::read_to_string(own.join("commondir")) {
        Ok(text) => own.join(text.trim()),
        Err(_) => own.clone(),
    };
    let head = watched(&own.join("HEAD"))?;
    let hash = match head.trim().strip_prefix("ref: ") {
        None => head,
        Some(name) => watched(&shared.join(name)).or_else(|| packed(&shared, name))?,
    };
    hash.trim().get(..12).map(str::to_owned)
}

/// The hash of a reference that has no file of its own: the next commit gives it one.
fn packed(shared: &Path, name: &str) -> Option<String> {
    println!("cargo::rerun-if-changed={}", shared.join("refs").display());
    let all = watched(&shared.join("packed-refs"))?;
    let hash = all
        .lines()
        .find_map(|line| line.strip_suffix(name)?.strip_suffix(' '));
    hash.map(str::to_owned)
}

/// What is in `path`; a change of it makes this run again. A file that is not there is not watched: cargo takes that for
/// a change every time.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text)
}
