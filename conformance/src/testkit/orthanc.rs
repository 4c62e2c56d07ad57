//! Orthanc (Debian's 1.10.1 or newer) as a PACS, with its DICOMweb plugin.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Client, Identity, KitError, Process, Program, free_port};

const BINARY: &str = "/usr/sbin/Orthanc";
const PLUGINS: &str = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so";

/// Requests in flight while files are uploaded.
const UPLOADS: usize = 4;

/// How an Orthanc is to be set up.
#[derive(Debug)]
pub struct OrthancBuilder {
    folder: PathBuf,
    ae_title: String,
    dicom_port: Option<u16>,
    http_port: Option<u16>,
    nodelay: bool,
    verbose: bool,
    account: Option<(String, String)>,
    modalities: Map<String, Value>,
    settings: Map<String, Value>,
}

impl OrthancBuilder {
    /// Its AE title; `ORTHANC` unless said.
    #[must_use]
    pub fn ae_title(mut self, title: &str) -> Self {
        self.ae_title = title.to_owned();
        self
    }

    /// Fixed ports instead of free ones.
    #[must_use]
    pub fn ports(mut self, dicom: u16, http: u16) -> Self {
        self.dicom_port = Some(dicom);
        self.http_port = Some(http);
        self
    }

    /// Whether its associations set `TCP_NODELAY`. Debian's Orthanc does not, and has no setting
    /// for it: DCMTK reads an environment variable.
    #[must_use]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// Whether it logs every request, which the counts of requests need; on unless said.
    #[must_use]
    pub fn verbose(mut self, on: bool) -> Self {
        self.verbose = on;
        self
    }

    /// Makes an application known to it, as the destination of a C-MOVE must be.
    #[must_use]
    pub fn modality(mut self, ae_title: &str, port: u16) -> Self {
        self.modalities.insert(
            ae_title.to_lowercase(),
            json!({ "AET": ae_title, "Host": "127.0.0.1", "Port": port }),
        );
        self
    }

    /// DICOM over TLS only, with this certificate; clients need one of the authorities in `ca`.
    #[must_use]
    pub fn tls(self, identity: &Identity, ca: &Path) -> Self {
        self.setting("DicomTlsEnabled", json!(true))
            .setting("DicomTlsCertificate", json!(identity.certificate_file))
            .setting("DicomTlsPrivateKey", json!(identity.key_file))
            .setting("DicomTlsTrustedCertificates", json!(ca))
            .setting("DicomTlsRemoteCertificateRequired", json!(true))
    }

    /// Its HTTP server knows this user only.
    #[must_use]
    pub fn account(mut self, user: &str, password: &str) -> Self {
        self.account = Some((user.to_owned(), password.to_owned()));
        self.setting("AuthenticationEnabled", json!(true))
            .setting("RegisteredUsers", json!({ user: password }))
    }

    /// Any key of Orthanc's configuration file, over what the kit chooses.
    #[must_use]
    pub fn setting(mut self, key: &str, value: Value) -> Self {
        self.settings.insert(key.to_owned(), value);
        self
    }

