//! The command channel: Idle, commands, answers, until the server has nothing more to say.
//!
//! A device that is woken connects, says Idle, carries out each command that it is handed and
//! reports it, until the body is empty (Apple: "Sending MDM commands to a device"). A locked device
//! answers NotNow and forgets the command.
//!
//! **Invariant:** every command that was handed over is reported exactly once in the connection.

use plist::{Dictionary, Value};

use super::answers::{Answer, Status};
use super::check_in::{dictionary, xml};
use super::device::{Channel, Device};
use super::fault::Fault;
use super::profile::string;

const COMMAND: &str = "application/x-apple-aspen-mdm; charset=UTF-8";
/// No queue is that long; a server that never stops is a mistake.
const PATIENCE: usize = 1000;

/// A command that was handed to the device.
#[derive(Clone, Debug)]
pub struct Command {
    /// CommandUUID.
    pub uuid: String,
    /// RequestType.
    pub request_type: String,
    /// The Command dictionary.
    pub keys: Dictionary,
}

/// A command and how it was answered.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The command.
    pub command: Command,
    /// What the device said.
    pub status: Status,
}

impl Device {
    /// Is woken: connects on a channel and serves it until the empty answer.
    pub async fn connect(&mut self, channel: Channel) -> Result<Vec<Exchange>, Fault> {
        let mut exchanges = Vec::new();
        let mut next = self.idle(channel).await?;
        while let Some(command) = next {
            if exchanges.len() == PATIENCE {
                return Err(Fault::unacceptable(format!("the server gave {PATIENCE} commands without end")));
            }
            let answer = self.carry_out(&command, channel).await;
            let ends = answer.ends_management;
            let status = answer.status;
            let reported = self.report(&command, answer, channel).await;
            exchanges.push(Exchange { command, status });
            if ends {
                // The answer may well have been lost: the device is on its way out.
                self.meter.connected(exchanges.len());
                self.erase();
                return Ok(exchanges);
            }
            next = reported?;
            if !self.is_enrolled() {
                break;
            }
        }
        self.meter.connected(exchanges.len());
        self.synchronise_if_due(channel).await?;
        self.follow_up(channel).await?;
        self.wire.close();
        Ok(exchanges)
    }

    /// Connects on every channel, the device's first.
    pub async fn connect_all(&mut self) -> Result<Vec<Exchange>, Fault> {
        let mut exchanges = Vec::new();
        for channel in self.channels() {
            exchanges.extend(self.connect(channel).await?);
        }
        Ok(exchanges)
    }

    /// Says Idle; answers the first command.
    pub async fn idle(&mut self, channel: Channel) -> Result<Option<Command>, Fault> {
        let mut report = self.identify(channel);
        report.insert("Status".into(), Value::from("Idle"));
        self.send_report("Idle", report).await
    }

    /// Reports a command; answers the next one.
    pub async fn report(
        &mut self,
        command: &Command,
        answer: Answer,
        channel: Channel,
    ) -> Result<Option<Command>, Fault> {
        let mut report = self.identify(channel);
        report.extend(answer.keys);
        report.insert("Status".into(), Value::from(answer.status.name()));
        report.insert("CommandUUID".into(), Value::from(command.uuid.as_str()));
        report.insert("RequestType".into(), Value::from(command.request_type.as_str()));
        self.send_report(&command.request_type, report).await
    }

    /// Sends any report and obeys the status.
    pub async fn send_report(&mut self, step: &str, report: Dictionary) -> Result<Option<Command>, Fault> {
        let url = self.managed()?.server_url.clone();
        let reply = self.put(&url, COMMAND, xml(report)?).await?;
        let reply = self.obey(step, reply)?;
        if reply.body.is_empty() { Ok(None) } else { read_command(&reply.body).map(Some) }
    }
}

fn read_command(body: &[u8]) -> Result<Command, Fault> {
    let mut outer = dictionary(body, "a command")?;
    let uuid = string(&outer, "CommandUUID").filter(|uuid| !uuid.is_empty()).map(str::to_owned);
    let uuid = uuid.ok_or_else(|| Fault::unacceptable("a command has no CommandUUID"))?;
    let keys = outer.remove("Command").and_then(Value::into_dictionary);
    let keys = keys.ok_or_else(|| Fault::unacceptable("a command has no Command dictionary"))?;
    let request_type = string(&keys, "RequestType").map(str::to_owned);
    let request_type = request_type.ok_or_else(|| Fault::unacceptable("a command has no RequestType"))?;
    Ok(Command { uuid, request_type, keys })
}
