//! Two PACS with a `vi` name each, the provider, and exams that were published by command.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use conformance::samples::Exam;
use conformance::samples::kos::Kos;
use conformance::testkit::psc::left_out;
use conformance::testkit::{
    Gateway, GatewayConfig, Orthanc, PacsConfig, Pki, PscClient, PscProvider, binary,
};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::support::{browser, exam, files, folder, run, trail};

const CLIENT: &str = "drimbox-essai";
/// The name of the PACS `ici`, whose exams are published, and of `ailleurs`.
pub const HOSTS: [&str; 2] = ["vi1.test.example", "vi2.test.example"];
pub const PACS: [&str; 2] = ["ici", "ailleurs"];
/// The exam of most tests: the first of its three series is published.
pub const EXAM: &str = "ct";
/// Published too, with a report of its own.
pub const OTHER: &str = "mr";
/// In the PACS, and not published.
pub const CLOSED: &str = "dx";
const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/link/js/stories.mjs");
const BUILT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../gateway/viewer/dist/files.tsv"
);

pub struct Site {
    pub home: PathBuf,
    pub pki: Pki,
    pub gateway: Gateway,
    pub provider: PscProvider,
    pub port: u16,
    _orthanc: Orthanc,
}

impl Site {
    /// The site of this program, for one test after the other: they share the provider's user and the counters of
    /// refusals.
    pub async fn lock() -> MutexGuard<'static, Self> {
        static SITE: OnceCell<Mutex<Site>> = OnceCell::const_new();
        SITE.get_or_init(async || Mutex::new(Self::start("link").await))
            .await
            .lock()
            .await
    }

    pub async fn start(name: &str) -> Self {
        Self::with(name, |config, _| config).await
    }

    /// One whose configuration says more.
    pub async fn with(name: &str, more: impl FnOnce(GatewayConfig, &Pki) -> GatewayConfig) -> Self {
        let home = folder(name);
        let pki = Pki::new(&home.join("pki"), "Test CA").unwrap();
        let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let provider = PscProvider::start(build, &home.join("psc"), &pki)
            .await
            .unwrap();
        let orthanc = Orthanc::builder(&home.join("orthanc"))
            .start()
            .await
            .unwrap();
        orthanc.upload(files(&[EXAM, OTHER, CLOSED])).await.unwrap();
        let identity = pki.client(CLIENT).unwrap();
        let path = |path: &Path| path.display().to_string();
        let mut config = GatewayConfig::new(&home.join("gateway"))
            .unwrap()
            .peer(&pki)
            .unwrap()
            .set("log.filter", "debug")
            .set("psc.environment", "custom")
            .set("psc.issuer", provider.issuer())
            .set("psc.client_id", CLIENT)
            .set("psc.certificate_file", path(&identity.certificate_file))
            .set("psc.key_file", path(&identity.key_file))
            .set("psc.ca_file", path(pki.ca_file()));
        let mut client = PscClient::new(CLIENT);
        let port = config.address("peer").unwrap().port();
        for (host, pacs) in HOSTS.iter().zip(PACS) {
            let db = format!("db-{pacs}.test.example");
            let upstream = PacsConfig::new(pacs, orthanc.ae_title(), orthanc.dicom_port())
                .db_host(&db, &pki.server(&[&db]).unwrap())
                .vi_host(host, &pki.server(&[host]).unwrap());
            config = config.pacs(upstream);
            client = client.redirect(&format!("https://{host}:{port}/auth/psc/callback"));
        }
        config = more(config, &pki);
        provider.register(&[client]).await.unwrap();
        let site = Self {
            gateway: Gateway::start(config).await.unwrap(),
            home,
            pki,
            provider,
            port,
            _orthanc: orthanc,
        };
        site.publish(EXAM, &[]).await;
        site.publish(OTHER, &[]).await;
        site
    }

    /// Publishes the first series of an exam as an administrator does.
    pub async fn publish(&self, name: &str, more: &[&str]) {
        self.publish_kos(name, |_| {}, more).await;
    }

    /// The same with a KOS that says something else.
    pub async fn publish_with(&self, name: &str, change: impl FnOnce(&mut Kos)) {
        self.publish_kos(name, change, &[]).await;
    }

    async fn publish_kos(&self, name: &str, change: impl FnOnce(&mut Kos), more: &[&str]) {
        let mut kos = Kos::of(exam(name), "https://db-ici.test.example/dicom-web");
        kos.series.truncate(1);
        change(&mut kos);
        self.publish_at(PACS[0], name, &kos, &report_of(name), more)
            .await;
    }

    /// Publishes the first two series of the exam at the second PACS, with a report of its own; its link.
    pub async fn publish_two_series(&self) -> String {
        let mut kos = Kos::of(exam(EXAM), "https://db-ailleurs.test.example/dicom-web");
        kos.series.truncate(2);
        let report = format!("1.2.250.1.999.7^DEUX-{}", exam(EXAM).accession_number);
        self.publish_at(PACS[1], EXAM, &kos, &report, &[]).await;
        let own = exam(EXAM);
        link(
            &own.study_instance_uid,
            &accession_of(own),
            &report.replace('^', "_"),
        )
    }

    async fn publish_at(&self, pacs: &str, name: &str, kos: &Kos, cda: &str, more: &[&str]) {
        let file = self.home.join(format!("{name}.{pacs}.kos.dcm"));
        kos.write(&file).unwrap();
        let file = file.display().to_string();
        let add = ["add", "--kos", &file, "--pacs", pacs, "--cda-id", cda];
        // What is not named would stay as it was.
        let lifted = ["--invisible-patient", "--masque-ps", "--opposed"]
            .into_iter()
            .filter(|flag| !more.contains(flag))
            .map(|flag| format!("{flag}=false"));
        let lifted: Vec<String> = lifted.collect();
        let lifted: Vec<&str> = lifted.iter().map(String::as_str).collect();
        self.exams(&[&add, more, &lifted].concat()).await;
    }

    /// Says what proves that somebody is the patient of an exam.
    pub async fn facts(&self, name: &str, facts: &serde_json::Value) {
        let file = self.home.join(format!("{name}.patient.json"));
        std::fs::write(&file, facts.to_string()).unwrap();
        let (study, file) = (&exam(name).study_instance_uid, file.display().to_string());
        self.exams(&[
            "patient", "--pacs", PACS[0], "--study", study, "--file", &file,
        ])
        .await;
    }

    /// Gives an exam its report; what the command complains of.
    pub async fn report(&self, name: &str, cda: &str) -> Result<(), String> {
        let file = self.home.join(format!("{name}.cda.xml"));
        std::fs::write(&file, cda).unwrap();
        let (study, file) = (&exam(name).study_instance_uid, file.display().to_string());
        self.try_exams(&[
            "report", "--pacs", PACS[0], "--study", study, "--cda", &file,
        ])
        .await
    }

    /// The events of the audit trail, the oldest first.
    pub fn events(&self) -> Vec<serde_json::Value> {
        trail::events(&self.home.join("gateway/data/audit"))
    }

    pub async fn withdraw(&self, name: &str) {
        let study = &exam(name).study_instance_uid;
        self.exams(&["remove", "--pacs", PACS[0], "--study", study])
            .await;
    }

    async fn exams(&self, arguments: &[&str]) {
        let done = self.try_exams(arguments).await;
        assert_eq!(done, Ok(()), "{arguments:?}");
    }

    async fn try_exams(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new(binary().unwrap());
        command.arg("exams").args(arguments);
        command.env("DRIMBOX_CONFIG", self.home.join("gateway/drimbox.toml"));
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(())
        } else {
            Err(said)
        }
    }

    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.port)
    }
}

