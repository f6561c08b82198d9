//! Files of censors: any text is read or refused at a place, and what is read bears any packets.

use phantom_censor::file::CensorFile;

use crate::packets::{decisions, packets};

/// Two bytes of length, a text, and packets for what it says.
pub fn censor_file(data: &[u8]) -> bool {
    let Some((text, rest)) = text(data) else {
        return false;
    };
    let censor = match CensorFile::parse("x.toml", text) {
        Ok(censor) => censor,
        Err(error) => {
            assert!(!error.problems.is_empty());
            for (place, problem) in &error.problems {
                let place = place.as_ref().unwrap_or_else(|| panic!("no place: {problem:?}"));
                assert!(place.line >= 1 && place.column >= 1, "{place:?}");
            }
            assert!(error.to_string().contains("x.toml:"));
            return false;
        }
    };
    let written = censor.to_text().expect("what was read can be written");
    assert_eq!(
        CensorFile::parse("x.toml", &written).as_ref(),
        Ok(&censor),
        "{written}"
    );
    let packets = packets(rest);
    let once = decisions(&mut censor.engine(1), &packets);
    assert_eq!(once, decisions(&mut censor.engine(1), &packets));
    true
}

/// A text behind two bytes of its length, and what follows it.
pub(crate) fn text(data: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = data.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len()));
    Some((std::str::from_utf8(text).ok()?, rest))
}
