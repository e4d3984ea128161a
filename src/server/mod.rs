//! The running server: listeners, connections and what happens to every request.
//!
//! [`listener`] binds, [`network`] accepts and stops, [`tls`] presents the certificate, [`layers`]
//! bounds and names every request; the routers come from `mdm`, `enroll` and `admin`.
//!
//! **Invariant:** what a peer can make the server hold in memory or wait for is bounded before any
//! handler runs: connections by `network`, their bytes by `budget`, their time by `connection`.

mod app;
mod body;
mod budget;
mod catalogue;
pub mod certificate_files;
pub mod client_certificates;
mod connection;
mod files;
pub mod layers;
mod linger;
pub mod listener;
pub mod network;
mod progress;
pub mod redirect;
mod restored;
mod signer;
mod tasks;
pub mod tls;

pub use app::{App, Running, SOCKET};
