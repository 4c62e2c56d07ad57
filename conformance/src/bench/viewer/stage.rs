//! What a measure of the exam page stands on: a PACS with one published series, the gateway, OHIF, a browser.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::samples::kos::Kos;
use crate::samples::{self, Exam, Profile};
use crate::testkit::psc::RADIOLOGIST;
use crate::testkit::{
    Gateway, GatewayConfig, Identity, KitError, Nginx, Orthanc, PacsConfig, Pki, PscClient,
    PscProvider, binary,
};

use super::super::stage::{orthanc, restart_without};
use super::browser::Browser;
use super::line::{Line, Shape};
use super::ohif::Ohif;

const HOST: &str = "vi.bench.test";
const PEER_HOST: &str = "ohif.bench.test";
const CLIENT: &str = "drimbox-bench";
const PACS: &str = "pacs";
/// Images of the series.
pub(super) const IMAGES: usize = 600;
/// Silence on the line after which nothing more is awaited.
const SILENCE: Duration = Duration::from_secs(5);
/// After which an exam that is not loaded is taken as one that will not be.
const LIMIT: Duration = Duration::from_secs(300);
const PAGE: &str = "/viewer/";

/// The outside world of the page, and the browser.
pub(super) struct Stage {
    folder: PathBuf,
    exam: Exam,
    gateway: Gateway,
    browser: Browser,
    ours: Side,
    peer: Side,
    /// OHIF's version.
    pub ohif: String,
    _provider: PscProvider,
    _orthanc: Orthanc,
    _nginx: Nginx,
}

struct Side {
    line: Line,
    origin: String,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The gateway's exam page.
    Drimbox,
    /// OHIF in front of Orthanc.
    Ohif,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Visit {
    /// Until the first image, on a line of this shape when it is a phone's.
    Image(Option<Shape>),
    /// Until three planes are there.
    Planes,
    /// Until nothing more comes, with nobody touching the page.
    Received,
}

impl Visit {
    /// Name of the picture of its end.
    fn picture(self, who: Who) -> String {
        let what = match self {
            Self::Image(None) => "desktop",
            Self::Image(Some(_)) => "phone",
            Self::Planes => "planes",
            Self::Received => "received",
        };
        format!("{who:?}-{what}.png").to_lowercase()
    }
}

/// What a visit took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visited {
    /// Seconds after the start of the navigation.
    pub seconds: f64,
    /// Bytes that the browser received until then.
    pub bytes: u64,
}

impl Stage {
    /// Starts everything; `build` keeps the exams and what npm installs.
    pub async fn start(build: &Path) -> Result<Self, KitError> {
        let build = std::path::absolute(build).map_err(KitError::io("find", build))?;
        let folder = build.join("viewer");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(KitError::io("empty", &folder))?;
        }
        for folder in [&folder.join("orthanc"), &folder.join("nginx")] {
            std::fs::create_dir_all(folder).map_err(KitError::io("create", folder))?;
        }
        let ohif = Ohif::install(&build)?;
        let manifest = samples::generate(Profile::Bench, &build.join("samples"))
            .map_err(KitError::http("make the exams"))?;
        let exam = series_of(manifest.exam("ct").cloned())?;
        let pki = Pki::new(&folder.join("pki"), "Bench CA")?;
        let provider = PscProvider::start(&build, &folder.join("psc"), &pki).await?;
        let orthanc = orthanc(&folder.join("orthanc"), true).await?;
        orthanc
            .upload(exam.instances().map(|one| manifest.path(one)).collect())
            .await?;

