//! What Apple's schema says, as data, and the checks made with it.
//!
//! The tables in `data/` are embedded and read once, at first use. [`commands`] makes a request for a
//! device from what a person sent; [`secrets`] knows which of its keys nobody is shown; [`checkin`]
//! checks the types of what devices send. [`declarations`] checks what a person wrote of the state a
//! device should have, and knows which devices can have it; [`status`] and [`reasons`] know what devices
//! report of it. [`services`] knows which files services of macOS take. [`table`], [`check`] and [`platform`] know nothing of these and serve every table.
//!
//! **Invariant:** Apple's names and constraints live in the tables; code holds only what the tables do
//! not say.

pub mod check;
pub mod checkin;
pub mod commands;
pub mod declarations;
pub mod platform;
pub mod profiles;
pub mod reasons;
pub mod secrets;
pub mod services;
pub mod status;
pub mod table;

mod effect;
pub mod nearest;

impl From<crate::plist::PlistError> for crate::error::Error {
    fn from(error: crate::plist::PlistError) -> Self {
        Self::invalid(error.to_string())
    }
}
