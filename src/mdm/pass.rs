//! The way through all channels after an edit, and through those that were marked.
//!
//! An edit touches no device's row, and what a device says of itself only marks those of its users; here
//! their sets are looked at, in batches, so that nobody waits for it. Called by `wake`, which pushes what
//! became due meanwhile.
//!
//! **Invariant:** a channel that cannot be looked at is said and set aside; it holds up no other. A
//! transaction looks at a single dear one, or at as many as are done in a moment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Mdm, enrollment, sync};
use crate::clock::{HOUR, Seconds};
use crate::ddm::{self, generation, plans};
use crate::error::{Error, Result};
use crate::storage::Tx;

/// How many channels one transaction looks at, if there is time.
const AT_ONCE: u32 = 200;
/// After how long a transaction looks at no further one: devices wait for it, and rules and what devices
/// say of themselves can make a single look dear.
const LONG_ENOUGH: Duration = Duration::from_millis(40);
/// How long a channel that could not be looked at is set aside.
const ASIDE: Seconds = HOUR;

/// Where the way has come to.
pub struct Pass {
    long_enough: Duration,
    /// The generation that all channels have seen.
    done: Option<i64>,
    /// The generation at the beginning of the way, and the last channel that was looked at.
    under_way: Option<(i64, String)>,
    /// The last marked channel that was looked at.
    marked: String,
    /// Those that could not be looked at, and when that is tried again; an edit tries them at once.
    aside: BTreeMap<String, Seconds>,
}

impl Default for Pass {
    fn default() -> Self {
        Self::at_pace(LONG_ENOUGH)
    }
}

impl Pass {
    /// A way on which a transaction looks at no further channel after `long_enough`.
    pub fn at_pace(long_enough: Duration) -> Self {
        let (done, under_way, marked, aside) = Default::default();
        Self { long_enough, done, under_way, marked, aside }
    }

    /// Looks at the next few; answers whether there is more to do.
    ///
    /// # Errors
    /// The database's; the same are tried again.
    pub async fn step(&mut self, mdm: &Mdm) -> Result<bool> {
        // Read here once, and not by a transaction that others wait for.
        let now = mdm.store.peek(generation::now)?;
        let (began, after) = match &self.under_way {
            Some(under_way) => under_way.clone(),
            None if self.done == Some(now.generation) => return self.step_marked(mdm).await,
            None => {
                self.aside.clear();
                (now.generation, String::new())
            }
        };
        mdm.store.read(|conn| plans::present(conn).map(drop)).await?;
        let from = after.clone();
        let channels = mdm.store.read(move |conn| enrollment::enrolled_after(conn, &from, AT_ONCE)).await?;
        match self.look_at(mdm, channels).await? {
            Some(last) => self.under_way = Some((began, last)),
            None => (self.under_way, self.done) = (None, Some(began)),
        }
        Ok(true)
    }

    async fn step_marked(&mut self, mdm: &Mdm) -> Result<bool> {
        let after = std::mem::take(&mut self.marked);
        let channels = mdm.store.peek(|conn| ddm::sync::marked(conn, &after, AT_ONCE))?;
        match self.look_at(mdm, channels).await? {
            Some(last) => {
                self.marked = last;
                Ok(true)
            }
            // What is before the last, and was marked meanwhile, comes with the next wake.
            None => self.step_aside(mdm).await,
        }
    }

    /// One of those set aside whose time has come, by itself.
    async fn step_aside(&mut self, mdm: &Mdm) -> Result<bool> {
        let now = mdm.store.clock().now();
        // What lies farther ahead was set aside by a wrong clock.
        let due = self.aside.iter().find(|(_, again)| !(now + 1..=now + ASIDE).contains(*again));
        let Some(channel) = due.map(|(channel, _)| channel.clone()) else { return Ok(false) };
        self.look_at_one(mdm, channel).await?;
        Ok(true)
    }

    /// Looks at the first of these channels in one transaction; if that fails, at each by itself. Answers
    /// the last that it came to, if there was any.
    async fn look_at(&mut self, mdm: &Mdm, mut channels: Vec<String>) -> Result<Option<String>> {
        let last = channels.last().cloned();
        channels.retain(|channel| !self.aside.contains_key(channel));
        if channels.is_empty() {
            return Ok(last);
        }
        let (all, long_enough) = (channels.clone(), self.long_enough);
        match mdm.store.write("sync.pass", move |tx| batch(tx, &all, long_enough)).await {
            Ok(looked) if looked < channels.len() => return Ok(channels.into_iter().nth(looked.max(1) - 1)),
            Ok(_) => return Ok(last),
            Err(Error::Busy) => return Err(Error::Busy),
            Err(_) => {}
        }
        for channel in channels {
            self.look_at_one(mdm, channel).await?;
        }
        Ok(last)
    }

    /// Looks at one channel, and sets it aside if that fails.
    ///
    /// # Errors
    /// What is not the channel's fault: nothing at all can be written.
    async fn look_at_one(&mut self, mdm: &Mdm, channel: String) -> Result<()> {
        let (one, long_enough) = (vec![channel.clone()], self.long_enough);
        let error = match mdm.store.write("sync.pass.one", move |tx| batch(tx, &one, long_enough)).await {
            Ok(_) => {
                self.aside.remove(&channel);
                return Ok(());
            }
            Err(Error::Busy) => return Err(Error::Busy),
            Err(error) => error,
        };
        mdm.store.write("sync.pass.probe", generation::probe).await?;
        let again = mdm.store.clock().now() + ASIDE;
        // Said once, and not each hour.
        if self.aside.insert(channel.clone(), again).is_none() {
            tracing::error!(
                enrollment.id = channel,
                error = error.chain(),
                "what this channel should have was not found out; it is set aside, and tried again each hour and after the next edit"
            );
        }
        Ok(())
    }
}

/// Looks at the first of these channels, for as long as nobody is kept waiting; answers how many those
/// were. Most that came by meanwhile were looked at then.
fn batch(tx: &Tx<'_>, channels: &[String], long_enough: Duration) -> Result<usize> {
    let began = Instant::now();
    let plan = plans::present(tx)?;
    for (index, channel) in channels.iter().enumerate() {
        if index > 0 && began.elapsed() >= long_enough {
            return Ok(index);
        }
        if ddm::sync::is_stale(tx, channel, tx.now())? {
            sync::refresh_by(tx, &plan, channel)?;
        }
    }
    Ok(channels.len())
}

/// Goes through all channels until each has seen all edits.
///
/// # Errors
/// The database's.
pub async fn round(mdm: &Mdm) -> Result<()> {
    let mut pass = Pass::default();
    while pass.step(mdm).await? {}
    Ok(())
}
