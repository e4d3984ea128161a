//! Simulated Apple devices, and a stand-in for Apple's push service.
//!
//! Written from Apple's documents and the RFCs, not from this server, so that they find its
//! mistakes: their own ASN.1, CMS, SCEP and HTTP, and every answer held against what a real device
//! demands. `russet simulate` and `russet demo` run fleets of them; the tests hold conversations with
//! single ones:
//!
//! ```text
//!   fleet  report                       many devices, what they came to │ apple (loopback APNs)
//!   enrollment  check_in  connection    what a device does
//!   answers rights information settings install declarations
//!   device  kind  profile               what it is, what it was told
//!   scep  cms  envelope  identity  wire  ber      how it speaks
//! ```
//!
//! **Invariant:** nothing in here uses `pki`, `enroll`, `mdm`, `ddm`, `apns`, `schema` or `storage`.

mod answers;
mod apple;
mod apple_tls;
pub mod artifact;
mod ber;
mod certificate;
mod check_in;
mod cms;
mod connection;
mod declarations;
mod device;
mod enrollment;
mod envelope;
mod fault;
mod fleet;
mod identity;
mod information;
mod install;
mod kind;
mod profile;
mod report;
mod rights;
mod scep;
mod settings;
mod trust;
mod wire;

/// A catalogue of operating systems in the form of Apple's, in which these devices find an update.
pub const CATALOGUE: &str = include_str!("catalogue.json");

pub use answers::{Answer, Status};
pub use apple::{Apple, Limits, Misbehaviour, Received};
pub use apple_tls::push_certificate;
pub use ber::Lengths;
pub use certificate::Digest;
pub use cms::{Form, sign_detached};
pub use connection::{Command, Exchange};
pub use declarations::{Declaration, Engine, Reason, State, Update};
pub use device::{Channel, Device, Push, User};
pub use fault::Fault;
pub use fleet::{Event, Fleet, Happened, OWN_KEYS, Plan, simulate};
pub use identity::{Identity, Key};
pub use kind::Kind;
pub use profile::{Management, Profile};
pub use report::{Meter, Report, Step, Trouble};
pub use trust::Trust;
pub use wire::Reply;
