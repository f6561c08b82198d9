//! See [`phantom_core_fuzz::dht_machines`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    phantom_core_fuzz::dht_machines(data);
});