    /// Starts it and waits until both of its servers answer.
    ///
    /// # Errors
    /// When it is not installed, or does not start; then with the end of its log.
    pub async fn start(self) -> Result<Orthanc, KitError> {
        for needed in [BINARY, PLUGINS] {
            if !Path::new(needed).exists() {
                return Err(KitError::Missing {
                    program: needed.to_owned(),
                });
            }
        }
        let dicom_port = self.dicom_port.map_or_else(free_port, Ok)?;
        let http_port = self.http_port.map_or_else(free_port, Ok)?;
        let storage = self.folder.join("storage");
        std::fs::create_dir_all(&storage).map_err(KitError::io("create", &storage))?;
        let mut settings = json!({
            "Name": self.ae_title,
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "StorageCompression": false,
            "SyncStorageArea": false,
            "OverwriteInstances": true,
            "StableAge": 1,
            "HttpPort": http_port,
            "RemoteAccessAllowed": false,
            "AuthenticationEnabled": false,
            "DicomAet": self.ae_title,
            "DicomPort": dicom_port,
            "DicomCheckCalledAet": true,
            "DicomAlwaysAllowEcho": true,
            "DicomAlwaysAllowStore": true,
            "DicomAlwaysAllowFind": true,
            "DicomAlwaysAllowGet": true,
            "DicomAlwaysAllowMove": true,
            "DicomThreadsCount": 16,
            "DicomModalities": self.modalities,
            "Plugins": [PLUGINS],
            "DicomWeb": { "Enable": true, "Root": "/dicom-web/" },
        });
        if let Some(all) = settings.as_object_mut() {
            all.extend(self.settings);
        }
        let file = self.folder.join("orthanc.json");
        std::fs::write(&file, format!("{settings:#}")).map_err(KitError::io("write", &file))?;

        let mut program = Program::new("orthanc", BINARY, &self.folder);
        if self.verbose {
            program = program.arg("--verbose");
        }
        program = program.arg(file.display().to_string());
        program = if self.nodelay {
            program.env("TCP_NODELAY", "1")
        } else {
            program.without_env("TCP_NODELAY")
        };
        let authorization = self.account.map(|(user, password)| {
            let pair = STANDARD.encode(format!("{user}:{password}"));
            format!("Basic {pair}")
        });
        let mut orthanc = Orthanc {
            process: program.start()?,
            program: Box::new(program),
            client: Client::plain()?,
            authorization,
            ae_title: self.ae_title,
            dicom_port,
            http_url: format!("http://127.0.0.1:{http_port}"),
        };
        orthanc.answers().await?;
        Ok(orthanc)
    }
}

/// A running Orthanc; it ends when dropped.
#[derive(Debug)]
pub struct Orthanc {
    process: Process,
    program: Box<Program>,
    client: Client,
    /// `Authorization` of the kit's own requests.
    authorization: Option<String>,
    ae_title: String,
    dicom_port: u16,
    http_url: String,
}

impl Orthanc {
    /// Prepares one that keeps its files and its log in `folder`. Its DICOM server listens on every
    /// address (Orthanc cannot do otherwise), its HTTP server answers loopback only.
    #[must_use]
    pub fn builder(folder: &Path) -> OrthancBuilder {
        OrthancBuilder {
            folder: folder.to_owned(),
            ae_title: "ORTHANC".to_owned(),
            dicom_port: None,
            http_port: None,
            nodelay: true,
            verbose: true,
            account: None,
            modalities: Map::new(),
            settings: Map::new(),
        }
    }

    /// Its AE title.
    #[must_use]
    pub fn ae_title(&self) -> &str {
        &self.ae_title
    }

    /// The port of its DICOM server.
    #[must_use]
    pub fn dicom_port(&self) -> u16 {
        self.dicom_port
    }

    /// The root of its own REST API, without a slash at the end.
    #[must_use]
    pub fn http_url(&self) -> &str {
        &self.http_url
    }

    /// The root of its DICOMweb service, without a slash at the end.
    #[must_use]
    pub fn dicomweb_url(&self) -> String {
        format!("{}/dicom-web", self.http_url)
    }

