//! `russet.toml`, and the same values as overrides of the environment.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::config;

fuzz_target!(|text: &str| {
    match config::parse(text, None, std::iter::empty()) {
        Ok(parsed) => drop(config::report(&parsed, None, &[], &[])),
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let variable = (format!("RUSSET__{name}"), value.to_owned());
    if let Err(mistakes) = config::parse("", None, std::iter::once(variable)) {
        assert!(!mistakes.to_string().is_empty());
    }
});
