//! `drimbox fetch`, from a real DRIMbox in front of an Orthanc.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::testkit::gateway::binary;
use conformance::testkit::{Gateway, GatewayConfig, Identity, Orthanc, PacsConfig, Pki};
use toml::{Table, Value};

use crate::consumer::HOST;
use crate::support::study::Study;
use crate::support::{folder, metric, run};

/// A study at the source.
fn study(name: &str, series: &[usize]) -> Study {
    let root = format!("https://{HOST}/dicom-web");
    Study::of(name, "2.25.4711", &root, series)
}

/// The configuration of a consumer that knows the source.
fn consumer(name: &str, source: &Gateway, pki: &Pki, ours: &Identity) -> PathBuf {
    let text = |path: &Path| Value::from(path.display().to_string());
    let mut peer = Table::new();
    peer.insert("db_host".into(), HOST.into());
    peer.insert("address".into(), source.address("peer").to_string().into());
    let config = GatewayConfig::new(&folder(name)).unwrap();
    config
        .set("consumer.ca_file", text(pki.ca_file()))
        .set(
            "consumer.identity.certificate_file",
            text(&ours.certificate_file),
        )
        .set("consumer.identity.key_file", text(&ours.key_file))
        .set("consumer.peers", vec![Value::Table(peer)])
        .pacs(PacsConfig::new("none", "NONE", 104))
        .write()
        .unwrap()
}

