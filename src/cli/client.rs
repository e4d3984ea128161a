//! How commands talk to a server: its socket, or the same routes in this process.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use tokio_util::io::ReaderStream;
use tower::ServiceExt;

use super::Failure;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::request::Peer;
use crate::server::{self, App};
use crate::storage::Lock;

/// How long somebody else may hold the data folder and answer nobody: a server that starts or lets its
/// last requests finish and closes its database (13 s and what is written at the end), or another command.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);
/// How much of a file is read at once.
const PIECE: usize = 64 * 1024;

/// The API of the server whose data folder the configuration names.
pub(super) struct Client {
    way: Way,
}

enum Way {
    Socket(UnixStream),
    /// No server runs: this process opened the database itself.
    Here(Router, Box<App>),
}

impl Client {
    /// Connects to the running server, or opens its data folder when none runs.
    pub(super) async fn connect(config: &Config) -> Result<Self, Failure> {
        let lock = match reach(&config.data_dir).await? {
            Reached::Server(stream) => return Ok(Self { way: Way::Socket(stream) }),
            Reached::Folder(lock) => lock,
        };
        let app = Box::new(Box::pin(App::open(config, lock, Clock::system())).await?);
        let router = app.socket_router();
        Ok(Self { way: Way::Here(router, app) })
    }

    /// Sends a JSON body, or none, and answers the JSON that came back.
    pub(super) async fn json(self, method: Method, path: &str, body: Option<&Json>) -> Result<Json, Failure> {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send(method, path, body).await
    }

    /// Asks without a body and answers the text that came back.
    pub(super) async fn text(self, method: Method, path: &str) -> Result<String, Failure> {
        let (status, answer) = self.ask(method, path, None).await?;
        if !status.is_success() {
            return Err(read(status, &answer).err().unwrap_or(Failure::Said));
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Sends a body of any type and answers the JSON that came back.
    pub(super) async fn send(
        self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Json, Failure> {
        let (status, answer) = self.ask(method, path, body).await?;
        read(status, &answer)
    }

    /// As [`Client::json`], but a refusal is answered as the JSON that it is.
    pub(super) async fn ask_json(
        self,
        method: Method,
        path: &str,
        body: &Json,
    ) -> Result<Result<Json, Json>, Failure> {
        let body = ("application/json", body.to_string().into_bytes());
        let (status, answer) = self.ask(method, path, Some(body)).await?;
        let refusal: Option<Json> = serde_json::from_slice(&answer).ok();
        match refusal {
            Some(refusal) if status.is_client_error() && refusal["error"].is_object() => Ok(Err(refusal)),
            _ => read(status, &answer).map(Ok),
        }
    }

    async fn ask(
        self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let (kind, body) = match body {
            Some((kind, body)) => (Some(kind), Body::from(body)),
            None => (None, Body::empty()),
        };
        let (response, app) = self.respond(request(method, path, kind, body)?).await?;
        let status = response.status();
        let answer = response.into_body().collect().await.map_err(unreadable)?.to_bytes();
        close(app).await;
        Ok((status, answer))
    }

    /// Sends a file, piece by piece.
    pub(super) async fn upload(self, path: &str, file: &Path) -> Result<Json, Failure> {
        let wrong = |error| Failure::Wrong(format!("{}: {error}", file.display()));
        let size = tokio::fs::metadata(file).await.map_err(wrong)?.len();
        let opened = tokio::fs::File::open(file).await.map_err(wrong)?;
        let body = Body::from_stream(ReaderStream::with_capacity(opened, PIECE));
        let mut request = request(Method::PUT, path, Some("application/octet-stream"), body)?;
        request.headers_mut().insert(CONTENT_LENGTH, size.into());
        let (response, app) = self.respond(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await.map_err(unreadable)?.to_bytes();
        close(app).await;
        read(status, &answer)
    }

    /// Writes what is at an address into a file, piece by piece.
    pub(super) async fn download(
        self,
        method: Method,
        path: &str,
        file: &mut std::fs::File,
    ) -> Result<(), Failure> {
        let (response, app) = self.respond(request(method, path, None, Body::empty())?).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            return read(status, &body.collect().await.map_err(unreadable)?.to_bytes()).map(drop);
        }
        while let Some(frame) = body.frame().await {
            if let Ok(piece) = frame.map_err(unreadable)?.into_data() {
                file.write_all(&piece).map_err(|error| Failure::Wrong(format!("{path}: {error}")))?;
            }
        }
        close(app).await;
        Ok(())
    }

    /// Whether no server runs, and this process answers itself.
    pub(super) fn is_here(&self) -> bool {
        matches!(self.way, Way::Here(..))
    }

    /// Reads a stream of server-sent events until it ends: `each` is given the id and the data of one.
    pub(super) async fn follow(
        self,
        path: &str,
        last: i64,
        mut each: impl FnMut(i64, Json),
    ) -> Result<(), Failure> {
        let mut request = request(Method::GET, path, None, Body::empty())?;
        request.headers_mut().insert("last-event-id", last.into());
        let (response, app) = self.respond(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            return read(status, &body.collect().await.map_err(unreadable)?.to_bytes()).map(drop);
        }
        let mut gathered = Vec::new();
        let mut id = last;
        // A stream that breaks off ended with the server; whoever follows connects again.
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(piece) = frame.into_data() else { continue };
            gathered.extend_from_slice(&piece);
            while let Some(end) = gathered.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = gathered.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                if let Some(number) = line.strip_prefix("id: ") {
                    id = number.trim().parse().unwrap_or(id);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    each(id, serde_json::from_str(data).unwrap_or_default());
                }
            }
        }
        close(app).await;
        Ok(())
    }

    async fn respond(self, request: Request<Body>) -> Result<(Response<Body>, Option<Box<App>>), Failure> {
        match self.way {
            Way::Socket(stream) => Ok((over_socket(stream, request).await?, None)),
            Way::Here(router, app) => {
                let mut request = request;
                request.extensions_mut().insert(Peer::Socket);
                let Ok(response) = router.oneshot(request).await;
                Ok((response, Some(app)))
            }
        }
    }
}

fn request(method: Method, path: &str, kind: Option<&str>, body: Body) -> Result<Request<Body>, Failure> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost");
    if let Some(kind) = kind {
        request = request.header(CONTENT_TYPE, kind);
    }
    request.body(body).map_err(|error| Failure::Wrong(format!("the request cannot be written: {error}")))
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::Wrong(format!("the answer could not be read: {error}"))
}

