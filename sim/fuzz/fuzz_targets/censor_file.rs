//! See [`phantom_sim_fuzz::censor_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    phantom_sim_fuzz::censor_file(data);
});
