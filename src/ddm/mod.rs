//! Declarative management: what devices should have, what they were told, what they report.
//!
//! People write *declarations* and put them into *groups* of devices. [`manifest`] says which set of
//! them a channel should have, [`sync`] keeps for each channel the token of that set and the one that it
//! was last told, [`status`] takes what devices report. A device asks for `tokens`, then
//! `declaration-items`, then each `declaration/…` it does not have. See Apple's "Integrating Declarative
//! Management".
//!
//! Nothing here queues, pushes, or knows enrollments: `mdm` says who asks with a [`Subject`], and looks
//! after each edit who has to be told.
//!
//! **Invariant:** the DeclarationsToken is a function of the set of declarations and nothing else, and
//! between the list and the last fetch a device is served from one and the same set.

pub mod app_set;
pub mod compliance;
pub mod declaration;
pub mod exposed;
pub mod generation;
pub mod group;
pub mod manifest;
pub mod membership;
pub mod personal_address;
pub mod plans;
pub mod predicate;
pub mod preview;
pub mod reads;
pub mod served;
pub mod snapshot;
pub mod standing;
pub mod status;
pub mod subject;
pub mod sync;
pub mod update;

mod app;
mod known;
mod own;

pub use own::{Organization, PREFIX, set_organization};
pub use served::set_public_url;
pub use subject::Subject;

use crate::error::Result;
use crate::storage::Tx;

/// An edit of what devices should have.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'a> {
    /// Who made it.
    pub actor: &'a str,
    /// Whether the devices concerned are woken; otherwise they learn of it at their next contact.
    pub notify: bool,
}

/// Forgets what a channel was told and what it reported: it starts anew, or has left. What became of
/// values that people watch stays.
///
/// # Errors
/// The database's.
pub fn forget(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    sync::forget(tx, enrollment_id)?;
    personal_address::forget(tx, enrollment_id)?;
    status::forget(tx, enrollment_id)
}

/// Removes all that is known of a channel, its history too: nobody will ask for it any more.
///
/// # Errors
/// The database's.
pub fn erase(tx: &Tx<'_>, enrollment_id: &str) -> Result<()> {
    forget(tx, enrollment_id)?;
    status::change::forget(tx, enrollment_id)?;
    group::leave_all(tx, enrollment_id)
}

#[cfg(test)]
mod tests;
