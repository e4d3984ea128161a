//! A data folder with as many enrollments as wanted, written in bulk before the server starts.
//!
//! Everything goes through the server's own functions: its CA issues the identities, its tables get
//! the rows that a real enrollment leaves. A pool of keys is shared, because making ten thousand
//! RSA keys takes an hour and proves nothing.
//!
//! **Invariant:** after [`Prepared::new`] nobody works on the folder any more.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use russet::apns::{self, Pair};
use russet::clock::{Clock, DAY};
use russet::config::{self, Config};
use russet::enroll::invitation::{self, Wanted};
use russet::enroll::session::{self, Origin, Parameters};
use russet::mdm::enrollment::{self, Facts, Push};
use russet::mdm::escrow;
use russet::mdm::ids::Ids;
use russet::pki::authority::{Authority, Subject};
use russet::pki::certificate::Certificate;
use russet::pki::identity::{self, Fingerprint};
use russet::pki::key::PrivateKey;
use russet::pki::seal::Seal;
use russet::server::App;
use russet::simulator::{Apple, Identity, Key, push_certificate};
use russet::storage::{Lock, Tx};
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc;

use crate::requests::{Device, unlock_token, xml};
use crate::{Failed, Result, declared, parallel};

/// How many keys the devices share.
const KEYS: usize = 16;
/// How many devices one transaction writes.
const AT_ONCE: usize = 500;
const TOPIC: &str = "com.apple.mgmt.External.russet-bench";

/// A folder that a server can be started on, and the devices that it knows.
pub(crate) struct Prepared {
    pub(crate) config: PathBuf,
    pub(crate) port: u16,
    /// Bound and never listening: nobody else is given the port before the server listens on it.
    _reserved: Socket,
    /// The TLS root, DER.
    pub(crate) anchor: Vec<u8>,
    pub(crate) topic: &'static str,
    pub(crate) enrolled: Vec<Device>,
    /// For the API, once the server runs; see [`Prepared::make_token`].
    pub(crate) token: String,
    /// Identities were issued for these, and nothing else was done.
    pub(crate) newcomers: Vec<Device>,
    /// What the stand-in for APNs was given so far.
    pushes: Arc<AtomicUsize>,
}

/// A device of ours, with what its session is called.
struct Made {
    device: Device,
    session: String,
    public_key: [u8; 32],
}

impl Prepared {
    /// `declared`: whether anything is declared for them.
    pub(crate) async fn new(
        folder: &Path,
        apple: &Apple,
        enrolled: usize,
        newcomers: usize,
        declared: bool,
    ) -> Result<Self> {
        let reserved = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        reserved.set_reuse_address(true)?;
        reserved.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let port = reserved.local_addr()?.as_socket().map_or(0, |address| address.port());
        let file = folder.join("russet.toml");
        std::fs::write(folder.join("apple.pem"), apple.root_pem())?;
        let text = format!(
            "data_dir = \"data\"\n\n[server]\nlisten = [\"127.0.0.1:{port}\"]\n\
             public_url = \"https://localhost:{port}\"\n\n[apns]\nserver = \"{}\"\ntrust = \"apple.pem\"\n",
            apple.url()
        );
        std::fs::write(&file, text)?;
        let config = config::load(Some(&file), std::iter::empty())?;

        let app = App::open(&config, Lock::take(&config.data_dir)?, Clock::system()).await?;
        let anchor = app.enroll.anchor().ok_or_else(|| Failed("there is no TLS root".into()))?;
        let origin = found(&app).await?;
        if declared {
            app.store.write("bench.declarations", declared::declare).await?;
        }
        let mut made = make(&app.enroll.authority()?, &config, enrolled + newcomers)?;
        let parameters = parameters(&config);
        let mut devices = Vec::with_capacity(made.len());
        while !made.is_empty() {
            let some: Vec<Made> = made.drain(..AT_ONCE.min(made.len())).collect();
            let (origin, parameters, begun) = (origin.clone(), parameters.clone(), devices.len());
            let seal = app.mdm.seal.clone();
            let written = app.store.write("bench.devices", move |tx| {
                for (at, made) in some.iter().enumerate() {
                    let fingerprint = issue(tx, made, &origin, &parameters)?;
                    if begun + at < enrolled {
                        if declared {
                            declared::join(tx, &made.device.udid, begun + at)?;
                        }
                        enroll(tx, &seal, made, &fingerprint)?;
                    }
                }
                Ok(some)
            });
            devices.extend(written.await?.into_iter().map(|made| made.device));
        }
        app.close().await;
        let newcomers = devices.split_off(enrolled);
        Ok(Self {
            config: file,
            port,
            _reserved: reserved,
            anchor,
            topic: TOPIC,
            enrolled: devices,
            token: String::new(),
            newcomers,
            pushes: Arc::default(),
        })
    }

