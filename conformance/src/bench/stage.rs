//! Everything that a run needs, started: exams, two PACS, the gateway, nginx.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use rustls::ClientConfig;
use serde_json::json;

use crate::samples::{self, Exam, Manifest, Profile};
use crate::testkit::{
    Client, Gateway, GatewayConfig, Identity, KitError, Nginx, Orthanc, PacsConfig, Pki,
};

use super::dcmtk::{Pacs, Tool};
use super::fetch::{self, Server};
use super::rows::{instance, none};

/// `Accept` of every retrieval: the objects as the PACS stores them.
pub const AS_STORED: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
/// `Accept` of searches and metadata.
pub const JSON: &str = "application/dicom+json";
/// Frames as they are stored, in the words of viewers.
pub const FRAMES: &str = "multipart/related; type=application/octet-stream; transfer-syntax=*";
/// Images that are not compressed.
pub const EXPLICIT: &str =
    "multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.1";

/// Transfer syntax of the CT exams, JPEG-LS lossless.
const STORED: &str = "1.2.840.10008.1.2.4.80";
const HOST: &str = "pacs.db.bench.test";
const HOST_NAGLE: &str = "nagle.db.bench.test";
/// Studies of their own for clients that ask different ones.
const COPIES: usize = 8;
/// Bytes of the cache of the gateway under load: a third of what is asked of it.
const SMALL_CACHE: i64 = 200_000_000;

/// The outside world of the gateway, and the gateway.
pub struct Stage {
    folder: PathBuf,
    pki: Pki,
    client: Arc<ClientConfig>,
    server: Identity,
    /// The study of 1 300 images.
    pub ct: Exam,
    /// The study of one series of 300 images.
    pub ct300: Exam,
    /// One object of 120 frames, JPEG-LS.
    pub frames: Exam,
    /// Studies like `ct300` under other UIDs.
    pub copies: Vec<Exam>,
    /// The PACS whose associations set `TCP_NODELAY`.
    pub pacs: Orthanc,
    /// The PACS whose associations do not, with `ct` alone.
    pub nagle: Option<Orthanc>,
    /// The gateway.
    pub gateway: Gateway,
    /// nginx, with what [`Stage::publish`] gave it.
    pub nginx: Server,
    _nginx: Nginx,
}