/// The id of the report of an exam: root and extension.
pub fn report_of(name: &str) -> String {
    format!("1.2.250.1.999.7^CR-{}", exam(name).accession_number)
}

/// The accession number as reports write it: root and extension.
pub fn accession_of(exam: &Exam) -> String {
    format!("1.2.250.1.999.5.{}", exam.accession_number)
}

/// The link in the report of an exam.
pub fn link_of(name: &str) -> String {
    let exam = exam(name);
    link(
        &exam.study_instance_uid,
        &accession_of(exam),
        &report_of(name).replace('^', "_"),
    )
}

pub fn link(study: &str, accession: &str, report: &str) -> String {
    format!(
        "/IHEInvokeImageDisplay?requestType=STUDY&studyUID={study}&Accessionnumber={accession}&idCDA={report}"
    )
}

/// Plays a story in a browser of its own.
pub fn story(name: &str) {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        tell(&site, name, json!({}), async |order| {
            panic!("no order {order}")
        })
        .await;
    });
}

/// The same with two series of the exam, on the other `vi` name: the first one has the exam with one series.
pub fn story_of_two_series(name: &str) {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let more = json!({
            "hosts": [HOSTS[1], HOSTS[0]],
            "link": site.publish_two_series().await,
            "series": exam(EXAM).series[..2].iter().map(|one| &one.series_description).collect::<Vec<_>>(),
        });
        tell(&site, name, more, async |order| panic!("no order {order}")).await;
    });
}

/// The same at this site; `more` is told to the story, `obey` does what it orders.
pub async fn tell(
    site: &Site,
    name: &str,
    more: serde_json::Value,
    obey: impl AsyncFnMut(serde_json::Value) -> serde_json::Value,
) {
    assert!(
        Path::new(BUILT).exists(),
        "the exam page is not built: run `make viewer`, then build the gateway"
    );
    {
        let exam = exam(EXAM);
        let mut options = json!({
            "hosts": HOSTS,
            "port": site.port,
            "stories": STORIES,
            "link": link_of(EXAM),
            "otherLink": link_of(EXAM).replace(&exam.accession_number, "E00000000"),
            "accession": exam.accession_number,
            "description": exam.study_description,
            "images": exam.series[0].count,
            "series": [exam.series[0].series_description],
        });
        // Several tests play the same story, at the same time.
        static PLAYED: AtomicUsize = AtomicUsize::new(0);
        let played = PLAYED.fetch_add(1, Ordering::Relaxed);
        let place = folder(&format!("link-browser-{name}-{played}"));
        for (key, value) in more.as_object().unwrap() {
            options[key] = value.clone();
        }
        browser::play(name, &place, options, obey).await;
    }
}
