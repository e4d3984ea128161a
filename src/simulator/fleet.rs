//! Many devices: against any server for a while (`russet simulate`), or waiting for pushes (`russet demo`).
//!
//! Generating RSA keys dominates everything else, so beyond [`OWN_KEYS`] devices a pool of a few keys
//! is shared: every certificate is still its own, and so is its serial number, but several carry one
//! key. The server has to tell devices apart by certificate, never by key, and does.
//!
//! **Invariant:** a fleet ends with its owner: dropping it ends every device's task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::answers::Status;
use super::apple::Apple;
use super::connection::Exchange;
use super::device::{Channel, Device};
use super::enrollment::generate;
use super::fault::Fault;
use super::identity::Key;
use super::kind::Kind;
use super::report::{Meter, Report};
use super::trust::Trust;
use crate::clock::Clock;

/// Up to that many devices each generate a key of their own.
pub const OWN_KEYS: usize = 32;
/// Keys that larger fleets share.
const POOL: usize = 8;
/// The first pause after a failure; it doubles to a minute.
const RETRY: Duration = Duration::from_secs(1);
/// A locked device is unlocked by its owner after that.
const UNLOCKED_AFTER: Duration = Duration::from_secs(20);

/// What `russet simulate` is asked to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The enrollment link.
    pub link: String,
    /// How many devices.
    pub devices: usize,
    /// How many of them act at one time.
    pub concurrency: usize,
    /// How often each connects after its enrollment.
    pub connects: usize,
    /// Roots for TLS.
    pub trust: Trust,
}

/// What devices tell a terminal.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which device, by name.
    pub device: String,
    /// Its UDID.
    pub udid: String,
    /// What it is.
    pub kind: Kind,
    /// What it did.
    pub happened: Happened,
}

/// What a device did.
#[derive(Clone, Debug)]
pub enum Happened {
    /// It enrolled.
    Enrolled,
    /// It heard a push on a channel.
    Woken(Channel),
    /// It answered a command.
    Answered {
        /// RequestType.
        request_type: String,
        /// The answer.
        status: Status,
    },
    /// It holds that many declarations after a synchronisation.
    Synchronised(usize),
    /// Management ended.
    Removed,
    /// Something failed; it tries again at the next push, or, before it is enrolled, not at all.
    Failed(String),
}