    /// How many pushes went out so far.
    pub(crate) fn pushes(&self) -> usize {
        self.pushes.load(Ordering::Relaxed)
    }

    /// Makes the devices known to the stand-in for APNs; pushes are taken and lead to nothing.
    pub(crate) fn register(&self, apple: &Apple) {
        let (waker, mut woken) = mpsc::unbounded_channel();
        let pushes = self.pushes.clone();
        tokio::spawn(async move {
            while woken.recv().await.is_some() {
                pushes.fetch_add(1, Ordering::Relaxed);
            }
        });
        for device in &self.enrolled {
            let channel = russet::simulator::Channel::Device;
            apple.register(&device.push_token, self.topic, &device.push_magic, channel, waker.clone());
        }
    }

    /// Asks the server for a token with which commands may be queued, or declarations written.
    pub(crate) fn make_token(&mut self, scope: &str) -> Result<()> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_russet"));
        command.args(["token", "create", "bench", "--scope", scope, "--config"]).arg(&self.config);
        let output = command.output()?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(Failed(format!("no API token could be made: {words}")).into());
        }
        String::from_utf8(output.stdout)?.trim().clone_into(&mut self.token);
        Ok(())
    }

    /// Bytes of the database and its log.
    pub(crate) fn database(&self) -> Result<u64> {
        let file = self.config.with_file_name("data").join(russet::storage::FILE);
        let log = std::fs::metadata(file.with_extension("db-wal")).map_or(0, |log| log.len());
        Ok(std::fs::metadata(file)?.len() + log)
    }
}

/// What has to be there before anybody can enroll: a push certificate and an invitation.
async fn found(app: &App) -> Result<Origin> {
    let (certificate, key) = push_certificate(TOPIC)?;
    let pair = Pair::from_parts(&[certificate.as_bytes(), key.as_bytes()], None, app.store.clock().now())?;
    let seal = app.mdm.seal.clone();
    let code = app.store.write("bench.found", move |tx| {
        let said = apns::certificate::Import {
            apple_account: None,
            signed_by: "import",
            imported_by: "bench",
            replace_topic: None,
        };
        apns::certificate::import(tx, &seal, &pair, &said, &[])?;
        let wanted = Wanted { uses: Some(100_000), ..Wanted::default() };
        Ok(invitation::create(tx, &wanted, "bench")?.code)
    });
    Ok(Origin::Invitation(code.await?))
}

fn parameters(config: &Config) -> Parameters {
    let url = config.server.public_url.to_string();
    Parameters {
        topic: TOPIC.into(),
        server_url: format!("{url}/mdm/connect"),
        check_in_url: format!("{url}/mdm/checkin"),
        scep_url: format!("{url}/scep"),
        access_rights: config.enrollment.access_rights,
        capabilities: vec!["com.apple.mdm.per-user-connections".into(), "com.apple.mdm.token".into()],
        identifier: format!("{}.enrollment", config.organization.identifier),
        organization: config.organization.name.clone(),
        mdm_uuid: russet::id::uuid(),
    }
}

