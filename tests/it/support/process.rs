//! The real binary as a child process on an appliance's folder, for what ends a whole process.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::Appliance;

/// A server in a process of its own; killed when it is dropped.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Appliance {
    /// Stops the server in this process and answers how to run the binary in its place.
    pub async fn hand_over(&mut self) -> PathBuf {
        self.running.take().expect("the server runs").stop().await;
        let path = self.config.data_dir.with_file_name("russet.toml");
        let text = format!(
            "data_dir = {:?}\n[server]\nlisten = [\"{}\"]\npublic_url = \"{}\"\n[apns]\nserver = \"{}\"\ntrust = {:?}\n\
             [updates]\ncatalogue = {:?}\n",
            self.config.data_dir,
            self.config.server.listen[0],
            self.config.server.public_url,
            self.config.apns.server,
            self.config.apns.trust.as_ref().unwrap(),
            self.config.data_dir.with_file_name("updates.json"),
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Process {
    /// Starts `russet serve` and waits until it listens. `before` is a program that runs it, with its
    /// arguments.
    pub fn start(config: &PathBuf, level: &str, before: &[&str]) -> Self {
        let russet = env!("CARGO_BIN_EXE_russet");
        let mut command = match before {
            [] => Command::new(russet),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(russet);
                command
            }
        };
        let mut child = command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .env("RUSSET__LOG__LEVEL", level)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stderr, written) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        let reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                written.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("Russet serves") {
            line.clear();
            let read = stdout.read_line(&mut line).unwrap();
            assert!(read > 0, "the server did not start: {}", log.lock().unwrap());
        }
        // What it still says must find a reader.
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        Self { child, log, reader: Some(reader) }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, as a power cut would; answers the whole log.
    pub fn kill(mut self) -> String {
        self.end();
        self.log.lock().unwrap().clone()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
