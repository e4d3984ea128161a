//! What a webhook is told: by whom, in which order, with which secrets, and what becomes of it where the
//! target fails.

mod delivery;
mod figures;
mod messages;
mod stand;

use russet::clock::Clock;
use russet::config::{Config, Secret, WebhookFormat};
use russet::id;
use russet::mdm::event;

use crate::support::{Appliance, NOW, TOPIC};
use stand::Stand;

const SECRET: &str = "a secret of both";

/// A server with this webhook, and its target.
async fn telling(change: impl FnOnce(&mut Config)) -> (Appliance, Stand, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let stand = Stand::start(folder.path()).await;
    let appliance = Appliance::at(Clock::set_to(NOW), |config| {
        config.webhook.url = Some(stand.url());
        config.webhook.secret = Some(Secret::new(SECRET));
        config.webhook.trust = Some(stand.trust.clone());
        config.webhook.allow_private = true;
        change(config);
    })
    .await;
    appliance.import_push_certificate(TOPIC).await;
    (appliance, stand, folder)
}

/// As [`telling`], where nothing is delivered but by the test.
async fn telling_by_hand(change: impl FnOnce(&mut Config)) -> (Appliance, Stand, tempfile::TempDir) {
    let (mut appliance, mut stand, folder) = telling(change).await;
    appliance.running.as_mut().unwrap().tasks.shutdown().await;
    appliance.app().webhook.round().await.unwrap();
    stand.so_far();
    (appliance, stand, folder)
}

fn micromdm(config: &mut Config) {
    config.webhook.format = WebhookFormat::MicroMdm;
}

impl Appliance {
    /// Records an event, as a part of the server does.
    async fn happens(&self, kind: &'static str) {
        let work = move |tx: &russet::storage::Tx<'_>| event::record(tx, kind, None, "It happened.");
        self.app().store.write("test.event", work).await.unwrap();
    }
}

/// RFC 2104 over SHA-256, spelled out.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |with: u8, rest: &[u8]| {
        let mut whole: Vec<u8> = block.iter().map(|byte| byte ^ with).collect();
        whole.extend_from_slice(rest);
        id::sha256(&whole)
    };
    padded(0x5c, &padded(0x36, message))
}

#[test]
fn our_own_hmac_is_that_of_rfc_4231() {
    let tag = hmac(b"Jefe", b"what do ya want for nothing?");
    assert_eq!(id::hex(&tag), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
