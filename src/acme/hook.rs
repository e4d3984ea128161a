//! A program that writes the record of a challenge at a DNS provider of the administrator's choice.
//!
//! Called as `PROGRAM [ARGUMENTS…] present|remove NAME VALUE`, without a shell; what it prints to stderr
//! is shown when it fails.
//!
//! **Invariant:** it has two minutes, and is ended with all that it was asked for.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::dns::Record;
use crate::error::{Error, Result};
use crate::id;

const PATIENCE: Duration = Duration::from_secs(120);
/// How much of its complaint is shown.
const SHOWN: usize = 500;

/// Runs it once.
///
/// # Errors
/// [`Error::Invalid`] in words: it cannot be started, takes too long, or ends with another code than 0.
pub(super) async fn run(command: &[String], record: &Record, present: bool) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::invalid("[tls.acme] dns_hook is empty; write the program's path"));
    };
    let child = Command::new(program)
        .args(arguments)
        .args([if present { "present" } else { "remove" }, &record.name, &record.value])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Error::invalid(format!("the DNS hook {program} cannot be started: {error}")))?;
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    let output = ended
        .map_err(|_| Error::invalid(format!("the DNS hook {program} did not end within two minutes")))?
        .map_err(|error| Error::invalid(format!("the DNS hook {program} cannot be waited for: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr[..output.stderr.len().min(SHOWN)]).into_owned();
    Err(Error::invalid(format!(
        "the DNS hook {program} ended with {}: {}",
        output.status,
        id::printable(complaint.trim())
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script, "hook"].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn it_is_given_what_to_do_and_its_complaint_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("seen");
        let record = Record { name: "_acme-challenge.mdm.example.org.".into(), value: "a\"$(id)b".into() };
        let script = format!("printf '%s|' \"$@\" >> {}", file.display());
        run(&shell(&script), &record, true).await.unwrap();
        run(&shell(&script), &record, false).await.unwrap();
        let name = "_acme-challenge.mdm.example.org.";
        let seen = std::fs::read_to_string(&file).unwrap();
        assert_eq!(seen, format!("present|{name}|a\"$(id)b|remove|{name}|a\"$(id)b|"));

        let refused = run(&shell("echo no such zone >&2; exit 3"), &record, true).await.unwrap_err();
        assert!(refused.to_string().contains("exit status: 3: no such zone"), "{refused}");
        let missing = run(&["/nowhere/hook".to_owned()], &record, true).await.unwrap_err();
        assert!(missing.to_string().contains("/nowhere/hook cannot be started"), "{missing}");
    }
}
