//! People and scripts: the API under `/api/v1/`, the plain page, sign-in, tokens, the audit.
//!
//! `table` lists every route of the API with the scope that it needs; each noun has a file of
//! handlers, which are decode, one transaction, encode. `server` serves [`Admin::routes`] to the
//! network and to the socket on this machine.
//!
//! **Invariant:** every route in `table` stands behind `auth::require`; what anybody may ask is
//! listed in [`Admin::routes`] and [`Admin::inner_routes`] alone.

mod app;
mod app_set;
mod apply;
mod apply_files;
mod apply_services;
mod asset;
mod audit;
mod auth;
mod background_task;
mod backup;
mod body;
mod calendar;
mod claim;
mod command;
mod compliance;
mod declaration;
mod enrollment;
mod event;
mod expiry;
mod finding;
mod fleet;
mod group;
mod invitation;
mod kmfddm;
mod kmfddm_status;
mod mail;
mod metrics;
mod nanohub;
mod package;
mod page;
mod precondition;
mod preview;
mod profile;
mod push;
mod push_certificate;
mod push_request;
mod query;
mod recovery_page;
mod reply;
mod service;
mod session;
mod settings;
mod status;
mod takeover;
mod tls_certificate;
mod token;
mod update;
mod update_catalogue;
mod update_policy;
mod upload;
mod webhook;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use axum::{Router, middleware};

use crate::acme::Acme;
use crate::apns::mdmcert::Service;
use crate::backup::Backups;
use crate::clock::Seconds;
use crate::content;
use crate::ddm::update::catalogue::LARGEST as CATALOGUE_LIMIT;
use crate::doctor::Doctor;
use crate::enroll::guesses::Guesses;
use crate::error::{Error, Result};
use crate::expiry::Expiry;
use crate::mdm::Mdm;
use crate::pki::chain::Chain;
use crate::request;
use crate::storage::Tx;
use crate::webhook::Webhook;
use auth::Scope;
use reply::Refusal;
pub(crate) use session::sign_out_everybody;

/// The largest body of most routes, and that of the routes that take commands.
const BODY_LIMIT: usize = 1024 * 1024;
const COMMAND_LIMIT: usize = 10 * 1024 * 1024;
/// All groups, declarations and small files of a school together.
const APPLY_LIMIT: usize = 64 * 1024 * 1024;

/// The people's side of the server; a cheap handle.
#[derive(Clone)]
pub struct Admin {
    parts: Parts,
    /// Wrong tokens and links, by address.
    guesses: Arc<Guesses>,
    streams: Arc<event::Streams>,
}

