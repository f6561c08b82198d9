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
    let mut newest_source = SystemTime::UNIX_EPOCH;
    for source in ["core/src", "node/src", "client/src", "Cargo.lock"] {
        newest_source = newest_source.max(newest(&workspace.join(source))?);
    }
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