impl Stage {
    /// Makes the exams unless `folder` has them, starts everything and loads the PACS. With
    /// `nagle`, the PACS without `TCP_NODELAY` too.
    ///
    /// # Errors
    /// When an exam cannot be made or a program does not start.
    pub async fn start(folder: &Path, nagle: bool) -> Result<Self, KitError> {
        let folder = std::path::absolute(folder).map_err(KitError::io("find", folder))?;
        eprintln!("making the exams in {}", folder.display());
        let manifest = samples::generate(Profile::Bench, &folder.join("samples"))
            .map_err(KitError::http("make the exams"))?;
        let exam = |name: &str| {
            manifest
                .exam(name)
                .cloned()
                .ok_or_else(|| KitError::Invalid {
                    what: "the exams".into(),
                    reason: format!("no exam {name}"),
                })
        };
        let (ct, ct300, frames) = (exam("ct")?, exam("ct300")?, exam("enhanced-ct")?);
        let copies = (1..=COPIES)
            .map(|number| copy(&manifest, &ct300, number))
            .collect::<Result<Vec<_>, _>>()?;

        let run = folder.join("run");
        if run.exists() {
            std::fs::remove_dir_all(&run).map_err(KitError::io("empty", &run))?;
        }
        let www = run.join("www");
        for folder in [&www, &run.join("pacs"), &run.join("nagle")] {
            std::fs::create_dir_all(folder).map_err(KitError::io("create", folder))?;
        }
        let pki = Pki::new(&run.join("pki"), "Bench CA")?;
        let server = pki.server(&[HOST, HOST_NAGLE])?;
        let client = fetch::tls_settings(&pki, &pki.client("bench-client")?)?;

        eprintln!("loading the PACS");
        let pacs = orthanc(&run.join("pacs"), true).await?;
        let many = manifest.set("many-studies").flat_map(Exam::instances);
        let exams = [&ct, &ct300, &frames].into_iter().chain(&copies);
        let instances = exams.flat_map(Exam::instances).chain(many);
        pacs.upload(instances.map(|instance| manifest.path(instance)).collect())
            .await?;
        let nagle = if nagle {
            let pacs = orthanc(&run.join("nagle"), false).await?;
            pacs.upload(ct.instances().map(|i| manifest.path(i)).collect())
                .await?;
            Some(pacs)
        } else {
            None
        };
        let config = configuration(&run.join("gateway"), &pki, &server, &pacs, nagle.as_ref())?;
        let nginx = Nginx::start(&run.join("nginx"), &www, &server).await?;
        let mut stage = Self {
            gateway: Gateway::start(config).await?,
            nginx: Server {
                name: "nginx".into(),
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, nginx.port())),
                host: HOST.into(),
                base: String::new(),
                tls: Some(Arc::clone(&client)),
            },
            _nginx: nginx,
            folder: run,
            pki,
            client,
            server,
            ct,
            ct300,
            frames,
            copies,
            pacs,
            nagle,
        };
        ready(&mut stage.gateway).await?;
        Ok(stage)
    }

    /// The gateway's listener for peers, in front of the PACS with `TCP_NODELAY`. Each request is in the
    /// audit trail, on disk, before its first byte.
    #[must_use]
    pub fn drimbox(&self) -> Server {
        self.peer_listener(&self.gateway, HOST)
    }

    /// The gateway's listener for the centre's own network, over TLS, in front of the same PACS.
    #[must_use]
    pub fn local(&self) -> Server {
        Server {
            address: self.gateway.address("local"),
            ..self.drimbox()
        }
    }

    /// The same in front of the PACS without it.
    #[must_use]
    pub fn drimbox_nagle(&self) -> Server {
        self.peer_listener(&self.gateway, HOST_NAGLE)
    }

    /// Another gateway, with a cache too small for what the PACS holds.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn small_gateway(&self) -> Result<(Gateway, Server), KitError> {
        let folder = self.folder.join("small");
        let config = configuration(&folder, &self.pki, &self.server, &self.pacs, None)?
            .set("cache.max_bytes", SMALL_CACHE);
        let mut gateway = Gateway::start(config).await?;
        ready(&mut gateway).await?;
        let server = self.peer_listener(&gateway, HOST);
        Ok((gateway, server))
    }

    fn peer_listener(&self, gateway: &Gateway, host: &str) -> Server {
        Server {
            name: "drimbox".into(),
            address: gateway.address("peer"),
            host: host.into(),
            base: "/dicom-web".into(),
            tls: Some(Arc::clone(&self.client)),
        }
    }

    /// Restarts the gateway without cache, and without anything it knew of the PACS, and waits until it
    /// is ready.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn cold(&mut self) -> Result<(), KitError> {
        let data = self.folder.join("gateway/data");
        restart_without(
            &mut self.gateway,
            &[&data.join("cache"), &data.join("store")],
        )
        .await
    }

    /// As [`Self::cold`]; then an image of another study is retrieved, so that the gateway has been at
    /// work. One image, because the disk would be busy with a whole study for a while.
    ///
    /// # Errors
    /// When it does not come back, or that image does not come.
    pub async fn cold_at_work(&mut self) -> Result<(), KitError> {
        self.cold().await?;
        let chosen = self.ct300.series.first().ok_or_else(none)?;
        let path = instance(&self.ct300, (0, chosen), 0)?;
        fetch::fetch(&self.drimbox(), &path, AS_STORED)?;
        Ok(())
    }

    /// Has nginx serve these bytes; their path there.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn publish(&self, name: &str, bytes: &[u8]) -> Result<String, KitError> {
        let file = self.folder.join("www").join(name);
        std::fs::write(&file, bytes).map_err(KitError::io("write", &file))?;
        Ok(format!("/{name}"))
    }

    /// Receives a study from the PACS with `getscu` and compares its size with what is stored: a
    /// PACS that decodes for it would make `getscu` a slow peer.
    ///
    /// # Errors
    /// When it is not received, or not as stored.
    pub fn check_getscu(&self) -> Result<String, KitError> {
        let folder = self.folder.join("getscu");
        std::fs::create_dir_all(&folder).map_err(KitError::io("create", &folder))?;
        let study = [
            ("QueryRetrieveLevel", "STUDY"),
            ("StudyInstanceUID", &self.ct300.study_instance_uid),
        ];
        Tool::getscu_to(&address(&self.pacs), &study, &folder).time()?;
        let files = crate::testkit::orthanc::files_below(&folder)?;
        let sizes = files.iter().filter_map(|file| file.metadata().ok());
        let received: u64 = sizes.map(|metadata| metadata.len()).sum();
        let (stored, count) = (self.ct300.size(), self.ct300.instances().count());
        if files.len() == count && received.abs_diff(stored) < stored / 100 {
            return Ok(format!(
                "getscu receives as stored: {} instances, {received} bytes for {stored} bytes of files",
                files.len()
            ));
        }
        Err(KitError::Invalid {
            what: "getscu as a peer".into(),
            reason: format!(
                "{} instances with {received} bytes instead of {count} with {stored}",
                files.len()
            ),
        })
    }
}

/// How DCMTK's tools reach an Orthanc.
#[must_use]
pub fn address(pacs: &Orthanc) -> Pacs {
    Pacs {
        ae_title: pacs.ae_title().to_owned(),
        port: pacs.dicom_port(),
    }
}

