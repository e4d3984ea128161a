//! A folder, a thousand devices of all kinds, five hundred edits: whoever should have something has it,
//! and nobody else, by an oracle that knows nothing of the server.
//!
//! `oracle` says from what was written (`world`), from who the devices are (`herd`) and from Apple's tables
//! (`table`) what each channel must hold; `edit` makes up what administrators do; `condition` evaluates
//! rules and predicates in its own way. User Enrollment is not among them: simulated devices have none.
//!
//! To hold all devices against the oracle after each of the edits would take an hour. After each edit
//! those are held against it whom it concerns, all pushes against those whom it should concern, and a
//! few others by chance; after the last all of them. A failing run prints its seed: `RUSSET_FLEET_SEED`
//! repeats it, and `RUSSET_FLEET=devices,edits` makes it larger or smaller.

mod condition;
mod edit;
mod folder;
mod herd;
mod oracle;
mod random;
mod table;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use self::edit::Edit;
use self::herd::Herd;
use self::random::Random;
use self::world::World;
use crate::support::Appliance;

const DEVICES: usize = 1000;
const EDITS: usize = 500;

/// By device.
type Tags = BTreeMap<String, BTreeSet<String>>;

struct Run {
    appliance: Appliance,
    herd: Herd,
    world: World,
    random: Random,
    folder: tempfile::TempDir,
}

/// Prints the seed if the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat this with RUSSET_FLEET_SEED={}", self.0);
        }
    }
}

fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_reaches_a_thousand_devices_and_edits_reach_exactly_whom_they_concern() {
    let seed = asked("RUSSET_FLEET_SEED")
        .map_or_else(|| u64::from_be_bytes(russet::id::random()), |seed| seed.parse().unwrap());
    let seed = Seed(seed);
    let sizes = asked("RUSSET_FLEET");
    let (devices, edits) = sizes
        .as_deref()
        .and_then(|sizes| sizes.split_once(','))
        .map_or((DEVICES, EDITS), |(devices, edits)| (devices.parse().unwrap(), edits.parse().unwrap()));
    let mut random = Random::of(seed.0);
    let mut appliance = Appliance::start().await;
    let herd = Herd::enroll(&mut appliance, &mut random, devices).await;
    let world = folder::beginning(&herd, &mut random);
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run { appliance, herd, world, random, folder };
    run.begin().await;
    let mut done = 0;
    while done < edits {
        done += run.round(done).await;
    }
    // Whoever was not told of quiet edits comes by itself some time.
    let rest = run.herd.concerned(&run.world);
    run.herd.connect(&rest).await;
    run.herd.settle(&run.appliance).await;
    run.compare_all(true).await;
}

impl Run {
    async fn begin(&mut self) {
        let pushed = self.herd.hear(&self.appliance).await;
        assert!(pushed.is_empty(), "nobody is pushed while nothing is declared: {pushed:?}");
        folder::apply(&self.appliance, &self.world, &self.folder.path().join("all"), true).await;
        let concerned = self.herd.concerned(&self.world);
        assert_eq!(concerned.len() + self.herd.untold(), self.herd.channels.len());
        let pushed = self.herd.settle(&self.appliance).await;
        assert_eq!(pushed.keys().cloned().collect::<BTreeSet<_>>(), concerned);
        assert!(pushed.values().all(|times| *times == 1), "one folder, one push: {pushed:?}");
        self.compare_all(false).await;
    }

    async fn compare_all(&mut self, ask: bool) {
        let all: Vec<String> = self.herd.channels.keys().cloned().collect();
        for id in all {
            self.herd.compare(&self.appliance, &self.world, &id, ask).await;
        }
    }

    /// A few edits and what becomes of them; answers how many.
    async fn round(&mut self, done: usize) -> usize {
        let number = u64::try_from(done).unwrap();
        match self.random.below(12) {
            0 => self.applied(number).await,
            1 | 2 => self.lived().await,
            _ => self.edited(number).await,
        }
    }

    /// One edit, or several before anybody looks.
    async fn edited(&mut self, number: u64) -> usize {
        let count = *self.random.pick(&[1, 1, 2, 5, 10, 15]);
        let notify = !self.random.once_in(4);
        let before = self.world.clone();
        let mut tagged = BTreeMap::new();
        let mut worlds = Vec::new();
        for at in 0..count {
            let edit = edit::random(&self.world, &self.herd, &mut self.random, number + at);
            // A person who changes a device's tags always wants it to be told.
            if edit.tags.is_some() && !notify {
                continue;
            }
            for id in edit.tags.iter().flat_map(|(device, _)| self.herd.channels_of(device)) {
                let had = oracle::expected(&self.world, &self.herd.who(&id)).set;
                tagged.entry(id).or_insert(had);
            }
            self.make(&edit, notify).await;
            worlds.push((edit.after.clone(), self.herd.tags.clone()));
            self.world = edit.after;
        }
        let concerned = self.herd.concerned(&self.world);
        // Whom only quiet edits concerned is told along with the next loud one, and other tags are none.
        let due = if before == self.world {
            let is_other = |id: &&String| {
                let had = tagged.get(*id);
                had.is_some_and(|had| *had != oracle::expected(&self.world, &self.herd.who(id)).set)
            };
            concerned.iter().filter(is_other).cloned().collect()
        } else {
            concerned.clone()
        };
        self.settled(if notify { due } else { BTreeSet::new() }, concerned, &worlds).await;
        usize::try_from(count).unwrap()
    }

