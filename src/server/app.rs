//! The wiring: from a configuration to a running server.
//!
//! The order of [`App::open`] is the order of the layers. Each part is a cheap handle that gets what
//! stands beneath it and nothing else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::routing::any;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::certificate_files::CertificateFiles;
use super::client_certificates::ClientCertificates;
use super::listener::{Listener, Socket};
use super::network::Network;
use super::signer::self_signed;
use super::tls::{self, Pair, ServerCertificate};
use super::{files, redirect, restored, tasks};
use crate::acme::Acme;
use crate::admin::{self, Admin};
use crate::apns::Apns;
use crate::apns::mdmcert::Service;
use crate::backup::Backups;
use crate::clock::Clock;
use crate::config::{self, Config, Origin, TlsMode};
use crate::content::Contents;
use crate::ddm;
use crate::doctor::Doctor;
use crate::enroll::{self, Enroll, Settings, Signer};
use crate::error::{Error, Result};
use crate::expiry::{Expiry, Watched};
use crate::mdm::{self, Mdm, caller::Proxy, listing};
use crate::pki::authority::{Authority, Lifetimes};
use crate::pki::seal::{self, Seal};
use crate::pki::tls_names::{Names, machine_host_name};
use crate::request;
use crate::storage::{Lock, Store};
use crate::webhook::Webhook;

/// The socket's name in the data folder.
pub const SOCKET: &str = "russet.sock";

/// How long requests may go on after the server was asked to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the database may take to be closed: the last requests may still hold it for a moment.
const CLOSING: Duration = Duration::from_secs(3);

/// Everything but the ports.
pub struct App {
    config: Config,
    pub store: Store,
    pub mdm: Mdm,
    pub enroll: Enroll,
    pub admin: Admin,
    pub backups: Backups,
    /// In mode `acme`.
    pub acme: Option<Acme>,
    pub webhook: Webhook,
    pub expiry: Expiry,
    pub(super) seal: Seal,
    pub(super) authority: Arc<ArcSwap<Option<Authority>>>,
    pub(super) signer: Arc<ArcSwap<Signer>>,
    pub(super) names: Names,
    pub(super) server_certificate: ServerCertificate,
    pub(super) client_certificates: ClientCertificates,
    certificate_files: Option<CertificateFiles>,
    lock: Lock,
}

impl App {
    /// Opens the data folder, making on the first start all that it needs. Opens no port.
    ///
    /// # Errors
    /// In words: the disk's, a newer schema, a lost sealing key, a certificate file that is missing.
    pub async fn open(config: &Config, lock: Lock, clock: Clock) -> Result<Self> {
        let store = Store::open(&config.data_dir, clock.clone())?;
        keep_public_url(&store, config)?;
        restored::settle(&store, &config.data_dir).await?;
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let seal = open_seal(&store, &config.data_dir, credentials.as_deref()).await?;

        let organization = config.organization.name.as_str();
        let lifetimes = lifetimes(config);
        let authority = Authority::open(&store, &seal, organization, lifetimes).await?;
        let client_certificates = ClientCertificates::default();
        if let Some(authority) = &authority {
            client_certificates.name_authority(authority.subject_der());
        }
        let listen = [config.server.listen.as_slice(), &config.server.admin_listen].concat();
        let names = Names::new(config.public_host(), machine_host_name().as_deref(), &listen)
            .and_host(config.admin.host.as_deref());
        let acme = match &config.tls.mode {
            TlsMode::Acme => Some(Acme::open(&store, &seal, config.public_host(), &config.tls.acme)?),
            _ => None,
        };
        let (server_certificate, signer, certificate_files) = match &config.tls.mode {
            TlsMode::SelfSigned => {
                let (pair, signer) =
                    self_signed(&store, &seal, organization, &names, lifetimes, None).await?;
                (ServerCertificate::new(pair)?, signer, None)
            }
            TlsMode::Files { certificate, private_key } => {
                let mut files = CertificateFiles::new(certificate.clone(), private_key.clone());
                let server = files.load()?;
                let signer = Signer::of_files(&server.pair())?;
                (server, signer, Some(files))
            }
            TlsMode::Acme => {
                let issued = acme.as_ref().map(Acme::current).transpose()?.flatten();
                let (pair, signer) = match issued.as_ref().map(Pair::from) {
                    Some(pair) => {
                        let signer = Signer::of_files(&pair)?;
                        (pair, signer)
                    }
                    // Devices that come before the first certificate trust the one of our own.
                    None => self_signed(&store, &seal, organization, &names, lifetimes, None).await?,
                };
                let challenges = acme.as_ref().map(|acme| acme.challenges().clone()).unwrap_or_default();
                (ServerCertificate::with_challenges(pair, challenges)?, signer, None)
            }
        };

        let apns_server = config.apns.server.to_string();
        let apns = Apns::open(&store, &seal, &apns_server, config.apns.trust.as_deref(), &clock)?;
        let authority = Arc::new(ArcSwap::from_pointee(authority));
        let signer = Arc::new(ArcSwap::from_pointee(signer));
        if let Some(acme) = &acme {
            let (server, signer) = (server_certificate.clone(), signer.clone());
            acme.on_issue(move |issued| {
                let pair = Pair::from(issued);
                let new = Signer::of_files(&pair)?;
                server.replace(pair)?;
                signer.store(Arc::new(new));
                Ok(())
            });
        }
        let enroll = Enroll::new(&store, settings(config), signer.clone(), authority.clone());
        let told = ddm::Organization {
            name: organization.to_owned(),
            email: config.organization.email.clone().unwrap_or_default(),
        };
        let public_url = config.server.public_url.to_string();
        store
            .write("organization", move |tx| {
                ddm::set_organization(tx, &told)?;
                ddm::set_public_url(tx, &public_url)
            })
            .await?;
        let proxy = Proxy {
            trusted: config.proxy.trusted.clone(),
            header: config.proxy.client_certificate_header.clone(),
        };
        let contents = Contents::open(&config.data_dir, &seal)?;
        let renew_before_days = config.enrollment.renew_before_days;
        let webhook = Webhook::open(&config.webhook, &store, &seal).await?;
        let mdm = Mdm::new(&store, &seal, &apns, &enroll, &contents, proxy, renew_before_days)
            .telling(webhook.format());
        let backups = Backups::open(config, &store, &seal, &contents).await?;
        let (presents, tells) = (server_certificate.clone(), enroll.clone());
        let watched = Watched {
            tls_certificate: Arc::new(move || presents.pair().chain.first().map(|leaf| leaf.to_vec())),
            next_root: Arc::new(move || tells.next_anchor()),
        };
        let expiry = Expiry::open(config, &store, watched)?;
        let admin = Admin::new(admin::Parts {
            mdm: mdm.clone(),
            backups: backups.clone(),
            doctor: Doctor::new(
                config,
                &mdm,
                &backups,
                acme.as_ref(),
                &webhook,
                &expiry,
                &server_certificate.chain(),
            )?,
            tls: admin::Tls {
                mode: config.tls.mode.as_str(),
                chain: server_certificate.chain(),
                acme: acme.clone(),
            },
            mdmcert: Service {
                url: config.mdmcert.url.clone(),
                client_key: config.mdmcert.client_key.clone(),
                trust: config.mdmcert.trust.clone(),
            },
            organization: organization.into(),
            settings: config::rows(config).into(),
            webhook: webhook.clone(),
            expiry: expiry.clone(),
            page_url: page_url(config).into(),
        });
        Ok(Self {
            config: config.clone(),
            store,
            mdm,
            enroll,
            admin,
            backups,
            acme,
            webhook,
            expiry,
            seal,
            authority,
            signer,
            names,
            server_certificate,
            client_certificates,
            certificate_files,
            lock,
        })
    }

