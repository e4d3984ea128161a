//! `russet mail test`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::client::Client;
use super::{Common, Done, say};

#[derive(Subcommand)]
pub(super) enum Mail {
    /// Sends a mail now and says what the mail server answered.
    Test(Test),
}

#[derive(Args)]
pub(super) struct Test {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Mail {
    pub(super) async fn run(self) -> Done {
        let Self::Test(test) = self;
        let client = Client::connect(&test.common.load()?).await?;
        let sent = client.json(Method::POST, "/api/v1/mail/test", None).await?;
        if test.json {
            say(format!("{sent:#}"));
            return Ok(());
        }
        let to: Vec<&str> =
            sent["to"].as_array().into_iter().flatten().filter_map(|to| to.as_str()).collect();
        let answer = crate::id::printable(sent["answer"].as_str().unwrap_or_default());
        say(format!("Sent to {}; the server said: {answer}", to.join(", ")));
        Ok(())
    }
}
