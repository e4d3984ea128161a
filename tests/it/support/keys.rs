//! RSA keys for simulated devices: made once for all tests, since making them is most of the time.

use std::sync::{Arc, OnceLock};

use russet::simulator::Key;

const KEYS: usize = 6;

/// The key of the device with this number; tests with more devices share some.
pub fn key(number: usize) -> Arc<Key> {
    static POOL: [OnceLock<Arc<Key>>; KEYS] = [const { OnceLock::new() }; KEYS];
    POOL[number % KEYS].get_or_init(|| Arc::new(Key::generate(2048).unwrap())).clone()
}