/// The DICOMweb service of an Orthanc.
///
/// # Errors
/// When its URL is not one.
pub fn dicomweb(pacs: &Orthanc) -> Result<Server, KitError> {
    let refused = |reason: String| KitError::Invalid {
        what: pacs.dicomweb_url(),
        reason,
    };
    let url = url::Url::parse(&pacs.dicomweb_url()).map_err(|error| refused(error.to_string()))?;
    let port = url.port().ok_or_else(|| refused("no port".into()))?;
    Ok(Server {
        name: "Orthanc".into(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        host: format!("127.0.0.1:{port}"),
        base: url.path().to_owned(),
        tls: None,
    })
}

/// An Orthanc that takes the syntax of the exams alone for storage classes: `getscu` puts all
/// syntaxes it knows in one context, of which Orthanc would choose an uncompressed one and decode.
pub(super) async fn orthanc(folder: &Path, nodelay: bool) -> Result<Orthanc, KitError> {
    Orthanc::builder(folder)
        .nodelay(nodelay)
        .verbose(false)
        .setting("AcceptedTransferSyntaxes", json!([STORED]))
        .start()
        .await
}

fn configuration(
    folder: &Path,
    pki: &Pki,
    server: &Identity,
    pacs: &Orthanc,
    nagle: Option<&Orthanc>,
) -> Result<GatewayConfig, KitError> {
    let section = |name: &str, host: &str, pacs: &Orthanc| {
        PacsConfig::new(name, pacs.ae_title(), pacs.dicom_port()).db_host(host, server)
    };
    let text = |path: &Path| path.display().to_string();
    let all: Vec<toml::Value> = vec!["wado".into(), "qido".into()];
    let config = GatewayConfig::new(folder)?
        .peer(pki)?
        .set("peer.resources", all)
        .set("local.tls.certificate_file", text(&server.certificate_file))
        .set("local.tls.key_file", text(&server.key_file))
        .pacs(section("pacs", HOST, pacs));
    Ok(match nagle {
        Some(nagle) => config.pacs(section("nagle", HOST_NAGLE, nagle)),
        None => config,
    })
}

/// Restarts a gateway without these folders of its own and waits until it is ready.
pub(super) async fn restart_without(
    gateway: &mut Gateway,
    folders: &[&Path],
) -> Result<(), KitError> {
    gateway.kill();
    for folder in folders {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(KitError::io("empty", folder)(error));
            }
            _ => {}
        }
    }
    gateway.restart().await?;
    ready(gateway).await
}

async fn ready(gateway: &mut Gateway) -> Result<(), KitError> {
    let url = format!("{}/health/ready", gateway.admin_url());
    let client = Client::plain()?;
    gateway
        .process()
        .ready(Duration::from_secs(30), async || {
            let answer = client.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await
}

/// An exam under other UIDs, with its files beside those of the original.
fn copy(manifest: &Manifest, exam: &Exam, number: usize) -> Result<Exam, KitError> {
    let mut copy = exam.clone();
    copy.name = format!("{}-copy{number}", exam.name);
    let folder = manifest.root.join(&copy.name);
    std::fs::create_dir_all(&folder).map_err(KitError::io("create", &folder))?;
    copy.study_instance_uid = renumber(&exam.study_instance_uid, number);
    for series in &mut copy.series {
        let old_series = series.series_instance_uid.clone();
        series.series_instance_uid = renumber(&old_series, number);
        for instance in &mut series.instances {
            let source = manifest.path(instance);
            let old_instance = instance.sop_instance_uid.clone();
            instance.sop_instance_uid = renumber(&old_instance, number);
            instance.file = format!("{}/{}.dcm", copy.name, instance.instance_number);
            let target = manifest.path(instance);
            if target
                .metadata()
                .is_ok_and(|file| file.len() == instance.size)
            {
                continue;
            }
            let mut bytes = std::fs::read(&source).map_err(KitError::io("read", &source))?;
            for (old, new) in [
                (&exam.study_instance_uid, &copy.study_instance_uid),
                (&old_series, &series.series_instance_uid),
                (&old_instance, &instance.sop_instance_uid),
            ] {
                replace(&mut bytes, old.as_bytes(), new.as_bytes());
            }
            std::fs::write(&target, bytes).map_err(KitError::io("write", &target))?;
        }
    }
    Ok(copy)
}

/// A UID of the same length whose last two digits are others.
fn renumber(uid: &str, number: usize) -> String {
    let (head, tail) = uid
        .split_at_checked(uid.len().saturating_sub(2))
        .unwrap_or((uid, ""));
    let tail: usize = tail.parse().unwrap_or(0);
    format!("{head}{:02}", (tail + number) % 100)
}

/// Replaces every occurrence of bytes by others of the same length.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let found: Vec<usize> = memmem::find_iter(bytes, old).collect();
    for at in found {
        if let Some(place) = bytes.get_mut(at..at + old.len())
            && place.len() == new.len()
        {
            place.copy_from_slice(new);
        }
    }
}
