//! See [`phantom_core_fuzz::pluggable`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    phantom_core_fuzz::pluggable(data);
});
