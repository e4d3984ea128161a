//! Runs the command line and chooses the exit code: 0 done, 1 something is wrong, 2 wrong usage.

use std::process::ExitCode;

fn main() -> ExitCode {
    russet::cli::run()
}