    /// Ends it and starts it again with what it holds.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart(&mut self) -> Result<(), KitError> {
        self.process.kill();
        self.process = self.program.start()?;
        self.answers().await
    }

    /// Waits until both of its servers answer.
    async fn answers(&mut self) -> Result<(), KitError> {
        let system = format!("{}/system", self.http_url);
        let address = (std::net::Ipv4Addr::LOCALHOST, self.dicom_port);
        let client = &self.client;
        self.process
            .ready(Duration::from_secs(60), async || {
                client.get(&system).send().await.is_ok()
                    && tokio::net::TcpStream::connect(address).await.is_ok()
            })
            .await
    }

    /// The process, to look at its log or to kill it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.pid()
    }

    /// Stores these DICOM files.
    ///
    /// # Errors
    /// At the first file that cannot be read or that Orthanc does not take.
    pub async fn upload(&self, files: Vec<PathBuf>) -> Result<(), KitError> {
        let queue = Arc::new(Mutex::new(VecDeque::from(files)));
        let mut uploads = tokio::task::JoinSet::new();
        for _ in 0..UPLOADS {
            let (queue, client) = (queue.clone(), self.client.clone());
            let authorization = self.authorization.clone();
            let url = format!("{}/instances", self.http_url);
            uploads.spawn(async move {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(file) = next else { return Ok(()) };
                    let content = tokio::fs::read(&file)
                        .await
                        .map_err(KitError::io("read", &file))?;
                    let mut call = client.request(http::Method::POST, &url).body(content);
                    if let Some(value) = &authorization {
                        call = call.header("authorization", value);
                    }
                    let answer = call.send().await?;
                    let status = answer.status();
                    let text = answer.text().await?;
                    if !status.is_success() {
                        return Err(KitError::Http {
                            what: format!("upload {}", file.display()),
                            reason: format!("{status}: {text}"),
                        });
                    }
                }
            });
        }
        while let Some(result) = uploads.join_next().await {
            result.map_err(KitError::http("upload"))??;
        }
        Ok(())
    }

    /// Stores every file below a folder.
    ///
    /// # Errors
    /// As [`Self::upload`]; a file that is not DICOM is refused.
    pub async fn upload_folder(&self, folder: &Path) -> Result<usize, KitError> {
        let files = files_below(folder)?;
        let count = files.len();
        self.upload(files).await?;
        Ok(count)
    }

    /// Deletes a study.
    ///
    /// # Errors
    /// When Orthanc does not have it.
    pub async fn delete_study(&self, study_instance_uid: &str) -> Result<(), KitError> {
        let what = "delete a study from Orthanc";
        let found = self
            .client
            .request(
                http::Method::POST,
                &format!("{}/tools/lookup", self.http_url),
            )
            .body(study_instance_uid.to_owned())
            .send()
            .await?
            .json()
            .await?;
        let path = found
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.get("Path")?.as_str())
            .find(|path| path.starts_with("/studies/"))
            .ok_or_else(|| KitError::http(what)("no such study"))?;
        let answer = self
            .client
            .request(http::Method::DELETE, &format!("{}{path}", self.http_url))
            .send()
            .await?;
        let status = answer.status();
        answer.bytes().await?;
        if status.is_success() {
            Ok(())
        } else {
            Err(KitError::http(what)(status))
        }
    }

    /// Asks its REST API.
    ///
    /// # Errors
    /// When the answer is no JSON.
    pub async fn rest(&self, path: &str) -> Result<Value, KitError> {
        let url = format!("{}{path}", self.http_url);
        self.client.get(&url).send().await?.json().await
    }

    /// Requests that it has logged so far. Verbose only.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn requests(&self) -> Result<Requests, KitError> {
        let file = self.process.log_file();
        let log = std::fs::read(file).map_err(KitError::io("read", file))?;
        let count = |text: &str| memchr::memmem::find_iter(&log, text).count();
        Ok(Requests {
            associations: count("Association Received from AET"),
            find: count("Incoming Find request from AET"),
            get: count("Incoming Get request from AET"),
            moves: count("Incoming Move request from AET"),
        })
    }
}

/// How often an Orthanc was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    /// Associations that arrived.
    pub associations: usize,
    /// C-FIND requests.
    pub find: usize,
    /// C-GET requests.
    pub get: usize,
    /// C-MOVE requests.
    pub moves: usize,
}

/// Every regular file below a folder, in the order of their paths.
///
/// # Errors
/// When a folder cannot be read.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>, KitError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(KitError::io("list", &folder))?;
        for entry in entries {
            let path = entry.map_err(KitError::io("list", &folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
