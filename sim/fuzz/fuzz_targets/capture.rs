//! See [`phantom_sim_fuzz::capture`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    phantom_sim_fuzz::capture(data);
});
