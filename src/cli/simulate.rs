//! `russet simulate`: simulated devices against any running server.

use std::path::PathBuf;

use clap::Args;

use super::{Done, Failure, say};
use crate::simulator::{Plan, Report, Trust, simulate};

#[derive(Args)]
pub(super) struct Simulate {
    /// An enrollment link, as `russet invite` prints it.
    #[arg(long, value_name = "URL")]
    enroll: String,
    /// How many devices enroll.
    #[arg(long, default_value_t = 1)]
    devices: usize,
    /// How many of them are at work at the same time.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// How often each connects after it enrolled.
    #[arg(long, default_value_t = 1)]
    connects: usize,
    /// Certificates to trust besides the system's and SSL_CERT_FILE: PEM, or one as /ca.crt gives it.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

impl Simulate {
    pub(super) async fn run(self) -> Done {
        let mut trust = Trust::system()?;
        if let Some(file) = &self.trust {
            trust = trust.and_file(file)?;
        }
        let plan = Plan {
            link: self.enroll,
            devices: self.devices,
            concurrency: self.concurrency,
            connects: self.connects,
            trust,
        };
        finish(&simulate(&plan, None).await, self.json)
    }
}

/// Prints a report; errors in it make the exit code 1.
fn finish(report: &Report, json: bool) -> Done {
    if json {
        say(report.json());
    } else {
        say(report);
    }
    if report.exit_code() == 0 { Ok(()) } else { Err(Failure::Said) }
}
