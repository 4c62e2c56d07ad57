//! A small web server, in clear or by TLS, that does what it is told and remembers what it was asked.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use conformance::testkit::Pki;
use drimbox::config::Source;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Answers every request alike until it is told otherwise.
#[derive(Clone)]
pub struct Web {
    root: String,
    ca_file: Option<PathBuf>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answer: Vec<u8>,
    version: Option<String>,
    requests: Vec<String>,
    bodies: Vec<Vec<u8>>,
    statuses: Vec<u16>,
}

impl Web {
    /// In clear.
    pub fn start() -> Self {
        Self::serve("http", None, None)
    }

    /// By TLS, with a certificate for loopback of an authority whose files are below `home`.
    pub fn start_tls(home: &Path) -> Self {
        let pki = Pki::new(&home.join("web-pki"), "Web CA").unwrap();
        let identity = pki.server(&["127.0.0.1"]).unwrap();
        let chain = CertificateDer::pem_file_iter(&identity.certificate_file).unwrap();
        let chain = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&identity.key_file).unwrap();
        let config = ServerConfig::builder_with_provider(drimbox::net::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let ca_file = pki.ca_file().to_owned();
        Self::serve("https", Some(Arc::new(config)), Some(ca_file))
    }

    fn serve(scheme: &str, tls: Option<Arc<ServerConfig>>, ca_file: Option<PathBuf>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let root = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                match &tls {
                    None => answer(stream, &shared),
                    Some(config) => {
                        let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                        answer(StreamOwned::new(connection, stream), &shared);
                    }
                }
            }
        });
        Self {
            root,
            ca_file,
            state,
        }
    }

    /// This status and body from now on.
    pub fn says(&self, status: &str, body: &[u8]) {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        self.answers(&[head.as_bytes(), body].concat());
    }

    /// These bytes from now on.
    pub fn answers(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.answer = bytes.to_vec();
        state.version = None;
    }

    /// This document from now on, for who does not have this version of it.
    pub fn has_version(&self, etag: &str, body: &[u8]) {
        let fields = "Last-Modified: Thu, 01 Oct 2026 00:00:00 GMT";
        self.says(&format!("200 OK\r\nETag: {etag}\r\n{fields}"), body);
        self.state.lock().unwrap().version = Some(etag.to_owned());
    }

    /// The heads of the requests so far; names of fields are in lower case.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Their bodies.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().bodies.clone()
    }

    /// The statuses of the answers so far.
    pub fn statuses(&self) -> Vec<u16> {
        self.state.lock().unwrap().statuses.clone()
    }

    /// Its address, for settings.
    pub fn source(&self) -> Source {
        Source::Url(format!("{}/list", self.root))
    }

    /// Its authority.
    pub fn ca_file(&self) -> PathBuf {
        self.ca_file.clone().unwrap()
    }
}

fn answer(mut stream: impl Read + Write, state: &Mutex<State>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    let answer = {
        let mut state = state.lock().unwrap();
        let has = state.version.clone();
        let known = has.is_some_and(|etag| head.contains(&format!("if-none-match: {etag}\r\n")));
        let answer = match known {
            true => b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_vec(),
            false => state.answer.clone(),
        };
        let status = String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).into_owned();
        state.statuses.push(status.parse().unwrap_or(0));
        state.requests.push(head);
        state.bodies.push(body);
        answer
    };
    // A client that has read enough may be gone.
    let _ = stream.write_all(&answer);
    let _ = stream.flush();
}
