#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmkit_fuzz_models::fuzz("hostile_vec", data));
