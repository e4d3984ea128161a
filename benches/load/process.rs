//! The processes that are measured: the server, and its ceiling.
//!
//! Both run apart from the load generator, so that what they cost is theirs alone: CPU and memory
//! are read from `/proc`.
//!
//! **Invariant:** a process ends with the [`Process`] that started it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Failed, Result};

/// The unit of `/proc/PID/stat` on Linux, whatever the kernel's own clock does.
const TICK: Duration = Duration::from_millis(10);
/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `russet serve` with this configuration and waits until it listens.
    pub(crate) fn serve(config: &Path, port: u16) -> Result<Self> {
        let log = File::create(config.with_file_name("server.log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_russet"));
        command.arg("serve").arg("--config").arg(config).stdout(Stdio::null()).stderr(log);
        let mut process = Self { child: command.stdin(Stdio::null()).spawn()? };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if process.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(config.with_file_name("server.log"))?;
                return Err(Failed(format!("the server did not start: {log}")).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Starts this program again as the ceiling; answers its ports, in the order of `ceiling`.
    pub(crate) fn ceiling(folder: &Path) -> Result<(Self, [u16; 4])> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--ceiling").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self { child: command.spawn()? };
        let stdout = process.child.stdout.take().ok_or_else(|| Failed("the ceiling says nothing".into()))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ports = line.split_whitespace().map(str::parse).collect::<Result<Vec<u16>, _>>()?;
        let ports = ports.try_into().map_err(|_| Failed("the ceiling did not start".into()))?;
        Ok((process, ports))
    }

    /// CPU time so far: user and system, all threads, those that ended too.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the name in parentheses and may hold spaces; utime and stime are the
        // 14th and 15th (proc_pid_stat(5)).
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let ticks = after.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
        Ok(TICK * ticks.sum::<Result<u32, _>>()?)
    }

    /// Bytes that were written to the disk so far.
    pub(crate) fn written(&self) -> Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(line.ok_or_else(|| Failed("/proc says nothing of write_bytes".into()))?.parse()?)
    }

    /// A field of `/proc/PID/status` in KiB: `VmRSS` or `VmHWM`.
    pub(crate) fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(field));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(number.ok_or_else(|| Failed(format!("/proc says nothing of {field}")))?.parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The folder goes with the run; there is nothing to be finished.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
