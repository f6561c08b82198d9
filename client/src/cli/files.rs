//! Attachments as files of the user's.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use phantom_core::attachment::{ATTACHMENT_MAX, Manifest};

use super::{Failure, failed, usage};

/// Names tried for an attachment whose own is taken.
const NAMES_MAX: u32 = 1_000;

/// The name and the content of a file that is to be sent.
pub(crate) fn read(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.filter(|name| Manifest::is_name(name)).ok_or_else(|| {
        usage(format!(
            "{}: an attachment needs a name of 1 to 128 bytes of text that does not begin with a dot",
            path.display()
        ))
    })?;
    let reading = |error| usage(format!("reading {}: {error}", path.display()));
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(reading)?;
    let bound = ATTACHMENT_MAX as u64 + 1;
    file.take(bound).read_to_end(&mut content).map_err(reading)?;
    if content.len() > ATTACHMENT_MAX {
        return Err(usage(format!(
            "{}: an attachment has at most {} MiB",
            path.display(),
            ATTACHMENT_MAX >> 20
        )));
    }
    Ok((name.to_owned(), content))
}

/// Stores an attachment in `folder` under the name that its sender gave it, or under `name (2)` and so on where that is taken:
/// nothing is ever replaced. Durable when this returns.
pub(crate) fn store(folder: &Path, name: &str, content: &[u8]) -> Result<PathBuf, Failure> {
    // What comes over the network was checked when it was decoded; here it becomes a path.
    if !Manifest::is_name(name) {
        return Err(failed(format!(
            "an attachment with a name that is none: {name:?}"
        )));
    }
    let storing = |path: &Path, error: std::io::Error| failed(format!("storing {}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| storing(folder, error))?;
    for number in 1..=NAMES_MAX {
        let path = folder.join(numbered(name, number));
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(storing(&path, error)),
        };
        let written = file.write_all(content).and_then(|()| file.sync_all());
        return match written {
            Ok(()) => Ok(path),
            Err(error) => {
                // Half a file is worse than none; the client keeps the attachment.
                let _ = std::fs::remove_file(&path);
                Err(storing(&path, error))
            }
        };
    }
    Err(failed(format!(
        "{}: {NAMES_MAX} files of the name {name:?} are there already",
        folder.display()
    )))
}

/// `plan.pdf`, `plan (2).pdf`, …
fn numbered(name: &str, number: u32) -> String {
    if number == 1 {
        return name.to_owned();
    }
    match name.rsplit_once('.') {
        Some((stem, kind)) => format!("{stem} ({number}).{kind}"),
        None => format!("{name} ({number})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_replaces_no_file_and_leaves_its_folder_under_no_name() {
        let place = tempfile::tempdir().unwrap();
        let first = store(place.path(), "plan.pdf", b"one").unwrap();
        let second = store(place.path(), "plan.pdf", b"two").unwrap();
        assert_eq!(std::fs::read(first).unwrap(), b"one");
        assert_eq!(second.file_name().unwrap(), "plan (2).pdf");
        for name in ["../plan.pdf", "/etc/passwd", ".bashrc", ""] {
            assert!(store(place.path(), name, b"x").is_err(), "{name:?}");
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_too_long_or_not_there_is_said_with_its_path() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("long.bin");
        std::fs::write(&path, vec![0; ATTACHMENT_MAX + 1]).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("long.bin") && error.contains("8 MiB"), "{error}");
        let error = read(&place.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
