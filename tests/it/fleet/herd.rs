//! The simulated devices: enrolled over the real path, woken by real pushes, held against the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use russet::mdm::wake;
use russet::simulator::{Channel, Device, Engine, Kind};
use serde_json::Value as Json;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::oracle::{Set, Version, expected};
use super::random::Random;
use super::table;
use super::world::{Who, World};
use crate::support::Appliance;

/// How many devices act at one time.
const AT_ONCE: usize = 8;
/// A push that the server owes has come by then, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A device that listens for its pushes.
struct Pupil {
    device: Device,
    pushes: mpsc::UnboundedReceiver<Channel>,
}

pub struct Herd {
    /// Nothing while a device is on its way.
    pupils: Vec<Option<Pupil>>,
    /// All channels, with the number of the device and which of its channels it is.
    pub channels: BTreeMap<String, (usize, Channel)>,
    /// What each channel was told last.
    told: BTreeMap<String, Set>,
    /// By identifier: each content that was seen, with its ServerToken.
    tokens: BTreeMap<String, Vec<(Version, String)>>,
    pub tags: BTreeMap<String, BTreeSet<String>>,
}

/// The versions with which the devices of a kind come.
fn versions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::IPhone | Kind::IPad => &["26.1", "18.2", "17.5", "16.4", "27.0", "26.1", "15.7"],
        Kind::Mac => &["26.1", "15.2", "14.5", "27.0", "13.6", "26.4"],
        Kind::AppleTv => &["26.1", "18.4", "16.0", "27.0"],
        Kind::Watch => &["26.1", "11.0", "10.0", "27.0"],
        Kind::Vision => &["26.1", "2.0", "1.1", "27.0"],
    }
}

impl Herd {
    /// Enrolls so many devices of all kinds.
    pub async fn enroll(appliance: &mut Appliance, random: &mut Random, count: usize) -> Self {
        let link = appliance.invite(u32::try_from(count).unwrap()).await;
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let mut enrolling = JoinSet::new();
        for number in 0..count {
            let kind = Kind::ALL[number % Kind::ALL.len()];
            let round = number / Kind::ALL.len();
            let mut device = appliance.device(kind);
            device.os_version = versions(kind)[round % versions(kind).len()].to_owned();
            name(&mut device, random);
            device.passcode = round % 3 == 0;
            device.filevault = round % 2 == 0;
            let pushes = device.hear(&appliance.apple);
            let (link, gate) = (link.clone(), gate.clone());
            enrolling.spawn(async move {
                let _turn = gate.acquire_owned().await.unwrap();
                let is_supervised = matches!(kind, Kind::IPhone | Kind::IPad) && round % 4 == 1;
                let enrolled = if is_supervised {
                    device.enroll_supervised(&link).await
                } else {
                    device.enroll(&link).await
                };
                enrolled.unwrap_or_else(|fault| panic!("{}: {fault}", device.label()));
                (number, Pupil { device, pushes })
            });
        }
        let mut pupils: Vec<Option<Pupil>> = (0..count).map(|_| None).collect();
        while let Some(done) = enrolling.join_next().await {
            let (number, pupil) = done.unwrap();
            pupils[number] = Some(pupil);
        }
        let mut herd = Self {
            pupils,
            channels: BTreeMap::new(),
            told: BTreeMap::new(),
            tokens: BTreeMap::new(),
            tags: BTreeMap::new(),
        };
        for number in 0..count {
            for channel in herd.device(number).channels() {
                herd.channels.insert(id_of(herd.device(number), channel), (number, channel));
            }
        }
        herd
    }

    pub fn device(&self, number: usize) -> &Device {
        &self.pupils[number].as_ref().unwrap().device
    }

    pub fn device_mut(&mut self, number: usize) -> &mut Device {
        &mut self.pupils[number].as_mut().unwrap().device
    }

    pub fn count(&self) -> usize {
        self.pupils.len()
    }

    /// The channels of a device.
    pub fn channels_of(&self, udid: &str) -> Vec<String> {
        let of_device = self.channels.keys().filter(|id| id.split(':').next() == Some(udid));
        of_device.cloned().collect()
    }

    /// Who a channel is.
    pub fn who(&self, id: &str) -> Who {
        let (number, channel) = self.channels[id];
        let device = self.device(number);
        Who {
            id: id.to_owned(),
            device_id: device.udid.clone(),
            is_user: channel == Channel::User,
            kind: device.kind,
            version: device.os_version.clone(),
            supervised: device.supervised,
            serial: device.serial_number.clone(),
            tags: self.tags.get(&device.udid).cloned().unwrap_or_default(),
            passcode: device.passcode,
            filevault: device.filevault,
        }
    }

    /// The channels whose set is another than the one that they were told.
    pub fn concerned(&self, world: &World) -> BTreeSet<String> {
        let other = |id: &&String| {
            let set = expected(world, &self.who(id)).set;
            set != *self.told.get(*id).unwrap_or(&Set::new())
        };
        self.channels.keys().filter(other).cloned().collect()
    }