        let own = pki.server(&[HOST])?;
        let foreign = pki.server(&[PEER_HOST])?;
        let config = configuration(&folder, &pki, &own, &provider, &orthanc)?;
        let address = config.address("peer");
        let address = address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let origin = format!("https://{HOST}:{}", address.port());
        let returns = format!("{origin}/auth/psc/callback");
        provider
            .register(&[PscClient::new(CLIENT).redirect(&returns)])
            .await?;
        let gateway = Gateway::start(config).await?;
        publish(&folder, &exam)?;
        let upstream = orthanc.http_url().to_owned();
        let nginx =
            Nginx::application(&folder.join("nginx"), &ohif.folder, &upstream, &foreign).await?;
        let ours = Side {
            line: Line::start(address).await?,
            origin,
        };
        let port = nginx.port();
        let peer = Side {
            line: Line::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?,
            origin: format!("https://{PEER_HOST}:{port}"),
        };
        let hosts = [&ours, &peer].map(|side| {
            let host = side.origin.trim_start_matches("https://").to_owned();
            (host, side.line.address())
        });
        let certificates = [&own, &foreign].map(|one| one.certificate_file.as_path());
        let mut browser = Browser::start(&build, &folder, &hosts, &certificates)?;
        let link = format!("{}{}", ours.origin, link(&exam));
        let page = format!("{}{PAGE}", ours.origin);
        browser.order(
            &json!({"order": "login", "link": link, "page": page, "professional": RADIOLOGIST}),
        )?;
        Ok(Self {
            folder,
            exam,
            gateway,
            browser,
            ours,
            peer,
            ohif: ohif.version,
            _provider: provider,
            _orthanc: orthanc,
            _nginx: nginx,
        })
    }

    /// The browser's name and version.
    pub fn browser(&mut self) -> Result<String, KitError> {
        let said = self.browser.order(&json!({"order": "version"}))?;
        let text = said.get("version").and_then(Value::as_str);
        Ok(text.unwrap_or_default().to_owned())
    }

    /// Opens the exam in a browser that has nothing in its cache; the gateway has nothing in its own either.
    pub async fn visit(&mut self, who: Who, visit: Visit) -> Result<Visited, KitError> {
        let planes = visit == Visit::Planes;
        let shape = match visit {
            Visit::Image(shape) => shape,
            _ => None,
        };
        let (side, path, press) = match who {
            Who::Drimbox => {
                let cache = self.folder.join("gateway/data/cache");
                restart_without(&mut self.gateway, &[&cache]).await?;
                // The page offers the planes when it knows every image.
                let button = json!({"text": "Coupes 3 plans", "after": format!("/ {IMAGES}")});
                let press = if planes { vec![button] } else { vec![] };
                (&self.ours, PAGE.to_owned(), press)
            }
            Who::Ohif => {
                let study = &self.exam.study_instance_uid;
                let planes = if planes { "&hangingprotocolId=mpr" } else { "" };
                let path = format!("/viewer?StudyInstanceUIDs={study}{planes}");
                (&self.peer, path, vec![])
            }
        };
        side.line.reset(shape);
        let answer = self.browser.order(&json!({
            "order": "open",
            "url": format!("{}{path}", side.origin),
            "phone": shape.is_some(),
            "planes": if planes { 3 } else { 1 },
            "press": press,
        }))?;
        let (seconds, at) = moment(&answer);
        let mut visited = Visited {
            seconds,
            bytes: side.line.received_until(at),
        };
        if !matches!(visit, Visit::Image(_)) {
            let (last, bytes) = silence(&side.line, self.exam.size()).await?;
            let after = last.duration_since(at).unwrap_or_default();
            visited = Visited {
                seconds: seconds + after.as_secs_f64(),
                bytes,
            };
        }
        if planes {
            let answer = self.browser.order(&json!({"order": "last"}))?;
            visited.seconds = moment(&answer).0;
        }
        let file = self.folder.join(visit.picture(who));
        self.browser
            .order(&json!({"order": "picture", "file": file}))?;
        self.browser.order(&json!({"order": "close"}))?;
        Ok(visited)
    }

    /// Bytes of the images as they are stored.
    pub fn stored(&self) -> u64 {
        self.exam.size()
    }
}

/// What the browser tells of an image: seconds after the start of the navigation, and the clock.
fn moment(answer: &Value) -> (f64, SystemTime) {
    let number = |name: &str| answer.get(name).and_then(Value::as_f64).unwrap_or_default();
    let at = Duration::try_from_secs_f64(number("at") / 1e3).unwrap_or_default();
    (number("seconds"), UNIX_EPOCH + at)
}

