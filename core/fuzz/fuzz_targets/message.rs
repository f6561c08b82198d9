//! See [`phantom_core_fuzz::message`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    phantom_core_fuzz::message(data);
});
