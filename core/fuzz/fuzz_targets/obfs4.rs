//! See [`phantom_core_fuzz::obfs4`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    phantom_core_fuzz::obfs4(data);
});