/// The last byte on a line that nothing comes over any more, and the bytes before it. Pages pause: there is no end
/// before most of the `stored` bytes came.
async fn silence(line: &Line, stored: u64) -> Result<(SystemTime, u64), KitError> {
    let begun = Instant::now();
    loop {
        let (last, bytes) = line
            .last()
            .ok_or_else(|| KitError::http("watch the line")("nothing came over it"))?;
        let silent = last.elapsed().unwrap_or_default();
        match SILENCE.checked_sub(silent) {
            None | Some(Duration::ZERO) if bytes >= stored / 10 * 9 => return Ok((last, bytes)),
            None | Some(Duration::ZERO) if begun.elapsed() > LIMIT => {
                let reason = format!("{bytes} bytes came for {stored} that are stored");
                return Err(KitError::http("load the exam")(reason));
            }
            None | Some(Duration::ZERO) => tokio::time::sleep(SILENCE).await,
            Some(rest) => tokio::time::sleep(rest).await,
        }
    }
}

/// The first images of the longest series.
fn series_of(exam: Option<Exam>) -> Result<Exam, KitError> {
    let lacking = || KitError::Invalid {
        what: "the exams".into(),
        reason: format!("no series of {IMAGES} images"),
    };
    let mut exam = exam.ok_or_else(lacking)?;
    exam.series
        .retain(|series| series.instances.len() >= IMAGES);
    exam.series.truncate(1);
    let series = exam.series.first_mut().ok_or_else(lacking)?;
    series.instances.truncate(IMAGES);
    series.count = IMAGES;
    Ok(exam)
}

fn configuration(
    folder: &Path,
    pki: &Pki,
    own: &Identity,
    provider: &PscProvider,
    orthanc: &Orthanc,
) -> Result<GatewayConfig, KitError> {
    let identity = pki.client(CLIENT)?;
    let path = |path: &Path| path.display().to_string();
    let db = "db.bench.test";
    let upstream = PacsConfig::new(PACS, orthanc.ae_title(), orthanc.dicom_port())
        .db_host(db, &pki.server(&[db])?)
        .vi_host(HOST, own);
    Ok(GatewayConfig::new(&folder.join("gateway"))?
        .peer(pki)?
        .set("psc.environment", "custom")
        .set("psc.issuer", provider.issuer())
        .set("psc.client_id", CLIENT)
        .set("psc.certificate_file", path(&identity.certificate_file))
        .set("psc.key_file", path(&identity.key_file))
        .set("psc.ca_file", path(pki.ca_file()))
        .pacs(upstream))
}

/// Publishes the exam as an administrator does.
fn publish(folder: &Path, exam: &Exam) -> Result<(), KitError> {
    let file = folder.join("kos.dcm");
    Kos::of(exam, "https://db.bench.test/dicom-web")
        .write(&file)
        .map_err(KitError::http("write the KOS"))?;
    let said = Command::new(binary()?)
        .args([
            "exams",
            "add",
            "--pacs",
            PACS,
            "--cda-id",
            &report(exam, '^'),
        ])
        .arg("--kos")
        .arg(&file)
        .env("DRIMBOX_CONFIG", folder.join("gateway/drimbox.toml"))
        .output()
        .map_err(KitError::io("run", Path::new("drimbox exams add")))?;
    if said.status.success() {
        return Ok(());
    }
    Err(KitError::Invalid {
        what: "drimbox exams add".into(),
        reason: String::from_utf8_lossy(&said.stderr).into_owned(),
    })
}

fn report(exam: &Exam, separator: char) -> String {
    format!("1.2.250.1.999.7{separator}CR-{}", exam.accession_number)
}

/// The link in the report.
fn link(exam: &Exam) -> String {
    format!(
        "/IHEInvokeImageDisplay?requestType=STUDY&studyUID={}&Accessionnumber=1.2.250.1.999.5.{}&idCDA={}",
        exam.study_instance_uid,
        exam.accession_number,
        report(exam, '_')
    )
}
