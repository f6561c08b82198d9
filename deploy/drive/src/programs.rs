//! The programs of this build, for the tests that drive them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs, io};

use crate::Failure;

/// The folder of `phantom-node` and `phantom` that `program`, a program of the same build, lies in. They are of other packages: a
/// test run of the whole workspace has built them; one of a package alone has not, or long ago, so they are built if any source
/// is newer.
///
/// # Errors
/// A source cannot be read, or the programs do not build.
pub fn beside(program: &Path) -> Result<PathBuf, Failure> {
    let folder = program.parent().unwrap_or(Path::new("."));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let newest_source = newest_source(&workspace)?;
    let fresh = ["phantom-node", "phantom"].iter().all(|name| {
        let built = fs::metadata(folder.join(name)).and_then(|metadata| metadata.modified());
        built.is_ok_and(|built| built >= newest_source)
    });
    if !fresh {
        let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.current_dir(&workspace).args([
            "build",
            "--locked",
            "-p",
            "phantom-node",
            "-p",
            "phantom-client",
        ]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        if !build.status()?.success() {
            return Err(Failure("the programs do not build".to_owned()));
        }
    }
    Ok(folder.to_owned())
}

/// When a source of the programs was changed last: whatever lies in `src` of a crate at or below one of their three folders.
fn newest_source(workspace: &Path) -> io::Result<SystemTime> {
    let mut newest_source = newest(&workspace.join("Cargo.lock"))?;
    for folder in ["core", "node", "client"].map(|name| workspace.join(name)) {
        let inner = fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path()));
        for folder in inner.chain([Ok(folder)]) {
            let sources = folder?.join("src");
            if sources.is_dir() {
                newest_source = newest_source.max(newest(&sources)?);
            }
        }
    }
    Ok(newest_source)
}

/// When the newest file below `path` was changed.
fn newest(path: &Path) -> io::Result<SystemTime> {
    let mut newest_file = fs::metadata(path)?.modified()?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            newest_file = newest_file.max(newest(&entry?.path())?);
        }
    }
    Ok(newest_file)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_change_in_any_crate_that_goes_into_the_programs_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let create = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(path).unwrap()
        };
        let mut files = vec![create("Cargo.lock")];
        files.extend(
            [
                "core/src/lib.rs",
                "core/obfs4/src/lib.rs",
                "node/src/store/disk.rs",
                "client/pt/src/lib.rs",
            ]
            .map(create),
        );
        let mut when = SystemTime::now();
        for file in files {
            when += Duration::from_secs(100);
            file.set_modified(when).unwrap();
            assert_eq!(newest_source(place.path()).unwrap(), when, "{file:?}");
        }
    }
}