/// Devices with certificates of our CA, made by all processors.
fn make(authority: &Authority, config: &Config, number: usize) -> Result<Vec<Made>> {
    let keys = parallel(KEYS, |_| {
        let key = Arc::new(Key::generate(2048)?);
        // The simulator shows no public key; the certificate asks for one.
        let spki =
            PrivateKey::from_pkcs8(Identity::new(key.clone(), Vec::new()).pkcs8())?.public_key_info()?;
        Ok((key, spki))
    })?;
    let now = Clock::system().now();
    parallel(number, |at| {
        let (key, spki) = &keys[at % KEYS];
        let session = russet::id::hex(&russet::id::random::<16>());
        let subject = Subject {
            common_name: &session,
            organization: &config.organization.name,
            organizational_unit: None,
        };
        let end = now + i64::from(config.enrollment.identity_days) * DAY;
        let certificate = authority.issue(spki, subject, now - DAY, end, now)?;
        Ok(Made {
            device: Device {
                udid: russet::id::uuid(),
                identity: Identity::new(key.clone(), certificate),
                push_token: russet::id::random::<32>().to_vec(),
                push_magic: russet::id::uuid(),
            },
            session,
            public_key: russet::id::sha256(spki),
        })
    })
}

/// The rows that SCEP leaves.
fn issue(
    tx: &Tx<'_>,
    made: &Made,
    origin: &Origin,
    parameters: &Parameters,
) -> russet::error::Result<Fingerprint> {
    let Made { device, session, public_key } = made;
    session::open_as(tx, session, &russet::id::secret::<32>(), origin, parameters, tx.now() + DAY)?;
    let parsed = Certificate::from_der(&device.identity.certificate)
        .map_err(|source| russet::error::Error::caused("an issued certificate cannot be read", source))?;
    identity::insert(
        tx,
        &identity::Issued {
            certificate: &device.identity.certificate,
            serial_number: &parsed.serial_hex(),
            session_id: session,
            public_key,
            not_before: parsed.not_before(),
            not_after: parsed.not_after(),
        },
    )
}

/// The rows that Authenticate and TokenUpdate leave.
fn enroll(tx: &Tx<'_>, seal: &Seal, made: &Made, fingerprint: &Fingerprint) -> russet::error::Result<()> {
    let Made { device, session, .. } = made;
    let message = device.authenticate(TOPIC);
    let ids = Ids::of(&message)?;
    let text = |key: &str| message.get(key).and_then(plist::Value::as_string);
    let facts = Facts {
        topic: TOPIC,
        serial_number: text("SerialNumber"),
        name: text("DeviceName"),
        model: text("Model"),
        model_name: text("ModelName"),
        product_name: text("ProductName"),
        os_version: text("OSVersion"),
        build_version: text("BuildVersion"),
    };
    enrollment::begin(tx, &ids, session, &facts)?;
    identity::pin(tx, fingerprint, &device.udid)?;
    session::bind(tx, session, &device.udid)?;
    if let Some(session) = session::find(tx, session)? {
        session::count_use(tx, &session)?;
    }
    let push = Push { topic: TOPIC, magic: &device.push_magic, token: &device.push_token };
    enrollment::update_token(tx, &ids, &push, Some(false))?;
    // As devices that have been here for a while: what they should have they were told.
    russet::mdm::sync::refresh(tx, &device.udid)?;
    if let Some(sync) = russet::ddm::sync::find(tx, &device.udid)? {
        russet::ddm::sync::told(tx, &device.udid, &sync.token)?;
        russet::mdm::wake::nothing_due(tx, &device.udid)?;
    }
    escrow::store(tx, seal, &device.udid, escrow::Kind::UnlockToken, &unlock_token())?;
    let written = |error: Box<dyn std::error::Error + Send + Sync>| {
        russet::error::Error::internal(format!("a message cannot be written: {error}"))
    };
    let mut token_update = device.token_update(TOPIC);
    for secret in ["Token", "PushMagic", "UnlockToken"] {
        token_update.remove(secret);
    }
    enrollment::keep_message(tx, &device.udid, "Authenticate", &xml(message).map_err(written)?)?;
    enrollment::keep_message(tx, &device.udid, "TokenUpdate", &xml(token_update).map_err(written)?)
}
