//! What a script keeps of flows, within bounds.

use std::collections::BTreeMap;

use rhai::{Blob, Dynamic, Map};

use crate::bounds::{STATE_BYTES_MAX, STATES_BYTES_MAX};
use crate::fault::kind;

/// Bytes that a value counts beside what is in it.
const VALUE_BYTES: usize = 16;
/// Maps and arrays within each other.
const DEPTH_MAX: usize = 8;

/// States of flows, by the number of the flow.
#[derive(Default)]
pub(crate) struct Kept {
    states: BTreeMap<u64, (Map, usize)>,
    bytes: usize,
}

impl Kept {
    /// What was kept of a flow; it is no longer.
    pub(crate) fn take(&mut self, flow: u64) -> Map {
        match self.states.remove(&flow) {
            Some((state, bytes)) => {
                self.bytes -= bytes;
                state
            }
            None => Map::new(),
        }
    }

    /// Keeps the state of a flow.
    ///
    /// # Errors
    /// It is too large, of a kind that is not kept, or there is no room: it is not kept.
    pub(crate) fn put(&mut self, flow: u64, state: Dynamic) -> Result<(), String> {
        if !state.is_map() {
            return Err(format!("state is a map and was made a {}", kind(&state)));
        }
        let state: Map = state.cast();
        if state.is_empty() {
            return Ok(());
        }
        let mut bytes = 0;
        map(&state, &mut bytes, 0)?;
        if self.bytes + bytes > STATES_BYTES_MAX {
            return Err(format!(
                "the states of all flows have more than {STATES_BYTES_MAX} bytes: this one is not kept"
            ));
        }
        self.bytes += bytes;
        self.states.insert(flow, (state, bytes));
        Ok(())
    }

    /// Flows of which something is kept, and its bytes.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.states.len(), self.bytes)
    }
}

fn map(state: &Map, bytes: &mut usize, depth: usize) -> Result<(), String> {
    for (name, value) in state {
        *bytes += VALUE_BYTES + name.len();
        measure(name, value, bytes, depth + 1)?;
    }
    Ok(())
}

/// Adds the bytes of a value, until they are too many.
fn measure(name: &str, value: &Dynamic, bytes: &mut usize, depth: usize) -> Result<(), String> {
    *bytes += VALUE_BYTES;
    if depth > DEPTH_MAX {
        return Err(format!(
            "state.{name} has more than {DEPTH_MAX} values within values"
        ));
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        *bytes += text.len();
    } else if let Ok(blob) = value.as_blob_ref() {
        *bytes += Blob::len(&blob);
    } else if let Ok(array) = value.as_array_ref() {
        for value in array.iter() {
            measure(name, value, bytes, depth + 1)?;
        }
    } else if let Ok(inner) = value.as_map_ref() {
        map(&inner, bytes, depth)?;
    } else if !(value.is_int() || value.is_bool() || value.is_unit() || value.is_char()) {
        return Err(format!(
            "state.{name} is a {}, which is not kept; numbers, texts, true and false, blobs, arrays and maps are",
            kind(value)
        ));
    }
    if *bytes > STATE_BYTES_MAX {
        return Err(format!(
            "the state of a flow has more than {STATE_BYTES_MAX} bytes: it begins anew"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: usize) -> Dynamic {
        let mut map = Map::new();
        map.insert("text".into(), "x".repeat(text).into());
        map.into()
    }

    #[test]
    fn what_is_taken_or_forgotten_leaves_no_bytes_behind() {
        let mut kept = Kept::default();
        kept.put(1, state(100)).expect("room");
        kept.put(2, state(200)).expect("room");
        assert_eq!(kept.size(), (2, 300 + 2 * (2 * VALUE_BYTES + 4)));
        assert_eq!(kept.take(1).len(), 1);
        kept.take(2);
        assert!(kept.take(2).is_empty());
        assert_eq!(kept.size(), (0, 0));
        kept.put(3, Map::new().into()).expect("nothing to keep");
        assert_eq!(kept.size(), (0, 0));
    }

    #[test]
    fn flows_together_keep_no_more_than_the_bound_and_the_first_keep_what_they_have() {
        let mut kept = Kept::default();
        let fit = STATES_BYTES_MAX / 4_036;
        for flow in 0..fit as u64 {
            kept.put(flow, state(4_000)).expect("room");
        }
        assert!(kept.put(fit as u64, state(4_000)).is_err());
        assert!(kept.size().1 <= STATES_BYTES_MAX);
        assert_eq!(kept.take(0).len(), 1);
        kept.put(fit as u64, state(4_000)).expect("room again");
    }
}
