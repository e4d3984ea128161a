//! The way through all channels after an edit, and through those that were marked.
//!
//! An edit touches no device's row, and what a device says of itself only marks those of its users; here
//! their sets are looked at, in batches, so that nobody waits for it. Called by `wake`, which pushes what
//! became due meanwhile.
//!
//! **Invariant:** a channel that cannot be looked at is said and passed over; it holds up no other.

use std::collections::BTreeSet;

use super::{Mdm, enrollment, sync};
use crate::ddm::{self, generation, plans};
use crate::error::{Error, Result};
use crate::storage::Tx;

/// How many channels one transaction looks at.
const AT_ONCE: u32 = 200;

/// Where the way has come to.
#[derive(Default)]
pub struct Pass {
    /// The generation that all channels have seen.
    done: Option<i64>,
    /// The generation at the beginning of the way, and the last channel that was looked at.
    under_way: Option<(i64, String)>,
    /// The last marked channel that was looked at.
    marked: String,
    /// Those that cannot be looked at, until the next edit.
    passed_over: BTreeSet<String>,
}

impl Pass {
    /// Looks at the next batch; answers whether there is more to do.
    ///
    /// # Errors
    /// The database's; the batch is tried again.
    pub async fn step(&mut self, mdm: &Mdm) -> Result<bool> {
        // Read here once, and not by a transaction that others wait for.
        let now = mdm.store.peek(generation::now)?;
        let (began, after) = match &self.under_way {
            Some(under_way) => under_way.clone(),
            None if self.done == Some(now.generation) => return self.step_marked(mdm).await,
            None => {
                self.passed_over.clear();
                (now.generation, String::new())
            }
        };
        mdm.store.read(|conn| plans::present(conn).map(drop)).await?;
        let from = after.clone();
        let channels = mdm.store.read(move |conn| enrollment::enrolled_after(conn, &from, AT_ONCE)).await?;
        let last = channels.last().cloned();
        self.look_at(mdm, channels).await?;
        match last {
            Some(last) => self.under_way = Some((began, last)),
            None => (self.under_way, self.done) = (None, Some(began)),
        }
        Ok(true)
    }

    async fn step_marked(&mut self, mdm: &Mdm) -> Result<bool> {
        let after = std::mem::take(&mut self.marked);
        let channels = mdm.store.peek(|conn| ddm::sync::marked(conn, &after, AT_ONCE))?;
        let Some(last) = channels.last().cloned() else {
            // What is before the last, and was marked meanwhile, comes with the next wake.
            return Ok(false);
        };
        self.look_at(mdm, channels).await?;
        self.marked = last;
        Ok(true)
    }

    /// Looks at channels in one transaction; if that fails, at each by itself.
    async fn look_at(&mut self, mdm: &Mdm, mut channels: Vec<String>) -> Result<()> {
        channels.retain(|channel| !self.passed_over.contains(channel));
        if channels.is_empty() {
            return Ok(());
        }
        let all = channels.clone();
        let whole = mdm.store.write("sync.pass", move |tx| batch(tx, &all)).await;
        match whole {
            Ok(()) => return Ok(()),
            // It is not a channel's fault.
            Err(Error::Busy) => return whole,
            Err(_) => {}
        }
        let (mut failed, number) = (Vec::new(), channels.len());
        for channel in channels {
            let one = vec![channel.clone()];
            match mdm.store.write("sync.pass.one", move |tx| batch(tx, &one)).await {
                Ok(()) => {}
                Err(Error::Busy) => return Err(Error::Busy),
                Err(error) => {
                    tracing::error!(
                        enrollment.id = channel,
                        error = error.chain(),
                        "what this channel should have was not found out; it is passed over until the next edit"
                    );
                    failed.push(channel);
                }
            }
        }
        // Where nothing at all can be written, that is not a channel's fault either.
        if number > 1 && failed.len() == number {
            return whole;
        }
        self.passed_over.extend(failed);
        Ok(())
    }
}

/// Most that came by meanwhile were looked at then.
fn batch(tx: &Tx<'_>, channels: &[String]) -> Result<()> {
    let plan = plans::present(tx)?;
    for channel in channels {
        if ddm::sync::is_stale(tx, channel, tx.now())? {
            sync::refresh_by(tx, &plan, channel)?;
        }
    }
    Ok(())
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