    /// Whether a channel's set in this world is another than the one that it was told.
    pub fn is_concerned(&self, world: &World, id: &str) -> bool {
        expected(world, &self.who(id)).set != *self.told.get(id).unwrap_or(&Set::new())
    }

    /// Lets the server push what it has to, and takes what the devices hear: channels, how often each.
    pub async fn hear(&mut self, appliance: &Appliance) -> BTreeMap<String, usize> {
        let mdm = appliance.app().mdm.clone();
        let begun = std::time::Instant::now();
        let mut heard: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            wake::round(&mdm).await.unwrap();
            for pupil in self.pupils.iter_mut().flatten() {
                while let Ok(channel) = pupil.pushes.try_recv() {
                    *heard.entry(id_of(&pupil.device, channel)).or_default() += 1;
                }
            }
            // The server's own task may have taken some of them, and they are still on their way.
            let owed = appliance.app().store.peek(|conn| {
                let mut statement = conn.prepare("SELECT enrollment_id FROM wakes")?;
                Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?)
            });
            let owed = owed.unwrap().into_iter().find(|id| !heard.contains_key(id));
            let Some(owed) = owed else { return heard };
            assert!(begun.elapsed() < PATIENCE, "{owed} was to be pushed and never was");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Connects these channels, each once.
    pub async fn connect(&mut self, ids: &BTreeSet<String>) {
        let mut by_device: BTreeMap<usize, Vec<Channel>> = BTreeMap::new();
        for id in ids {
            let (number, channel) = self.channels[id];
            by_device.entry(number).or_default().push(channel);
        }
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let mut visits = JoinSet::new();
        for (number, channels) in by_device {
            let mut pupil = self.pupils[number].take().unwrap();
            let gate = gate.clone();
            visits.spawn(async move {
                let _turn = gate.acquire_owned().await.unwrap();
                for channel in channels {
                    visit(&mut pupil.device, channel).await;
                }
                (number, pupil)
            });
        }
        while let Some(done) = visits.join_next().await {
            let (number, pupil) = done.unwrap();
            self.pupils[number] = Some(pupil);
        }
    }

    /// Lets everybody who is pushed connect until nobody is; answers who was pushed first. Later waves
    /// may only come to devices that said something in the one before.
    pub async fn settle(&mut self, appliance: &Appliance) -> BTreeMap<String, usize> {
        let first = self.hear(appliance).await;
        let mut wave: BTreeSet<String> = first.keys().cloned().collect();
        for _ in 0..5 {
            if wave.is_empty() {
                return first;
            }
            self.connect(&wave).await;
            let next: BTreeSet<String> = self.hear(appliance).await.into_keys().collect();
            let devices: BTreeSet<usize> = wave.iter().map(|id| self.channels[id].0).collect();
            let stranger = next.iter().find(|id| !devices.contains(&self.channels[*id].0));
            assert!(stranger.is_none(), "{stranger:?} was pushed for what another device said");
            wave = next;
        }
        panic!("these are never left alone: {wave:?}");
    }

    /// Channels that have nothing to do come by themselves, and are given nothing.
    pub async fn idle(&mut self, ids: &BTreeSet<String>) {
        let fetched = |herd: &Self| -> Vec<(u64, u64)> {
            ids.iter().map(|id| herd.engine(id)).map(|engine| (engine.fetched, engine.reports)).collect()
        };
        let before = fetched(self);
        for id in ids {
            let (number, channel) = self.channels[id];
            let exchanges = self.device_mut(number).connect(channel).await.unwrap();
            assert!(exchanges.is_empty(), "{id} has nothing to do and was given {exchanges:?}");
        }
        assert_eq!(fetched(self), before, "whoever has nothing to do fetches and reports nothing");
    }

    fn engine(&self, id: &str) -> &Engine {
        let (number, channel) = self.channels[id];
        engine(self.device(number), channel)
    }