/// What the API is for: a handle of each part of the server.
#[derive(Clone)]
pub struct Parts {
    pub mdm: Mdm,
    pub backups: Backups,
    pub doctor: Doctor,
    pub tls: Tls,
    pub mdmcert: Service,
    /// Whose server this is, as certificates name it.
    pub organization: Arc<str>,
    /// Every setting as it was understood, secrets as `set`, and the file that it came from.
    pub settings: Arc<[(&'static str, String)]>,
    pub webhook: Webhook,
    pub expiry: Expiry,
    /// Where people reach the page: an origin, without a slash at its end.
    pub page_url: Arc<str>,
}

/// The TLS certificate that the listeners present, and who renews it.
#[derive(Clone)]
pub struct Tls {
    /// As the configuration calls it.
    pub mode: &'static str,
    pub chain: Chain,
    /// In mode `acme`.
    pub acme: Option<Acme>,
}

impl Deref for Admin {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// A path, the scope that these methods of it need, and what answers them.
type Route = (&'static str, Scope, MethodRouter<Admin>);

/// The whole API. What is no GET and takes something from somebody is `Admin`; where the body
/// decides, as with commands, the handler asks for more.
fn table() -> Vec<Route> {
    use Scope::{Admin, Command, Read};
    vec![
        ("/api/v1/webhook", Read, get(webhook::show)),
        ("/api/v1/webhook/test", Admin, post(webhook::test)),
        ("/api/v1/enrollments", Read, get(enrollment::list)),
        ("/api/v1/enrollments/{id}", Read, get(enrollment::show)),
        ("/api/v1/enrollments/{id}", Admin, delete(enrollment::delete).patch(enrollment::patch)),
        ("/api/v1/enrollments/{id}/commands", Read, get(command::list_of_enrollment)),
        ("/api/v1/enrollments/{id}/commands", Command, large(post(command::post))),
        ("/api/v1/enrollments/{id}/commands/{uuid}", Read, get(command::show)),
        ("/api/v1/enrollments/{id}/commands/{uuid}", Command, delete(command::delete)),
        ("/api/v1/enrollments/{id}/commands/{uuid}/reveal", Admin, post(command::reveal)),
        ("/api/v1/enrollments/{id}/push", Command, post(push::post)),
        ("/api/v1/enrollments/{id}/declarations", Read, get(status::declarations)),
        ("/api/v1/enrollments/{id}/status", Read, get(status::status)),
        ("/api/v1/enrollments/{id}/updates", Read, get(update::show)),
        ("/api/v1/enrollments/{id}/apps", Read, get(app::list)),
        ("/api/v1/enrollments/{id}/revoke-identity", Admin, post(enrollment::revoke_identity)),
        ("/api/v1/enrollments/{id}/claims", Read, get(claim::list)),
        ("/api/v1/enrollments/{id}/claims/{claim}/approve", Admin, post(claim::approve)),
        ("/api/v1/enrollments/{id}/claims/{claim}/reject", Admin, post(claim::reject)),
        ("/api/v1/claims/approve", Admin, post(claim::approve_list)),
        ("/api/v1/commands", Read, get(command::list)),
        ("/api/v1/commands/{uuid}", Read, get(command::show)),
        ("/api/v1/commands/{uuid}", Command, delete(command::delete)),
        ("/api/v1/commands/{uuid}/reveal", Admin, post(command::reveal)),
        ("/api/v1/declarations", Read, get(declaration::list)),
        ("/api/v1/declarations/{identifier}", Read, get(declaration::show)),
        (
            "/api/v1/declarations/{identifier}",
            Admin,
            large(put(declaration::put).delete(declaration::delete)),
        ),
        ("/api/v1/declarations/{identifier}/preview", Read, get(preview::show)),
        ("/api/v1/declarations/{identifier}/touch", Admin, post(declaration::touch)),
        ("/api/v1/groups", Read, get(group::list)),
        ("/api/v1/groups/{name}", Read, get(group::show)),
        ("/api/v1/groups/{name}", Admin, large(put(group::put).delete(group::delete))),
        ("/api/v1/groups/{name}/members/{id}", Admin, put(group::put_member).delete(group::delete_member)),
        (
            "/api/v1/groups/{name}/declarations/{identifier}",
            Admin,
            put(group::put_declaration).delete(group::delete_declaration),
        ),
        ("/api/v1/profiles", Read, get(profile::list)),
        ("/api/v1/profiles/{identifier}", Read, get(profile::show)),
        ("/api/v1/profiles/{identifier}", Admin, large(put(profile::put)).delete(profile::delete)),
        ("/api/v1/profiles/{identifier}/content", Admin, get(profile::content)),
        ("/api/v1/assets", Read, get(asset::list)),
        ("/api/v1/assets/{identifier}", Read, get(asset::show)),
        ("/api/v1/assets/{identifier}", Admin, in_pieces(put(asset::put)).delete(asset::delete)),
        ("/api/v1/assets/{identifier}/content", Admin, get(asset::content)),
        ("/api/v1/app-sets", Read, get(app_set::list)),
        ("/api/v1/app-sets/{name}", Read, get(app_set::show)),
        ("/api/v1/app-sets/{name}", Admin, put(app_set::put).delete(app_set::delete)),
        ("/api/v1/packages", Read, get(package::list)),
        ("/api/v1/packages/{identifier}", Read, get(package::show)),
        ("/api/v1/packages/{identifier}", Admin, in_pieces(put(package::put)).delete(package::delete)),
        ("/api/v1/packages/{identifier}/content", Admin, get(package::content)),
        ("/api/v1/uploads/{sha256}", Admin, in_pieces(put(upload::put)).get(upload::show)),
        ("/api/v1/update-policies", Read, get(update_policy::list)),
        ("/api/v1/update-policies/{group}", Read, get(update_policy::show)),
        ("/api/v1/update-policies/{group}", Admin, put(update_policy::put).delete(update_policy::delete)),
        ("/api/v1/update-catalogue", Read, get(update_catalogue::show)),
        ("/api/v1/update-catalogue", Admin, limited(put(update_catalogue::put), CATALOGUE_LIMIT)),
        ("/api/v1/updates", Read, get(update::list)),
        // It changes nothing; a condition may be too long for an address.
        ("/api/v1/preview", Read, post(preview::post)),
        ("/api/v1/apply", Admin, limited(post(apply::post), APPLY_LIMIT)),
        ("/api/v1/export", Read, get(apply::export)),
        ("/api/v1/services", Read, get(service::services)),
        ("/api/v1/service-configurations", Read, get(service::list)),
        ("/api/v1/service-configurations/{identifier}", Read, get(service::show)),
        (
            "/api/v1/service-configurations/{identifier}",
            Admin,
            large(put(service::put).delete(service::delete)),
        ),
        ("/api/v1/background-tasks", Read, get(background_task::list)),
        ("/api/v1/background-tasks/{identifier}", Read, get(background_task::show)),
        (
            "/api/v1/background-tasks/{identifier}",
            Admin,
            large(put(background_task::put).delete(background_task::delete)),
        ),
        ("/api/v1/compliance", Read, get(compliance::fleet)),
        ("/api/v1/groups/{name}/compliance", Read, get(compliance::group)),
        ("/api/v1/enrollments/{id}/compliance", Read, get(compliance::enrollment)),
        ("/api/v1/invitations", Read, get(invitation::list)),
        ("/api/v1/invitations", Admin, post(invitation::post)),
        ("/api/v1/invitations/{code}", Read, get(invitation::show)),
        ("/api/v1/invitations/{code}", Admin, delete(invitation::delete)),
        ("/api/v1/push-certificates", Read, get(push_certificate::list)),
        ("/api/v1/push-certificates", Admin, post(push_certificate::post)),
        ("/api/v1/push-certificates/requests", Read, get(push_request::list)),
        ("/api/v1/push-certificates/request", Admin, post(push_request::post)),
        ("/api/v1/push-certificates/request/{id}", Read, get(push_request::show)),
        ("/api/v1/push-certificates/request/{id}", Admin, delete(push_request::delete)),
        ("/api/v1/push-certificates/request/{id}/sign", Admin, post(push_request::sign)),
        ("/api/v1/push-certificates/request/{id}/signed", Admin, post(push_request::signed)),
        ("/api/v1/push-certificates/request/{id}/mdmcert", Admin, post(push_request::mdmcert)),
        ("/api/v1/push-certificates/request/{id}/mdmcert-answer", Admin, post(push_request::mdmcert_answer)),
        // It keeps nothing; a signed request is too long for an address.
        ("/api/v1/push-certificates/check", Read, post(push_request::check)),
        ("/api/v1/push-certificates/{topic}", Read, get(push_certificate::show)),
        ("/api/v1/push-certificates/{topic}", Admin, patch(push_certificate::patch)),
        ("/api/v1/push-certificates/{topic}/rollback", Admin, post(push_certificate::roll_back)),
        ("/api/v1/push-certificates/{topic}/test", Command, post(push_certificate::test)),
        ("/api/v1/push-certificates/{topic}/support", Read, get(push_certificate::support)),
        ("/api/v1/tls-certificate", Read, get(tls_certificate::show)),
        ("/api/v1/tls-certificate/renew", Admin, post(tls_certificate::renew)),
        ("/api/v1/events", Read, get(event::list)),
        ("/api/v1/events/stream", Read, get(event::stream)),
        ("/api/v1/audit", Read, get(audit::list)),
        ("/api/v1/findings", Read, get(finding::list)),
        ("/api/v1/reachability", Read, get(finding::reachability)),
        ("/api/v1/support-bundle", Admin, get(finding::bundle)),
        ("/api/v1/settings", Read, get(settings::show)),
        ("/api/v1/backups", Read, get(backup::list)),
        ("/api/v1/backups", Admin, post(backup::post)),
        ("/api/v1/backups/once", Admin, post(backup::post_once)),
        ("/api/v1/backups/{name}/content", Admin, get(backup::content)),
        ("/api/v1/recovery-key", Admin, get(backup::recovery_key)),
        ("/api/v1/recovery-key/written-down", Admin, post(backup::written_down)),
        ("/api/v1/expiry", Read, get(expiry::list)),
        ("/api/v1/mail/test", Admin, post(mail::test)),
        ("/api/v1/calendar", Read, get(calendar::list)),
        ("/api/v1/calendar", Admin, post(calendar::post)),
        ("/api/v1/calendar/{number}", Admin, delete(calendar::delete)),
        ("/api/v1/tokens", Read, get(token::list)),
        ("/api/v1/tokens", Admin, post(token::post)),
        ("/api/v1/tokens/{name}", Read, get(token::show)),
        ("/api/v1/tokens/{name}", Admin, delete(token::delete)),
        ("/api/v1/sign-in-links", Admin, post(session::post_link)),
        ("/api/v1/nanomdm/pushcert", Read, get(nanohub::get_pushcert)),
        ("/api/v1/nanomdm/pushcert", Admin, put(nanohub::put_pushcert)),
        ("/api/v1/nanomdm/push/{ids}", Command, get(nanohub::push_to).put(nanohub::push_to)),
        ("/api/v1/nanomdm/enqueue/{ids}", Command, large(put(nanohub::enqueue).post(nanohub::enqueue))),
        ("/api/v1/ddm/declarations", Read, get(kmfddm::declarations)),
        ("/api/v1/ddm/declarations", Admin, large(put(kmfddm::put_declaration))),
        ("/api/v1/ddm/declarations/{id}", Read, get(kmfddm::declaration)),
        ("/api/v1/ddm/declarations/{id}", Admin, delete(kmfddm::delete_declaration)),
        ("/api/v1/ddm/declarations/{id}/touch", Admin, post(kmfddm::touch)),
        ("/api/v1/ddm/sets", Read, get(kmfddm::sets)),
        ("/api/v1/ddm/set-declarations/{id}", Read, get(kmfddm::set_declarations)),
        (
            "/api/v1/ddm/set-declarations/{id}",
            Admin,
            put(kmfddm::put_set_declaration).delete(kmfddm::delete_set_declaration),
        ),
        ("/api/v1/ddm/enrollment-sets/{id}", Read, get(kmfddm::enrollment_sets)),
        (
            "/api/v1/ddm/enrollment-sets/{id}",
            Admin,
            put(kmfddm::put_enrollment_set).delete(kmfddm::delete_enrollment_set),
        ),
        ("/api/v1/ddm/enrollment-sets-all/{id}", Admin, delete(kmfddm::delete_enrollment_sets)),
        ("/api/v1/ddm/declaration-sets/{id}", Read, get(kmfddm::declaration_sets)),
        ("/api/v1/ddm/declaration-status/{id}", Read, get(kmfddm_status::declaration_status)),
        ("/api/v1/ddm/status-errors/{id}", Read, get(kmfddm_status::status_errors)),
        ("/api/v1/ddm/status-values/{id}", Read, get(kmfddm_status::status_values)),
        ("/api/v1/ddm/status-report/{id}", Read, get(kmfddm_status::status_report)),
        ("/api/v1/ddm/notify", Command, post(kmfddm::notify)),
    ]
}

/// Routes that take whole commands, with profiles inside.
fn large(routes: MethodRouter<Admin>) -> MethodRouter<Admin> {
    limited(routes, COMMAND_LIMIT)
}

fn limited(routes: MethodRouter<Admin>, limit: usize) -> MethodRouter<Admin> {
    routes.layer::<_, Infallible>(DefaultBodyLimit::max(limit)).layer(request::limit(limit as u64))
}

/// Routes whose bodies are written to the disk while they come.
fn in_pieces(routes: MethodRouter<Admin>) -> MethodRouter<Admin> {
    routes.layer(request::limit_in_pieces(content::LARGEST))
}

/// Bytes that somebody uploaded are saved by a browser and never shown as a page of this server's.
fn as_download(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    response
}

/// Work that takes its time, beside the requests of others.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| Error::caused("a request's work could not be finished", source))?
}

impl Admin {
    /// Puts the parts together; opens nothing.
    pub fn new(parts: Parts) -> Self {
        Self { parts, guesses: Arc::default(), streams: Arc::default() }
    }

    /// The API, the page, the health check and the figures, with the refusal of everything else.
    pub fn routes(&self) -> Router {
        let figures = [("/metrics", Scope::Read, get(metrics::show))];
        self.routes_with(figures.into(), Router::new())
    }

    /// As [`Admin::routes`], for a listener that only people and their machines reach: figures need no token.
    pub fn inner_routes(&self) -> Router {
        self.routes_with(Vec::new(), Router::new().route("/metrics", get(metrics::show)))
    }

    fn routes_with(&self, more: Vec<Route>, open: Router<Self>) -> Router {
        let api = table().into_iter().chain(more).fold(Router::new(), |router, (path, scope, methods)| {
            let door = middleware::from_fn_with_state((self.clone(), scope), auth::require);
            router.route(path, methods.layer(door))
        });
        api.merge(page::routes())
            .merge(open)
            .merge(calendar::routes())
            .fallback(async || {
                Refusal::new(axum::http::StatusCode::NOT_FOUND, "there is nothing at this address")
            })
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .layer(middleware::from_fn(reply::finish))
            .layer(request::forwarded(&self.mdm.proxy.trusted))
            .with_state(self.clone())
            .merge(self.health_route())
    }

    /// `GET /healthz`: 200 `ok` if the database answers.
    pub fn health_route(&self) -> Router {
        Router::new()
            .route("/healthz", get(health))
            .layer(middleware::from_fn(reply::finish))
            .with_state(self.clone())
    }

    /// Ends the event streams, which would outlive every patience; none is opened after that.
    pub fn end_streams(&self) {
        self.streams.end();
    }

    fn now(&self) -> Seconds {
        self.mdm.store.clock().now()
    }
}

/// Removes audit rows of before `before`, at most `at_once`; answers how many.
///
/// # Errors
/// The database's.
pub fn thin_audit(tx: &Tx<'_>, before: Seconds, at_once: u32) -> Result<usize> {
    audit::thin(tx, before, at_once)
}

async fn health(State(admin): State<Admin>) -> Result<&'static str, Refusal> {
    // A table that is never empty, and that the file must be read for.
    let answers = |conn: &rusqlite::Connection| {
        Ok(conn.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?)
    };
    admin.mdm.store.read(answers).await?;
    Ok("ok")
}