async fn close(app: Option<Box<App>>) {
    if let Some(app) = app {
        Box::pin(app.close()).await;
    }
}

/// All items of a list, whose pages are asked for one after the other; `path` has no parameters.
pub(super) async fn all(config: &Config, path: &str) -> Result<Vec<Json>, Failure> {
    let mut items = Vec::new();
    let mut page = format!("{path}?limit=500");
    loop {
        let answer = Client::connect(config).await?.json(Method::GET, &page, None).await?;
        items.extend(answer["items"].as_array().cloned().unwrap_or_default());
        let Some(next) = answer["next"].as_str() else { return Ok(items) };
        page = format!("{path}?limit=500&cursor={}", utf8_percent_encode(next, NON_ALPHANUMERIC));
    }
}

/// Takes the data folder for a server. Waits for commands, and for another server that is ending.
///
/// # Errors
/// A server answers on this folder; or whoever holds it does not let go.
pub(super) async fn lock(data_dir: &Path) -> Result<Lock> {
    match reach(data_dir).await? {
        Reached::Folder(lock) => Ok(lock),
        // Says whose folder it is.
        Reached::Server(_) => Lock::take(data_dir),
    }
}

enum Reached {
    Server(UnixStream),
    Folder(Lock),
}

/// Finds the server of a data folder, or takes the folder. Between the two there is a time in which
/// a server holds the lock and does not answer, and so do other commands: it is waited out.
async fn reach(data_dir: &Path) -> Result<Reached> {
    let socket = data_dir.join(server::SOCKET);
    let end = Instant::now() + PATIENCE;
    loop {
        // A socket that nobody answers is left over from a server that was killed.
        if let Ok(stream) = UnixStream::connect(&socket).await {
            return Ok(Reached::Server(stream));
        }
        match Lock::take(data_dir) {
            Err(Error::Conflict { .. }) if Instant::now() < end => sleep(PAUSE).await,
            taken => return taken.map(Reached::Folder),
        }
    }
}

async fn over_socket(stream: UnixStream, request: Request<Body>) -> Result<Response<Body>> {
    let broken =
        |source| Error::caused("the running server did not answer on its socket; look at its log", source);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with its last answer.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await.map_err(broken)?.map(Body::new))
}

fn read(status: StatusCode, answer: &[u8]) -> Result<Json, Failure> {
    let json =
        if answer.is_empty() { Json::Null } else { serde_json::from_slice(answer).unwrap_or(Json::Null) };
    if status.is_success() {
        return Ok(json);
    }
    let words = json.pointer("/error/message").and_then(Json::as_str);
    Err(Failure::Wrong(words.map_or_else(|| format!("the server answered {status}"), str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_is_held_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::take(folder.path()).unwrap();
        let release = async {
            sleep(Duration::from_millis(200)).await;
            drop(held);
        };
        let (reached, ()) = tokio::join!(reach(folder.path()), release);
        assert!(matches!(reached, Ok(Reached::Folder(_))));
    }

    #[tokio::test]
    async fn a_server_that_begins_to_answer_is_found_and_not_waited_out() {
        let folder = tempfile::tempdir().unwrap();
        let _held = Lock::take(folder.path()).unwrap();
        let socket = folder.path().join(server::SOCKET);
        let answer = async {
            sleep(Duration::from_millis(200)).await;
            tokio::net::UnixListener::bind(&socket).unwrap()
        };
        let (reached, _listener) = tokio::join!(reach(folder.path()), answer);
        assert!(matches!(reached, Ok(Reached::Server(_))));
        let begun = Instant::now();
        let refused = lock(folder.path()).await.unwrap_err().to_string();
        assert!(refused.contains("another russet works on"), "{refused}");
        assert!(begun.elapsed() < PATIENCE / 2);
    }
}
