//! See [`phantom_core_fuzz::rendezvous`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    phantom_core_fuzz::rendezvous(data);
});
