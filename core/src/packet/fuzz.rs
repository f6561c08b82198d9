//! Doors for the fuzz targets in `core/fuzz/`: what only the maker of a packet writes, behind its encryption. Compiled
//! with `--cfg fuzzing` only. Each says whether the bytes were accepted.

use super::payload;
use super::route::{COMMAND_LEN, Command};

/// The routing command of a layer.
pub fn command(bytes: &[u8]) -> bool {
    let Ok(bytes) = <&[u8; COMMAND_LEN]>::try_from(bytes) else {
        return false;
    };
    let command = Command::decode(bytes);
    if let Ok(command) = command {
        assert_eq!(command.encode(), *bytes);
    }
    command.is_ok()
}

/// The block inside the payload.
pub fn block(bytes: &[u8]) -> bool {
    let Some(within) = payload::find(bytes) else {
        return false;
    };
    let mut again = vec![0; bytes.len()];
    payload::write(&mut again, &bytes[within]);
    assert_eq!(again, bytes);
    true
}