    /// The configuration that it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How long what it certifies is valid.
    pub fn lifetimes(&self) -> Lifetimes {
        lifetimes(&self.config)
    }

    /// What the command line gets over the socket: the API and nothing else.
    pub fn socket_router(&self) -> Router {
        self.admin.routes()
    }

    fn device_router(&self) -> Router {
        let trust = self.enroll.trust_routes();
        let devices = self.mdm.routes().layer(request::limit(mdm::BODY_LIMIT as u64));
        let enroll = self.enroll.routes().layer(request::limit(enroll::BODY_LIMIT as u64));
        let enroll = enroll.layer(request::forwarded(&self.config.proxy.trusted));
        trust.merge(devices).merge(enroll)
    }

    /// Listens, starts the background tasks, and answers how to stop it all.
    ///
    /// # Errors
    /// In words: a port in use or not permitted, a folder that cannot hold the socket.
    pub async fn serve(mut self) -> Result<Running> {
        let people = self.admin.routes();
        let public = if self.config.server.admin_listen.is_empty() {
            self.device_router().merge(people)
        } else {
            // People are served elsewhere; who knocks here is told so without a page.
            self.device_router()
                .merge(self.admin.health_route())
                .fallback(any(|| async { (hyper::StatusCode::NOT_FOUND, "this port serves devices only\n") }))
        };
        let listener = Listener::bind(&self.config.server.listen, "[server] listen")?;
        let admin = Listener::bind(&self.config.server.admin_listen, "[server] admin_listen")?;
        let http = Listener::bind(&self.config.server.http_listen, "[server] http_listen")?;
        let socket = Socket::bind(&self.config.data_dir.join(SOCKET))?;
        let addresses = listener.addresses().to_vec();
        let admin_addresses = admin.addresses().to_vec();

        let listeners = [&listener, &admin, &http].iter().filter(|of| !of.addresses().is_empty()).count();
        let network = Network::with_room(files::room(listeners));
        let asked = tls::config(&self.server_certificate, Some(&self.client_certificates))?;
        let unasked = tls::config(&self.server_certificate, None)?;
        network.serve_tls(listener, asked, public);
        network.serve_tls(admin, unasked, self.admin.inner_routes());
        let public_url = self.config.server.public_url.to_string();
        let mut in_the_clear = self.enroll.trust_routes();
        if let Some(acme) = &self.acme {
            in_the_clear = in_the_clear.merge(acme.challenges().routes());
        }
        network.serve_plain(http, redirect::router(&public_url, in_the_clear));
        network.serve_socket(socket, self.socket_router());

        let mut running_tasks = JoinSet::new();
        if let Some(files) = self.certificate_files.take() {
            tasks::watch_certificate(&mut running_tasks, files, &self);
        }
        let app = Arc::new(self);
        tasks::start(&mut running_tasks, &app);
        Ok(Running { app, network, tasks: running_tasks, addresses, admin_addresses })
    }