/// Enrolls `plan.devices` devices, lets each connect, and reports. Progress goes to `events`.
pub async fn simulate(plan: &Plan, events: Option<mpsc::UnboundedSender<Event>>) -> Report {
    let meter = Meter::new();
    let gate = Arc::new(Semaphore::new(plan.concurrency.max(1)));
    let keys = match Keys::for_devices(plan.devices).await {
        Ok(keys) => keys,
        Err(fault) => {
            meter.failed(&fault.to_string(), "every device");
            return meter.report(as_count(plan.devices));
        }
    };
    // Keys are made before the clock starts: they are the devices' work, not the server's.
    meter.restart();
    let mut tasks = JoinSet::new();
    for number in 0..plan.devices {
        let mut device = new_device(number, &plan.trust, &keys).measured(&meter);
        let (plan, gate, meter, events) = (plan.clone(), gate.clone(), meter.clone(), events.clone());
        tasks.spawn(async move {
            let Ok(_turn) = gate.acquire_owned().await else { return };
            let tell = |device: &Device, happened| tell(events.as_ref(), device, happened);
            let mut outcome = device.enroll(&plan.link).await;
            if outcome.is_ok() {
                tell(&device, Happened::Enrolled);
            }
            for _ in 0..plan.connects {
                if outcome.is_err() || !device.is_enrolled() {
                    break;
                }
                outcome = device.connect_all().await.map(|exchanges| {
                    exchanges.iter().for_each(|exchange| tell(&device, answered(exchange)));
                });
            }
            if let Err(fault) = outcome {
                meter.failed(&fault.to_string(), &device.label());
                tell(&device, Happened::Failed(fault.to_string()));
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    meter.report(as_count(plan.devices))
}

/// Devices that enroll, then wait for pushes from a loopback push service and obey them.
#[derive(Debug)]
pub struct Fleet {
    tasks: JoinSet<()>,
    meter: Meter,
    devices: usize,
}

impl Fleet {
    /// Starts `devices` devices of all kinds in turn. Needs a Tokio runtime.
    ///
    /// Each reports to `events`; the first to be reported is that it enrolled or failed to.
    pub fn start(
        link: &str,
        devices: usize,
        apple: &Apple,
        trust: &Trust,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Self {
        let meter = Meter::new();
        let mut tasks = JoinSet::new();
        let gate = Arc::new(Semaphore::new(8));
        let (link, apple, trust) = (link.to_owned(), apple.clone(), trust.clone());
        let (events, measured) = (events.clone(), meter.clone());
        // One task that owns the others, since the keys have to be made first.
        tasks.spawn(async move {
            let Ok(keys) = Keys::for_devices(devices).await else { return };
            let mut running = JoinSet::new();
            for number in 0..devices {
                let device = new_device(number, &trust, &keys).measured(&measured);
                running.spawn(live(device, link.clone(), apple.clone(), gate.clone(), events.clone()));
            }
            while running.join_next().await.is_some() {}
        });
        Self { tasks, meter, devices }
    }

    /// What it came to so far.
    pub fn report(&self) -> Report {
        self.meter.report(as_count(self.devices))
    }

    /// Ends every device and waits until it has.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// The life of one device: enroll, then obey each push until management ends.
async fn live(
    mut device: Device,
    link: String,
    apple: Apple,
    gate: Arc<Semaphore>,
    events: mpsc::UnboundedSender<Event>,
) {
    let tell = |device: &Device, happened| tell(Some(&events), device, happened);
    let mut pushes = device.hear(&apple);
    let turn = gate.acquire_owned().await;
    let enrolled = device.enroll(&link).await;
    drop(turn);
    if let Err(fault) = enrolled {
        device.meter.failed(&fault.to_string(), &device.label());
        tell(&device, Happened::Failed(fault.to_string()));
        return;
    }
    tell(&device, Happened::Enrolled);
    let mut pause = RETRY;
    // What failed or was answered NotNow is tried again without a push.
    let mut owed: Option<Duration> = None;
    while device.is_enrolled() {
        let channel = tokio::select! {
            pushed = pushes.recv() => {
                let Some(channel) = pushed else { return };
                tell(&device, Happened::Woken(channel));
                Some(channel)
            }
            () = sleep_or_forever(owed.take()) => {
                device.locked = false;
                None
            }
        };
        let channels = channel.map_or_else(|| device.channels(), |channel| vec![channel]);
        let mut is_well = true;
        for channel in channels {
            is_well &= obey(&mut device, channel, &tell).await;
        }
        pause = if is_well { RETRY } else { (pause * 2).min(60 * RETRY) };
        if device.locked {
            owed = Some(UNLOCKED_AFTER);
        } else if !is_well {
            owed = Some(pause);
        }
    }
    tell(&device, Happened::Removed);
}

async fn sleep_or_forever(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Connects a channel; answers whether that went well.
async fn obey(device: &mut Device, channel: Channel, tell: &impl Fn(&Device, Happened)) -> bool {
    let token = device.engine(channel).token.clone();
    let connected = device.connect(channel).await;
    let is_well = connected.is_ok();
    match connected {
        Ok(exchanges) => exchanges.iter().for_each(|exchange| tell(device, answered(exchange))),
        Err(fault) => {
            device.meter.failed(&fault.to_string(), &device.label());
            tell(device, Happened::Failed(fault.to_string()));
        }
    }
    let engine = device.engine(channel);
    if engine.token != token {
        let held = engine.declarations.len();
        tell(device, Happened::Synchronised(held));
    }
    is_well
}

fn answered(exchange: &Exchange) -> Happened {
    Happened::Answered { request_type: exchange.command.request_type.clone(), status: exchange.status }
}

fn tell(events: Option<&mpsc::UnboundedSender<Event>>, device: &Device, happened: Happened) {
    if let Some(events) = events {
        let (name, udid) = (device.name.clone(), device.udid.clone());
        // Nobody listening is no reason to stop.
        let _ = events.send(Event { device: name, udid, kind: device.kind, happened });
    }
}

fn new_device(number: usize, trust: &Trust, keys: &Keys) -> Device {
    let kind = Kind::ALL[number % Kind::ALL.len()];
    let mut device = Device::new(kind, number, trust, Clock::system());
    device.key = keys.of(number);
    device
}

fn as_count(devices: usize) -> u64 {
    u64::try_from(devices).unwrap_or(u64::MAX)
}

/// Keys for a fleet: none, so that each device makes its own, or a pool.
#[derive(Debug)]
struct Keys(Vec<Arc<Key>>);

impl Keys {
    async fn for_devices(devices: usize) -> Result<Self, Fault> {
        let mut keys = Vec::new();
        if devices > OWN_KEYS {
            for _ in 0..POOL {
                keys.push(generate(2048).await?);
            }
        }
        Ok(Self(keys))
    }

    fn of(&self, number: usize) -> Option<Arc<Key>> {
        if self.0.is_empty() { None } else { self.0.get(number % self.0.len()).cloned() }
    }
}
