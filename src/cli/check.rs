//! `russet check`: reads the configuration and opens nothing for writing.

use clap::Args;

use super::{Common, Done, Failure};
use crate::config::{self, Mistakes};

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    common: Common,
}

impl Check {
    pub(super) fn run(&self) -> Done {
        let file = self.common.file();
        let config = self.common.load()?;
        let missing = config.check_files();
        if !missing.is_empty() {
            return Err(Failure::Usage(Mistakes(missing).to_string()));
        }
        let overrides = config::overrides(config::environment());
        print!("{}", config::report(&config, file.as_deref(), &overrides));
        Ok(())
    }
}