    async fn make(&mut self, edit: &Edit, notify: bool) {
        let nonotify = if notify { "" } else { "?nonotify=1" };
        let path = format!("/api/v1/{}{nonotify}", edit.path);
        let (status, said) = self.appliance.api(edit.method, &path, edit.body.clone()).await;
        let words = format!("{} {path} {:?}: {said}", edit.method, edit.body);
        // Shown with a failure only.
        println!("{} {path}", edit.method);
        assert!(edit.expects.contains(&status.as_u16()), "{status} {words}");
        if let Some((device, tags)) = &edit.tags {
            self.herd.tags.insert(device.clone(), tags.clone());
        }
    }

    /// Several edits in a folder, which is one.
    async fn applied(&mut self, number: u64) -> usize {
        let (count, notify) = (1 + self.random.below(12), !self.random.once_in(4));
        let before = self.world.clone();
        for at in 0..u64::try_from(count).unwrap() {
            let edit = edit::random(&self.world, &self.herd, &mut self.random, number + at);
            if edit.tags.is_none() && edit.method != "POST" {
                self.world = edit.after;
            }
        }
        folder::apply(&self.appliance, &self.world, &self.folder.path().join("all"), notify).await;
        let worlds = [(self.world.clone(), self.herd.tags.clone())];
        let concerned = self.herd.concerned(&self.world);
        let due = if notify && before != self.world { concerned.clone() } else { BTreeSet::new() };
        self.settled(due, concerned, &worlds).await;
        count
    }

    /// Holds who was pushed against who was `due`, and then what devices hold against the oracle. `worlds`
    /// are those through which it went: a set that was another for a moment may have been pushed for.
    async fn settled(
        &mut self,
        due: BTreeSet<String>,
        concerned: BTreeSet<String>,
        worlds: &[(World, Tags)],
    ) {
        let pushed = self.herd.hear(&self.appliance).await;
        let names: BTreeSet<String> = pushed.keys().cloned().collect();
        if worlds.len() == 1 || due.is_empty() {
            assert!(pushed.values().all(|times| *times == 1), "one edit, one push: {pushed:?}");
        }
        let missed: Vec<_> = due.difference(&names).collect();
        assert!(missed.is_empty(), "{missed:?} were not pushed");
        let tags = self.herd.tags.clone();
        for id in names.difference(&due) {
            let was = worlds.len() > 1
                && worlds.iter().any(|(world, tags)| {
                    self.herd.tags.clone_from(tags);
                    self.herd.is_concerned(world, id)
                });
            assert!(was, "{id} was pushed for nothing");
        }
        self.herd.tags = tags;
        println!("pushed {names:?}");
        self.herd.connect(&names).await;
        let again = self.herd.hear(&self.appliance).await;
        // The push for one of several edits may arrive after the device came for all of them.
        let again: BTreeSet<String> = again.into_keys().collect();
        let is_late = worlds.len() > 1 && again.is_subset(&names);
        assert!(again.is_empty() || is_late, "{again:?} had synchronised and were pushed again");
        self.herd.idle(&again).await;
        // Some of those that were not pushed come by themselves.
        let others: BTreeSet<String> =
            self.herd.sample(&mut self.random, 6).difference(&names).cloned().collect();
        let (late, idle) = others.into_iter().partition(|id| concerned.contains(id));
        self.herd.connect(&late).await;
        self.herd.idle(&idle).await;
        let mut sample: BTreeSet<String> = idle;
        sample.extend(late);
        sample.extend(names);
        for id in sample {
            let ask = self.random.once_in(8);
            self.herd.compare(&self.appliance, &self.world, &id, ask).await;
        }
    }

    /// Something happens to a device: a newer system, a passcode, FileVault.
    async fn lived(&mut self) -> usize {
        let number = self.random.below(self.herd.count());
        let device = self.herd.device_mut(number);
        match self.random.below(3) {
            0 if !device.os_version.starts_with("15.7") => device.os_version = "27.0".to_owned(),
            1 => device.filevault = !device.filevault,
            _ => device.passcode = !device.passcode,
        }
        let ids: BTreeSet<String> = self
            .herd
            .channels
            .iter()
            .filter(|(_, (of, _))| *of == number)
            .map(|(id, _)| id.clone())
            .collect();
        self.herd.connect(&ids).await;
        self.herd.settle(&self.appliance).await;
        for id in ids {
            self.herd.compare(&self.appliance, &self.world, &id, true).await;
        }
        1
    }
}