    /// Ends: writes what is gathered, and lets go of the folder when the database is closed.
    pub async fn close(self) {
        flush(&self.mdm, &self.store).await;
        let closed = self.store.closed();
        let Self { lock, store, mdm, enroll, admin, backups, acme, webhook, expiry, .. } = self;
        drop((store, mdm, enroll, admin, backups, acme, webhook, expiry));
        if timeout(CLOSING, closed).await.is_err() {
            tracing::warn!("the database is still in use at the end; what was acknowledged is on the disk");
        }
        drop(lock);
    }
}

/// A server that listens.
pub struct Running {
    pub app: Arc<App>,
    network: Network,
    /// What it does without being asked. Whoever wants to do that by hand shuts them down.
    pub tasks: JoinSet<()>,
    /// Where devices are served, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// Where people are served, if that is elsewhere.
    pub admin_addresses: Vec<SocketAddr>,
}

impl Running {
    /// Whether no server listened on this data folder before; true once, when it does listen. Commands
    /// that made the folder earlier, and a start that found its port in use, do not count.
    ///
    /// # Errors
    /// The database's.
    pub async fn is_first(&self) -> Result<bool> {
        let noted = self.app.store.write("first_start", |tx| {
            Ok(tx.execute("INSERT OR IGNORE INTO facts (name, value) VALUES ('served', '')", [])?)
        });
        Ok(noted.await? == 1)
    }

    /// Lets requests finish, writes what is gathered, closes the database, and ends.
    pub async fn stop(mut self) {
        self.app.admin.end_streams();
        self.network.stop(PATIENCE).await;
        self.tasks.shutdown().await;
        match Arc::try_unwrap(self.app) {
            Ok(app) => app.close().await,
            Err(app) => flush(&app.mdm, &app.store).await,
        }
    }
}

async fn flush(mdm: &Mdm, store: &Store) {
    if let Err(error) = mdm.contacts.flush(store).await {
        tracing::error!(error = error.chain(), "the last contacts of devices were not written");
    }
}

fn lifetimes(config: &Config) -> Lifetimes {
    Lifetimes { ca_days: config.enrollment.ca_days, identity_days: config.enrollment.identity_days }
}

fn settings(config: &Config) -> Settings {
    Settings {
        public_url: config.server.public_url.to_string(),
        public_url_is_localhost: config.public_url_is_localhost(),
        organization: config.organization.name.clone(),
        identifier: config.organization.identifier.clone(),
        email: config.organization.email.clone(),
        phone: config.organization.phone.clone(),
        access_rights: config.enrollment.access_rights,
        identity_days: config.enrollment.identity_days,
    }
}

/// Where people open the page: `public_url`, unless they have listeners of their own.
fn page_url(config: &Config) -> String {
    let Some(listen) = config.server.admin_listen.first() else {
        return config.server.public_url.to_string();
    };
    let host = match &config.admin.host {
        Some(host) => host.clone(),
        None if listen.ip().is_unspecified() => config.public_host().to_owned(),
        None => listen.ip().to_canonical().to_string(),
    };
    Origin { host, port: listen.port() }.to_string()
}

/// Devices that enrolled know the server by one name for ever; a configuration with another is
/// refused while there are any. A name that only this machine knows binds nobody.
fn keep_public_url(store: &Store, config: &Config) -> Result<()> {
    let wanted = config.server.public_url.to_string();
    let lost = store
        .peek(listing::servers_known)?
        .into_iter()
        .find(|known| *known != wanted && !Origin::parse(known).is_ok_and(|known| known.is_localhost()));
    match lost {
        None => Ok(()),
        Some(known) => Err(Error::conflict(format!(
            "public_url is {wanted}, but devices are enrolled that know this server as {known} and would be lost; \
             write public_url = \"{known}\" again, or unenroll them first and wait until each was told"
        ))),
    }
}

/// The sealing key may be made only while nothing is sealed; the fact says that something may be.
async fn open_seal(store: &Store, data_dir: &Path, credentials: Option<&Path>) -> Result<Seal> {
    let in_use =
        store.peek(|conn| Ok(conn.prepare("SELECT 1 FROM facts WHERE name = 'sealed'")?.exists([])?))?;
    let seal = Seal::open(data_dir, credentials, !in_use)?;
    if !in_use {
        store
            .write("sealed", |tx| {
                tx.execute("INSERT OR IGNORE INTO facts (name, value) VALUES ('sealed', ?1)", [seal::FILE])?;
                Ok(())
            })
            .await?;
    }
    Ok(seal)
}