    /// Holds a channel against the oracle: what it was given, what it holds to be active, and what the
    /// server says of it if `ask`.
    pub async fn compare(&mut self, appliance: &Appliance, world: &World, id: &str, ask: bool) {
        let who = self.who(id);
        let expected = expected(world, &who);
        let (number, channel) = self.channels[id];
        let device = self.device(number);
        let held = &engine(device, channel).declarations;
        let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            names(held.keys().collect()),
            names(expected.set.keys().collect()),
            "what {id} holds (left) is not what {who:?} should have"
        );
        for (name, declaration) in held {
            let should = &expected.set[name];
            assert_eq!(
                (&declaration.declaration_type, &declaration.payload),
                (&should.declaration_type, &should.payload),
                "{name} on {id}, {who:?}"
            );
        }
        let states: BTreeMap<String, (bool, &str)> = device
            .declarations(channel)
            .iter()
            .map(|(name, state)| (name.clone(), (state.active, state.valid)))
            .collect();
        assert_eq!(states, expected.states, "the states on {id}, {who:?}");
        let seen: Vec<(String, String)> =
            held.iter().map(|(name, of)| (name.clone(), of.server_token.clone())).collect();
        for (name, token) in seen {
            self.token_of(&name, &expected.set[&name], token);
        }
        if ask {
            compare_standing(appliance, id, &expected).await;
        }
        self.told.insert(id.to_owned(), expected.set);
    }

    /// The ServerToken is the same for the same content, and another for another.
    fn token_of(&mut self, name: &str, version: &Version, token: String) {
        let seen = self.tokens.entry(name.to_owned()).or_default();
        match seen.iter().find(|(other, _)| other == version) {
            Some((_, known)) => assert_eq!(*known, token, "{name} has two ServerTokens for one content"),
            None => {
                assert!(
                    seen.iter().all(|(_, other)| *other != token),
                    "{name} has one ServerToken for two contents"
                );
                seen.push((version.clone(), token));
            }
        }
    }

    /// Some channels, by chance.
    pub fn sample(&self, random: &mut Random, most: usize) -> BTreeSet<String> {
        let ids: Vec<String> = self.channels.keys().cloned().collect();
        random.some(&ids, most).into_iter().collect()
    }

    /// Channels of systems without declarative management: they are there to be left alone.
    pub fn untold(&self) -> usize {
        self.channels.keys().filter(|id| !table::is_told(&self.who(id))).count()
    }
}

/// Gives a device the identifiers that this seed gives it.
fn name(device: &mut Device, random: &mut Random) {
    let digits = format!("{:016X}{:016X}", random.next(), random.next());
    let long = |digits: &str| {
        let (a, b, c, d, e) = (&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
        format!("{a}-{b}-{c}-{d}-{e}")
    };
    device.udid = match &mut device.user {
        None => format!("{}-00{}", &device.udid[..8], &digits[..14]),
        Some(user) => {
            user.id = long(&format!("{:016X}{:016X}", random.next(), random.next()));
            long(&digits)
        }
    };
    let letters = "0123456789CDFGHJKLMNPQRTVWXY".as_bytes();
    device.serial_number = (0..10).map(|_| char::from(*random.pick(letters))).collect();
}

pub fn id_of(device: &Device, channel: Channel) -> String {
    match channel {
        Channel::Device => device.udid.clone(),
        Channel::User => format!("{}:{}", device.udid, device.user.as_ref().unwrap().id),
    }
}

fn engine(device: &Device, channel: Channel) -> &Engine {
    match channel {
        Channel::Device => &device.declarations,
        Channel::User => &device.user.as_ref().unwrap().declarations,
    }
}

/// Connects a channel; it fetches what it does not have and nothing else.
async fn visit(device: &mut Device, channel: Channel) {
    let tokens = |device: &Device| -> BTreeMap<String, String> {
        let held = engine(device, channel).declarations.iter();
        held.map(|(name, of)| (name.clone(), of.server_token.clone())).collect()
    };
    let (before, fetched) = (tokens(device), engine(device, channel).fetched);
    let connected = device.connect(channel).await;
    connected.unwrap_or_else(|fault| panic!("{}: {fault}", device.label()));
    let after = tokens(device);
    let news = after.iter().filter(|(name, token)| before.get(*name) != Some(token)).count();
    let fetched = engine(device, channel).fetched - fetched;
    assert_eq!(fetched, u64::try_from(news).unwrap(), "{} fetched what it had", device.label());
}

/// What `GET /enrollments/{id}/declarations` says, beside what the oracle does.
async fn compare_standing(appliance: &Appliance, id: &str, expected: &super::oracle::Expected) {
    let path = format!("/api/v1/enrollments/{id}/declarations?limit=500");
    let (status, shown) = appliance.api("GET", &path, None).await;
    assert_eq!(status, 200, "{shown}");
    if expected.set.is_empty() {
        // Nobody asked a device that is too old; what it would have is shown all the same.
        return;
    }
    let (mut given, mut left_out) = (BTreeMap::new(), BTreeSet::new());
    for one in shown["items"].as_array().unwrap() {
        let name = one["identifier"].as_str().unwrap().to_owned();
        if let Some(words) = one["left_out"].as_str() {
            assert!(words.starts_with(&name) && words.ends_with('.'), "{words}");
            left_out.insert(name);
            continue;
        }
        assert_eq!(one["received"], true, "{id} {one}");
        given.insert(name, (one["active"] == true, one["valid"].as_str().unwrap().to_owned()));
    }
    let states: BTreeMap<String, (bool, String)> = expected
        .states
        .iter()
        .map(|(name, (active, valid))| (name.clone(), (*active, (*valid).to_owned())))
        .collect();
    assert_eq!((given, left_out), (states, expected.left_out.clone()), "GET …/{id}/declarations");
    assert_eq!(shown["sync"]["outstanding"], Json::Bool(false), "{id}");
}
