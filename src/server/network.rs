//! All listeners and connections of the running server.
//!
//! `server` makes one [`Network`], gives it every [`Listener`] with a router, and stops it at the
//! end. Each listener has its own room and its own `budget` for bodies, so that a flood of devices
//! does not lock the administrator out of `admin_listen`.
//!
//! **Invariant:** no number of connections, half-open, idle, or with requests that wait for their
//! client, uses more than its room or keeps others out for longer than twice the time that the
//! handshake may take (`connection`'s `HURRY`: once to ask, once to leave).

use std::convert::Infallible;
use std::io::{Error as IoError, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::request::Peer;
use crate::server::budget::{self, Budget};
use crate::server::connection::{self, Activity, Phase, Signals};
use crate::server::layers;
use crate::server::linger::Linger;
use crate::server::listener::{Listener, Socket};

/// Connections of one listener, where the system allows as many.
pub(super) const ROOM: usize = 4096;
/// TLS handshakes of one listener at a time; the rest waits for its turn.
const HANDSHAKES: usize = 512;
/// How long a handshake may take, waiting included.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The pause after the system had no file or memory for another connection.
const BREATH: Duration = Duration::from_millis(100);

/// Accepts and serves until it is stopped.
pub struct Network {
    /// Connections of each listener.
    room: usize,
    phase: watch::Sender<Phase>,
    /// Held by every task; when none is left, `gone` ends.
    alive: mpsc::Sender<Infallible>,
    gone: mpsc::Receiver<Infallible>,
}

impl Default for Network {
    fn default() -> Self {
        let (alive, gone) = mpsc::channel(1);
        Self { room: ROOM, phase: watch::Sender::new(Phase::Open), alive, gone }
    }
}

impl Network {
    /// One whose listeners have that many connections each at the most.
    pub fn with_room(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    /// Serves `router` over TLS.
    pub fn serve_tls(&self, listener: Listener, config: Arc<ServerConfig>, router: Router) {
        self.serve(listener, Some(TlsAcceptor::from(config)), router);
    }

    /// Serves `router` without TLS.
    pub fn serve_plain(&self, listener: Listener, router: Router) {
        self.serve(listener, None, router);
    }

    fn serve(&self, listener: Listener, tls: Option<TlsAcceptor>, router: Router) {
        let door = Door::new(self, tls, router);
        for socket in listener.sockets {
            tokio::spawn(accept(socket, door.clone()));
        }
    }

    /// Serves `router` to the command line.
    pub fn serve_socket(&self, socket: Socket, router: Router) {
        tokio::spawn(accept_local(socket, Door::new(self, None, router)));
    }

    /// Takes no more connections, lets requests finish for as long as `patience`, then ends.
    pub async fn stop(mut self, patience: Duration) {
        self.phase.send_replace(Phase::Draining);
        drop(self.alive);
        if timeout(patience, self.gone.recv()).await.is_err() {
            warn!("requests that were still running are ended");
            self.phase.send_replace(Phase::Closed);
            self.gone.recv().await;
        }
    }
}

/// What all connections of a listener share.
#[derive(Clone)]
struct Door {
    tls: Option<TlsAcceptor>,
    router: Router,
    room: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    budget: Arc<Budget>,
    signals: Signals,
    _alive: mpsc::Sender<Infallible>,
}

impl Door {
    fn new(network: &Network, tls: Option<TlsAcceptor>, router: Router) -> Self {
        Self {
            tls,
            router: layers::name_routes(router),
            room: Arc::new(Semaphore::new(network.room)),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            budget: Budget::new(budget::SHARED),
            signals: Signals { phase: network.phase.subscribe(), crowded: Arc::new(Notify::new()) },
            _alive: network.alive.clone(),
        }
    }

    /// Waits for room; who is idle is asked to leave meanwhile.
    async fn enter(&self) -> OwnedSemaphorePermit {
        loop {
            self.signals.crowded_unless(self.room.available_permits() > 0);
            if let Ok(Ok(permit)) = timeout(BREATH, self.room.clone().acquire_owned()).await {
                return permit;
            }
        }
    }

    /// Waits until the network stops.
    async fn closing(&self) {
        let mut phase = self.signals.phase.clone();
        // An error means that the network is gone altogether.
        let _ = phase.wait_for(|phase| *phase != Phase::Open).await;
    }
}

impl Signals {
    fn crowded_unless(&self, room: bool) {
        if !room {
            self.crowded.notify_waiters();
        }
    }
}

async fn accept(socket: TcpListener, door: Door) {
    loop {
        let arrived = tokio::select! {
            // The listener first: with the door goes the last word that the network waits for.
            () = door.closing() => return drop(socket),
            arrived = async { (door.enter().await, socket.accept().await) } => arrived,
        };
        match arrived {
            (permit, Ok((stream, address))) => {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                // Replies are small, and written whole.
                let _ = stream.set_nodelay(true);
                let activity = Activity::new(&door.budget);
                let stream = Linger::new(stream);
                let door = door.clone();
                tokio::spawn(async move {
                    welcome(stream, address, activity, &door).await;
                    drop(permit);
                });
            }
            (_, Err(refused)) => pause_after(&refused, &door).await,
        }
    }
}

/// The system's refusals pass, or are told and waited out: without a pause this would spin.
async fn pause_after(refused: &IoError, door: &Door) {
    let passing = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::ConnectionRefused];
    if passing.contains(&refused.kind()) {
        return;
    }
    warn!("a connection was not accepted; if files ran out, raise LimitNOFILE: {refused}");
    door.signals.crowded_unless(false);
    sleep(BREATH).await;
}

async fn welcome<S>(stream: S, address: SocketAddr, activity: Activity, door: &Door)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(tls) = &door.tls else {
        let peer = Peer::Network { address, client_certificate: None };
        connection::serve(stream, false, door.router.clone(), peer, activity, door.signals.clone()).await;
        return;
    };
    let handshake = async {
        let _turn = door.handshakes.acquire().await;
        tls.accept(stream).await
    };
    let stream = tokio::select! {
        done = timeout(HANDSHAKE, handshake) => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(failed)) => return debug!(%address, "a TLS handshake failed: {failed}"),
            Err(_) => return debug!(%address, "a TLS handshake took too long"),
        },
        () = door.closing() => return,
    };
    let session = stream.get_ref().1;
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let presented = session.peer_certificates().and_then(|chain| chain.first());
    let client_certificate = presented.map(|certificate| Arc::from(certificate.as_ref()));
    let peer = Peer::Network { address, client_certificate };
    connection::serve(stream, is_http2, door.router.clone(), peer, activity, door.signals.clone()).await;
}

async fn accept_local(socket: Socket, door: Door) {
    loop {
        let arrived = tokio::select! {
            // As in `accept`.
            () = door.closing() => return drop(socket),
            arrived = async { (door.enter().await, socket.listener.accept().await) } => arrived,
        };
        match arrived {
            (permit, Ok((stream, _))) => {
                let activity = Activity::new(&door.budget);
                let stream = Linger::new(stream);
                let door = door.clone();
                tokio::spawn(async move {
                    let (router, signals) = (door.router.clone(), door.signals.clone());
                    connection::serve(stream, false, router, Peer::Socket, activity, signals).await;
                    // The network is done with this connection only now.
                    drop((permit, door));
                });
            }
            (_, Err(refused)) => pause_after(&refused, &door).await,
        }
    }
}

#[cfg(test)]
mod tests;
