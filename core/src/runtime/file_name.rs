//! Which names a [`Store`](super::Store) accepts: the same rule on every back end.

use std::io;

/// The longest file name in bytes; every common file system takes 255.
pub const FILE_NAME_BYTES_MAX: usize = 128;

/// Refuses what is not a flat name of `a-z 0-9 . _ -`, starts with a dot, is empty or too long.
///
/// # Errors
/// `InvalidInput`, with the name.
pub fn check_file_name(name: &str) -> io::Result<()> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if name.is_empty()
        || name.len() > FILE_NAME_BYTES_MAX
        || name.starts_with('.')
        || !name.bytes().all(allowed)
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{name:?} is not a file name of a-z 0-9 . _ -, at most {FILE_NAME_BYTES_MAX} bytes, no leading dot"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_directory() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc",
            ".hidden",
            "A",
            "a b",
            "a\0",
            "ä",
            &"x".repeat(129),
        ] {
            assert!(check_file_name(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "segment-0001.log", "x_y", &"x".repeat(128)] {
            assert!(check_file_name(good).is_ok(), "{good:?}");
        }
    }
}