async fn fetch(config: &Path, kos: &Path, out: &Path) -> Output {
    let mut command = Command::new(binary().unwrap());
    command
        .args(["fetch", "--kos"])
        .arg(kos)
        .arg("--out")
        .arg(out);
    command.arg("--config").arg(config);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A DRIMbox under the name of the peer, in front of an Orthanc with these files.
async fn source(name: &str, files: Vec<PathBuf>, pki: &Pki) -> (Gateway, Orthanc) {
    let orthanc = Orthanc::builder(&folder(&format!("{name}-orthanc"))).start();
    let orthanc = orthanc.await.unwrap();
    orthanc.upload(files).await.unwrap();
    let theirs = pki.server(&[HOST]).unwrap();
    let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
    let config = GatewayConfig::new(&folder(&format!("{name}-source"))).unwrap();
    let config = config.peer(pki).unwrap().pacs(pacs.db_host(HOST, &theirs));
    (Gateway::start(config).await.unwrap(), orthanc)
}

#[test]
fn an_exam_of_1300_images_comes_whole_and_only_what_is_missing_comes_again() {
    run(async {
        let study = study("command", &[800, 450, 50]);
        let files = study
            .files
            .iter()
            .map(|(_, _, path)| path.clone())
            .collect();
        let pki = Pki::new(&folder("command-pki"), "Test CA").unwrap();
        let (gateway, _orthanc) = source("command", files, &pki).await;
        let ours = pki.client("db2.peer.example").unwrap();
        let config = consumer("command-consumer", &gateway, &pki, &ours);
        let place = folder("command-out");
        let kos = place.join("kos.dcm");
        study.kos.write(&kos).unwrap();
        let out = place.join("images");

        let done = fetch(&config, &kos, &out).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
        study.assert_in(&out);
        assert!(text(&done.stdout).contains("1300 images (0 déjà là)"));
        // No bar where nobody looks.
        assert!(!text(&done.stderr).contains('\r'));
        let requests = async || {
            metric(
                &gateway,
                "drimbox_http_requests_total",
                &[("listener", "peer")],
            )
            .await
        };
        assert_eq!(requests().await, 3, "one request a series");

        // Two are lost, one is cut short: three requests for one image each.
        let path = |at: usize| {
            let (series, instance, _) = &study.files[at];
            out.join(series).join(format!("{instance}.dcm"))
        };
        std::fs::remove_file(path(10)).unwrap();
        std::fs::remove_file(path(900)).unwrap();
        let file = std::fs::File::options().write(true).open(path(11)).unwrap();
        file.set_len(400).unwrap();
        let done = fetch(&config, &kos, &out).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(text(&done.stdout).contains("1300 images (1297 déjà là)"));
        study.assert_in(&out);

        let before = requests().await;
        let done = fetch(&config, &kos, &out).await;
        assert!(done.status.success());
        assert_eq!(requests().await, before, "nothing was missing");
    });
}

#[test]
fn a_fetch_that_fails_says_why_and_what_to_do() {
    run(async {
        let study = study("failing", &[3]);
        let files = study
            .files
            .iter()
            .map(|(_, _, path)| path.clone())
            .collect();
        let pki = Pki::new(&folder("failing-pki"), "Test CA").unwrap();
        let (gateway, _orthanc) = source("failing", files, &pki).await;
        let ours = pki.client("db2.peer.example").unwrap();
        let config = consumer("failing-consumer", &gateway, &pki, &ours);
        let place = folder("failing-out");
        let out = place.join("images");
        let file = place.join("kos.dcm");

        // Another host than the one that is known.
        let mut kos = study.kos.clone();
        let url = kos.series[0].retrieve_url.take().unwrap();
        kos.series[0].retrieve_url = Some(url.replace(HOST, "db7.peer.example"));
        kos.write(&file).unwrap();
        let failed = fetch(&config, &file, &out).await;
        assert_eq!(failed.status.code(), Some(1));
        assert!(
            text(&failed.stderr).contains("liste blanche"),
            "{}",
            text(&failed.stderr)
        );

        // A series that the source does not have.
        let mut kos = study.kos.clone();
        kos.series[0].uid += ".9";
        let url = kos.series[0].retrieve_url.as_mut().unwrap();
        url.push_str(".9");
        kos.write(&file).unwrap();
        let failed = fetch(&config, &file, &out).await;
        assert_eq!(failed.status.code(), Some(1));
        assert!(
            text(&failed.stderr).contains("n'est plus publié"),
            "{}",
            text(&failed.stderr)
        );

        // One image more than the source has.
        let mut kos = study.kos.clone();
        let class = kos.series[0].instances[0].0.clone();
        kos.series[0]
            .instances
            .push((class, "2.25.4711.0.99".into()));
        kos.write(&file).unwrap();
        let failed = fetch(&config, &file, &out).await;
        assert_eq!(failed.status.code(), Some(1));
        assert!(
            text(&failed.stderr).contains("1 images sur 4"),
            "{}",
            text(&failed.stderr)
        );

        // A file that cannot be written: here its name is taken by a folder.
        study.kos.write(&file).unwrap();
        let (series, instance, _) = &study.files[1];
        let blocked = place.join("blocked");
        let folder_of_series = blocked.join(series);
        std::fs::create_dir_all(folder_of_series.join(format!("{instance}.dcm"))).unwrap();
        let failed = fetch(&config, &file, &blocked).await;
        assert_eq!(failed.status.code(), Some(1));
        assert!(
            text(&failed.stderr).contains("directory"),
            "{}",
            text(&failed.stderr)
        );
        let left = std::fs::read_dir(&folder_of_series).unwrap();
        let left = left.map(|one| one.unwrap().file_name().into_string().unwrap());
        let unfinished: Vec<String> = left.filter(|name| name.ends_with(".part")).collect();
        assert_eq!(unfinished, Vec::<String>::new());

        // Something else than a KOS.
        let failed = fetch(&config, &study.files[0].2, &out).await;
        assert_eq!(failed.status.code(), Some(2));
        assert!(text(&failed.stderr).contains("n'est pas utilisable"));

        // A source that is not there.
        drop(gateway);
        study.kos.write(&file).unwrap();
        let nowhere = folder("failing-nowhere");
        let failed = fetch(&config, &file, &nowhere).await;
        assert_eq!(failed.status.code(), Some(1));
        assert!(
            text(&failed.stderr).contains("ne répond pas"),
            "{}",
            text(&failed.stderr)
        );
    });
}
