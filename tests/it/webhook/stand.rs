//! A webhook's target on this machine: TLS, HTTP/1.1, answers that the test chooses.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// How the target answers a request; 200 once nothing is left.
#[derive(Clone)]
pub enum Answer {
    /// A status, with these header lines.
    Status(u16, &'static str),
    /// A byte now and then, for ever.
    Drip,
    /// More than anybody wants to read.
    Huge,
    /// The connection ends.
    Silence,
}

/// A request as it came.
pub struct Told {
    pub head: String,
    pub body: Vec<u8>,
}

impl Told {
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn topic(&self) -> String {
        self.json()["topic"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub struct Stand {
    pub port: u16,
    pub trust: PathBuf,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    /// What is answered when no answer is left.
    usual: Arc<Mutex<Answer>>,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Stand {
    /// Listens; the root of its certificate is written into `folder`.
    pub async fn start(folder: &Path) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = root.self_signed(&root_key).unwrap().pem();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let trust = folder.join("target.pem");
        std::fs::write(&trust, pem).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, told) = mpsc::unbounded_channel();
        let (answers, usual) = (Arc::default(), Arc::new(Mutex::new(Answer::Status(200, ""))));
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(listen(listener, acceptor, Arc::clone(&answers), Arc::clone(&usual), sender));
        Self { port, trust, answers, usual, told }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/hook?key=hunter2", self.port)
    }

    /// The next answers.
    pub fn answer(&self, answers: &[Answer]) {
        self.answers.lock().unwrap().extend(answers.iter().cloned());
    }

    /// All answers from now on.
    pub fn always(&self, answer: Answer) {
        *self.usual.lock().unwrap() = answer;
    }

    /// Waits for the next request.
    pub async fn told(&mut self) -> Told {
        self.told.recv().await.unwrap()
    }

    /// All requests that came and were not looked at.
    pub fn so_far(&mut self) -> Vec<Told> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }
}

async fn listen(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    usual: Arc<Mutex<Answer>>,
    told: mpsc::UnboundedSender<Told>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, answers, usual, told) =
            (acceptor.clone(), answers.clone(), usual.clone(), told.clone());
        tokio::spawn(async move {
            let _ = serve(stream, acceptor, &answers, &usual, &told).await;
        });
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    answers: &Mutex<VecDeque<Answer>>,
    usual: &Mutex<Answer>,
    told: &mpsc::UnboundedSender<Told>,
) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let (mut read, mut head) = (Vec::new(), 0);
    while head == 0 {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        head = read.windows(4).position(|end| end == b"\r\n\r\n").map_or(0, |at| at + 4);
    }
    let text = String::from_utf8(read[..head].to_vec()).unwrap();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let length: usize = length.parse().unwrap();
    while read.len() < head + length {
        stream.read_buf(&mut read).await?;
    }
    let answer = answers.lock().unwrap().pop_front().unwrap_or_else(|| usual.lock().unwrap().clone());
    let _ = told.send(Told { head: text, body: read[head..].to_vec() });
    match answer {
        Answer::Status(status, headers) => {
            let words = if status == 200 { "thank you" } else { "no" };
            let reply =
                format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{words}", words.len());
            stream.write_all(reply.as_bytes()).await?;
        }
        Answer::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 50000\r\n\r\n").await?;
            loop {
                stream.write_all(b".").await?;
                stream.flush().await?;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
        Answer::Huge => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            loop {
                stream.write_all(format!("10000\r\n{}\r\n", "x".repeat(65536)).as_bytes()).await?;
            }
        }
        Answer::Silence => {}
    }
    stream.shutdown().await
}
