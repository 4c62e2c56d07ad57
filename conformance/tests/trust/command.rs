//! `drimbox whitelist`, as an administrator runs it, without any service.

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

use conformance::testkit::igc::{Authority, CrlSpec, Igc, LeafSpec};
use conformance::testkit::whitelist::{Entry, ListSpec, Profile};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

struct Centre {
    folder: TempDir,
    igc: Igc,
}

impl Centre {
    /// Whose lists of revocation and white list are files.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let igc = Igc::new(true, OffsetDateTime::now_utc()).unwrap();
        let path = folder.path();
        igc.write(path, &[Authority::Root, Authority::Organisations])
            .unwrap();
        for (name, authority) in [
            ("root.crl", Authority::Root),
            ("org.crl", Authority::Organisations),
        ] {
            fs::write(
                path.join(name),
                igc.crl(authority, &CrlSpec::default()).unwrap(),
            )
            .unwrap();
        }
        let at = path.display();
        let config = format!(
            "data_dir = \"{at}/data\"\n[local]\n\
             [trust]\nenvironment = \"test\"\n\
             authority_files = [\"Root.cer\", \"Organisations.cer\"]\n\
             crl_sources = [\"{at}/root.crl\", \"{at}/org.crl\"]\n\
             [trust.white_list]\nsources = [\"{at}/list.xml\"]\n\
             [[pacs]]\nname = \"scanner\"\n[pacs.dimse]\nhost = \"127.0.0.1\"\nae_title = \"PACS\"\n"
        );
        fs::write(path.join("drimbox.toml"), config).unwrap();
        Self { folder, igc }
    }

    fn list(&self, hosts: &[&str]) -> ListSpec {
        let entries = hosts.iter().map(|host| Entry::peer(host)).collect();
        ListSpec::new(
            Profile::Two,
            entries,
            OffsetDateTime::now_utc() - Duration::HOUR,
        )
    }

    fn publish(&self, text: &str) {
        fs::write(self.folder.path().join("list.xml"), text).unwrap();
    }

    /// What it prints, and how it ends.
    fn run(&self, arguments: &[&str]) -> (String, u8) {
        let mut line: Vec<OsString> = ["drimbox", "whitelist"].map(OsString::from).to_vec();
        line.extend(arguments.iter().map(OsString::from));
        line.push("--config".into());
        line.push(self.folder.path().join("drimbox.toml").into());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = drimbox::cli::run(line, &drimbox::app::App, &mut out, &mut err);
        let said = [out, err].concat();
        // An ExitCode tells its number in its debug form alone.
        let code = format!("{code:?}");
        let code = (0..3).find(|n| format!("{:?}", ExitCode::from(*n)) == code);
        (String::from_utf8(said).unwrap(), code.unwrap())
    }
}

#[test]
fn a_list_is_fetched_shown_and_confirmed_while_the_service_is_stopped() {
    let centre = Centre::new();
    let (said, code) = centre.run(&["show"]);
    assert!(code == 1 && said.contains("Aucune liste blanche"), "{said}");

    let signer = centre.igc.leaf(&LeafSpec::signer()).unwrap();
    let hosts = ["db3.test.example.fr", "db4.test.example.fr"];
    centre.publish(&centre.list(&hosts).sign(&signer).unwrap());
    let (said, code) = centre.run(&["refresh"]);
    assert!(
        code == 0 && said.contains("nouvelle liste en vigueur, 2 domaine(s)"),
        "{said}"
    );
    let (said, code) = centre.run(&["refresh"]);
    assert!(code == 0 && said.contains("inchangée"), "{said}");

    let (said, code) = centre.run(&["show"]);
    assert!(code == 0 && said.contains("en vigueur"), "{said}");
    for shown in [
        "db3.test.example.fr",
        "CN=db4.test.example.fr,OU=3187",
        "acceptée",
    ] {
        assert!(said.contains(shown), "{shown}: {said}");
    }
}

#[test]
fn a_list_that_lost_its_domains_is_taken_when_it_is_confirmed() {
    let centre = Centre::new();
    let signer = centre.igc.leaf(&LeafSpec::signer()).unwrap();
    let three = [
        "db3.test.example.fr",
        "db4.test.example.fr",
        "db5.test.example.fr",
    ];
    centre.publish(&centre.list(&three).sign(&signer).unwrap());
    centre.run(&["refresh"]);
    centre.publish(&centre.list(&three[..1]).sign(&signer).unwrap());
    let (said, code) = centre.run(&["refresh"]);
    assert!(code == 1 && said.contains("--confirm"), "{said}");
    let (said, code) = centre.run(&["refresh", "--confirm"]);
    assert!(code == 0 && said.contains("1 domaine(s)"), "{said}");
}

#[test]
fn a_file_is_verified_without_being_used() {
    let centre = Centre::new();
    let signer = centre.igc.leaf(&LeafSpec::signer()).unwrap();
    let list = centre.list(&["db3.test.example.fr"]);
    let file = centre.folder.path().join("file.xml");
    let name = file.to_str().unwrap();
    fs::write(&file, list.unsigned()).unwrap();
    let (said, code) = centre.run(&["verify", name]);
    assert!(
        code == 1 && said.contains("la liste n'est pas signée"),
        "{said}"
    );
    fs::write(&file, list.sign(&signer).unwrap()).unwrap();
    let (said, code) = centre.run(&["verify", name]);
    assert!(
        code == 1 && said.contains("rien ne prouve que le certificat du signataire"),
        "no revocation list was fetched yet: {said}"
    );
    centre.run(&["refresh"]);
    let (said, code) = centre.run(&["verify", name]);
    assert!(code == 0 && said.contains("Tout est en ordre"), "{said}");
    let (said, _) = centre.run(&["show"]);
    assert!(said.contains("Aucune liste blanche"), "{said}");
    let (said, code) = centre.run(&["verify", "/absent.xml"]);
    assert!(code == 2, "{said}");
}

#[test]
fn without_the_section_there_is_no_white_list() {
    let centre = Centre::new();
    let file = centre.folder.path().join("drimbox.toml");
    let text = fs::read_to_string(&file).unwrap();
    let from = text.find("[trust]").unwrap();
    let to = text.find("[[pacs]]").unwrap();
    fs::write(&file, format!("{}{}", &text[..from], &text[to..])).unwrap();
    let (said, code) = centre.run(&["show"]);
    assert!(code == 2 && said.contains("[trust]"), "{said}");
}
