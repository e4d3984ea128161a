//! `russet check`: reads the configuration and opens nothing for writing.

use clap::Args;

use super::{Common, Done, say};
use crate::config::{self, Mistakes};

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    common: Common,
}

impl Check {
    pub(super) fn run(&self) -> Done {
        let file = self.common.file();
        let mut reading = self.common.read()?;
        // A file that is named and missing is a mistake like any other, told together with the others.
        let missing = reading.missing_files();
        reading.mistakes = Mistakes::sorted([reading.mistakes.0, missing].concat());
        let warnings: Vec<_> = reading.warnings.iter().map(ToString::to_string).collect();
        let config = reading.done()?.with_data_dir(self.common.data_dir.as_deref());
        let overrides = config::overrides(config::environment());
        say(config::report(&config, file.as_deref(), &overrides, &warnings).trim_end());
        Ok(())
    }
}
