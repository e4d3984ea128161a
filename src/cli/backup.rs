//! `russet backup [FILE]`.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::{Value as Json, json};

use super::client::Client;
use super::{Common, Done, Failure, say};
use crate::backup;
use crate::pki::seal::write_private;

#[derive(Args)]
pub(super) struct Backup {
    /// Where to write it; else the folder of [backup] directory.
    file: Option<PathBuf>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Backup {
    pub(super) async fn run(self) -> Done {
        let config = self.common.load()?;
        let Some(path) = &self.file else {
            let made = Client::connect(&config).await?.json(Method::POST, "/api/v1/backups", None).await?;
            let directory = config.backup.directory.unwrap_or_default();
            let file = directory.join(made["name"].as_str().unwrap_or_default());
            return self.told(&made, &file.display().to_string());
        };
        if path.exists() {
            return Err(Failure::Wrong(format!(
                "{} exists already; name another file, or remove that one",
                path.display()
            )));
        }
        let unfinished = path.with_added_extension("unfinished");
        // Empty and readable to nobody else, before what is confidential is written into it.
        write_private(&unfinished, b"")?;
        let fetched = self.fetch(&config, &unfinished).await;
        let moved = match fetched {
            Ok(()) => std::fs::rename(&unfinished, path)
                .map_err(|error| Failure::Wrong(format!("{} cannot be written: {error}", path.display()))),
            Err(failure) => Err(failure),
        };
        if moved.is_err() {
            let _ = std::fs::remove_file(&unfinished);
        }
        moved?;
        let size = std::fs::metadata(path).map(|known| known.len()).unwrap_or_default();
        self.told(&json!({"name": path, "size": size}), &path.display().to_string())
    }

    async fn fetch(&self, config: &crate::config::Config, unfinished: &std::path::Path) -> Done {
        let unwritten =
            |error| Failure::Wrong(format!("{} cannot be written: {error}", unfinished.display()));
        let mut file = std::fs::File::options().write(true).open(unfinished).map_err(unwritten)?;
        let client = Client::connect(config).await?;
        client.download(Method::POST, "/api/v1/backups/once", &mut file).await?;
        file.sync_all().map_err(unwritten)?;
        drop(file);
        // A copy that was cut on its way is no backup; where the key is, it is opened.
        let key = config.data_dir.join(backup::RECOVERY_KEY);
        if key.exists() {
            let key = backup::RecoveryKey::read(&key)?;
            backup::verify(unfinished, &key)?;
        }
        Ok(())
    }

    fn told(&self, made: &Json, file: &str) -> Done {
        if self.json {
            say(format!("{made:#}"));
        } else {
            say(format!(
                "{file}: {} bytes. It opens with the recovery key and with nothing else.",
                made["size"]
            ));
        }
        Ok(())
    }
}
