//! MachineInfo: CMS with a property list inside, by which a device asks for its enrollment profile.

#![no_main]

use libfuzzer_sys::fuzz_target;
use russet::enroll::machine_info::MachineInfo;

fuzz_target!(|bytes: &[u8]| {
    match MachineInfo::from_signed(bytes) {
        Ok(said) => assert!(!said.udid.is_empty() && !said.serial_number.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
