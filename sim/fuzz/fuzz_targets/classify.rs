//! See [`phantom_sim_fuzz::classify`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    phantom_sim_fuzz::classify(data);
});
