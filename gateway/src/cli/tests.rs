#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::cell::RefCell;

use super::*;

/// A service that answers what it was told to.
#[derive(Default)]
pub(super) struct Scripted {
    verdicts: Vec<Verdict>,
    asked: RefCell<Vec<String>>,
    broken: bool,
}

impl Service for Scripted {
    async fn serve(&self, config: Config) -> anyhow::Result<()> {
        let name = config.pacs[0].name.clone();
        self.asked.borrow_mut().push(format!("serve {name}"));
        anyhow::ensure!(!self.broken, "port 443 is taken");
        Ok(())
    }

    async fn check_pacs(&self, _: &Config, name: &str) -> Vec<Verdict> {
        self.asked.borrow_mut().push(format!("check {name}"));
        self.verdicts.clone()
    }

    async fn check_acme(&self, _: &Config) -> Vec<Verdict> {
        self.asked.borrow_mut().push("check acme".to_owned());
        self.verdicts.clone()
    }

    async fn fetch(
        &self,
        _: &Config,
        fetch: &Fetch,
        progress: &Arc<Progress>,
    ) -> Result<Fetched, FetchError> {
        let kos = fetch.kos.display();
        self.asked.borrow_mut().push(format!("fetch {kos}"));
        progress.expects(3);
        progress.has(3, 1_000);
        match self.broken {
            true => Err(FetchError::Configuration("[consumer] manque".into())),
            false => Ok(Fetched {
                instances: 3,
                at_hand: 1,
                bytes: 2_500_000,
            }),
        }
    }

    async fn check_dmp(&self, _: &Config) -> Vec<Verdict> {
        self.asked.borrow_mut().push("check dmp".to_owned());
        self.verdicts.clone()
    }

    async fn check_psc(&self, _: &Config) -> Vec<Verdict> {
        self.asked.borrow_mut().push("check psc".to_owned());
        self.verdicts.clone()
    }

    async fn proxy(&self, config: ProxyConfig) -> anyhow::Result<()> {
        let listen = config.listen;
        self.asked.borrow_mut().push(format!("proxy {listen}"));
        Ok(())
    }

    async fn exams(&self, _: &Config, command: &ExamsCommand) -> anyhow::Result<String> {
        self.asked.borrow_mut().push(format!("{command:?}"));
        anyhow::ensure!(!self.broken, "the service does not run");
        Ok("fait\n".to_owned())
    }

    async fn acme(&self, _: &Config, command: &AcmeCommand) -> anyhow::Result<String> {
        self.asked.borrow_mut().push(format!("{command:?}"));
        anyhow::ensure!(!self.broken, "the service does not run");
        Ok("fait\n".to_owned())
    }

    async fn trust(&self, _: &Config, command: &TrustCommand) -> anyhow::Result<String> {
        self.asked.borrow_mut().push(format!("{command:?}"));
        anyhow::ensure!(!self.broken, "the service does not run");
        Ok("fait\n".to_owned())
    }
}

struct Ended {
    code: ExitCode,
    out: String,
    err: String,
}

fn drimbox(service: &Scripted, arguments: &[&str]) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = std::iter::once("drimbox").chain(arguments.iter().copied());
    let code = run(arguments.map(OsString::from), service, &mut out, &mut err);
    Ended {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

/// A folder with a configuration that loads, and the path of that configuration.
fn configured() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drimbox.toml");
    let text = "data_dir = \"data\"\n[local]\n[cache]\nmax_bytes = \"1 MiB\"\nmin_free_bytes = 0\n\
                [[pacs]]\nname = \"scanner\"\n[pacs.dimse]\nhost = \"pacs\"\nae_title = \"P\"\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_good_configuration_passes_its_check() {
    let (_folder, path) = configured();
    let ended = drimbox(
        &Scripted::default(),
        &["check", "config", "--config", &path],
    );
    assert_eq!(ended.code, ExitCode::SUCCESS);
    assert!(
        ended.out.contains("127.0.0.1:8080/dicom-web"),
        "{}",
        ended.out
    );
    assert!(ended.out.ends_with("Tout est en ordre.\n"), "{}", ended.out);
}

#[test]
fn certificates_of_igc_sante_that_nobody_would_be_told_of_are_a_warning() {
    let (folder, path) = configured();
    let text = std::fs::read_to_string(&path).unwrap();
    let identity = "[psc]\nenvironment = \"bas\"\nclient_id = \"c\"\nca_file = \"c.pem\"\n\
                    certificate_file = \"c.pem\"\nkey_file = \"k.pem\"\n";
    let alerts = "[alerts]\nlink_url = \"https://v.fr\"\nrecipients = [\"a@c.fr\", \"b@c.fr\"]\n\
                  [alerts.smtp]\nhost = \"s.fr\"\nfrom = \"d@c.fr\"\nca_file = \"c.pem\"\n";
    for (file, label) in [("c.pem", "CERTIFICATE"), ("k.pem", "PRIVATE KEY")] {
        use std::os::unix::fs::PermissionsExt as _;
        let pem = format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
        let file = folder.path().join(file);
        std::fs::write(&file, pem).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let said = |added: &str| {
        std::fs::write(&path, format!("{text}{added}")).unwrap();
        drimbox(
            &Scripted::default(),
            &["check", "config", "--config", &path],
        )
        .out
    };
    let without = said(identity);
    assert!(
        without.contains("IGC Santé (psc) : la section [alerts] manque"),
        "{without}"
    );
    let with = said(&format!("{identity}{alerts}"));
    assert!(with.contains("2 destinataires par courriel"), "{with}");
    assert!(!said("").contains("[alerts]"));
}

#[test]
fn a_wrong_configuration_ends_every_command_with_code_2() {
    let (_folder, path) = configured();
    std::fs::write(&path, "[locale]\n").unwrap();
    for command in [
        &["serve"][..],
        &["check", "config"],
        &["check", "pacs", "scanner"],
    ] {
        let service = Scripted::default();
        let ended = drimbox(&service, &[command, &["--config", &path]].concat());
        assert_eq!(ended.code, ExitCode::from(USAGE));
        assert!(ended.err.contains("« local »"), "{}", ended.err);
        assert!(service.asked.borrow().is_empty());
    }
}

#[test]
fn a_failed_step_is_printed_with_its_remedy_and_ends_with_code_1() {
    let (_folder, path) = configured();
    let service = Scripted {
        verdicts: vec![
            Verdict::ok("Connexion TCP", "acceptée"),
            Verdict::failed("Association", "refusée", "déclarer DRIMBOX dans le PACS"),
        ],
        ..Scripted::default()
    };
    let ended = drimbox(&service, &["check", "pacs", "scanner", "--config", &path]);
    assert_eq!(ended.code, ExitCode::from(FAILURE));
    let expected = "PACS scanner\n  \
                    ok         Connexion TCP : acceptée\n  \
                    ÉCHEC      Association : refusée\n             \
                    Remède : déclarer DRIMBOX dans le PACS\n\
                    1 échec(s) à corriger.\n";
    assert_eq!(ended.out, expected);
}

#[test]
fn a_warning_alone_ends_with_code_0() {
    let (_folder, path) = configured();
    let service = Scripted {
        verdicts: vec![Verdict::warning("Recherche", "lente", "ajouter un index")],
        ..Scripted::default()
    };
    let ended = drimbox(&service, &["check", "pacs", "scanner", "--config", &path]);
    assert_eq!(ended.code, ExitCode::SUCCESS);
}

#[test]
fn an_unknown_pacs_is_refused_with_the_nearest_one() {
    let (_folder, path) = configured();
    let service = Scripted::default();
    let ended = drimbox(&service, &["check", "pacs", "scaner", "--config", &path]);
    assert_eq!(ended.code, ExitCode::from(USAGE));
    assert!(ended.err.contains("« scanner »"), "{}", ended.err);
    assert!(service.asked.borrow().is_empty());
}

#[test]
fn the_service_runs_with_the_configuration_and_its_failure_is_code_1() {
    let (_folder, path) = configured();
    let service = Scripted::default();
    let ended = drimbox(&service, &["serve", "--config", &path]);
    assert_eq!(ended.code, ExitCode::SUCCESS);
    assert_eq!(*service.asked.borrow(), ["serve scanner"]);

    let broken = Scripted {
        broken: true,
        ..Scripted::default()
    };
    let ended = drimbox(&broken, &["serve", "--config", &path]);
    assert_eq!(ended.code, ExitCode::from(FAILURE));
    assert!(ended.err.contains("port 443 is taken"), "{}", ended.err);
}

#[test]
fn a_wrong_command_line_is_code_2_and_help_is_code_0() {
    let service = Scripted::default();
    assert_eq!(drimbox(&service, &["serv"]).code, ExitCode::from(USAGE));
    assert_eq!(
        drimbox(&service, &["check", "pacs"]).code,
        ExitCode::from(USAGE)
    );
    let help = drimbox(&service, &["--help"]);
    assert_eq!(help.code, ExitCode::SUCCESS);
    assert!(help.out.contains("Codes de sortie"), "{}", help.out);
}

#[test]
fn version_completions_and_manual_are_printed() {
    let service = Scripted::default();
    let version = drimbox(&service, &["version"]);
    assert_eq!(
        version.out,
        format!("drimbox {}\n", env!("CARGO_PKG_VERSION"))
    );
    let completions = drimbox(&service, &["completions", "bash"]);
    assert!(
        completions.out.contains("complete -F _drimbox"),
        "{}",
        completions.out
    );
    let manual = drimbox(&service, &["manpage"]);
    assert!(!manual.out.contains("codec-worker"), "{}", manual.out);
    for part in [
        ".TH drimbox 1",
        "drimbox check pacs",
        "DRIMBOX_CONFIG",
        "Codes de sortie",
    ] {
        assert!(manual.out.contains(part), "{part}: {}", manual.out);
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Arguments::command().debug_assert();
}

mod certificates {
    use super::*;
    use crate::certs::place::{Place, Role};
    use crate::cli::check;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    /// One certificate for db.centre.fr of year 2030, checked at the given date.
    fn verdict(host: Option<&str>, at: (i32, u8, u8), own_key: bool) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["db.centre.fr".to_owned(), "*.images.fr".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2030, 1, 1);
        params.not_after = date_time_ymd(2030, 12, 31);
        let certificate = params.self_signed(&key).unwrap();
        let other = KeyPair::generate().unwrap();
        let key = if own_key { key } else { other };
        let identity = crate::config::ServerIdentity {
            certificate_file: folder.path().join("cert.pem"),
            key_file: folder.path().join("key.pem"),
        };
        std::fs::write(&identity.certificate_file, certificate.pem()).unwrap();
        std::fs::write(&identity.key_file, key.serialize_pem()).unwrap();
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&identity.key_file, closed).unwrap();
        let place = Place {
            id: "local".into(),
            role: Role::Local,
            user: "[local]".into(),
            host: host.map(str::to_owned),
            holder: crate::certs::place::Holder::default(),
            identity,
            kept: crate::certs::place::Kept::Files,
        };
        check::certificate(place, date_time_ymd(at.0, at.1, at.2))
    }

    #[test]
    fn a_certificate_is_ok_for_its_names_within_its_dates() {
        for host in [None, Some("db.centre.fr"), Some("a.images.fr")] {
            let verdict = verdict(host, (2030, 6, 1), true);
            assert_eq!(verdict.outcome, Outcome::Ok, "{verdict:?}");
        }
    }

    #[test]
    fn another_name_is_refused() {
        for host in ["vi.centre.fr", "images.fr", "a.b.images.fr"] {
            let verdict = verdict(Some(host), (2030, 6, 1), true);
            assert_eq!(verdict.outcome, Outcome::Failed, "{verdict:?}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let verdict = verdict(None, (2030, 6, 1), false);
        assert!(
            verdict.detail.contains("ne vont pas ensemble"),
            "{verdict:?}"
        );
    }

    #[test]
    fn dates_decide_between_ok_warning_and_failure() {
        let outcome = |at| verdict(None, at, true).outcome;
        assert_eq!(outcome((2029, 12, 1)), Outcome::Failed);
        assert_eq!(outcome((2030, 10, 1)), Outcome::Ok);
        assert_eq!(outcome((2030, 12, 10)), Outcome::Warning);
        assert_eq!(outcome((2030, 12, 25)), Outcome::Failed);
        assert_eq!(outcome((2031, 1, 1)), Outcome::Failed);
    }
}

#[test]
fn a_fetch_says_what_came_and_fails_with_what_to_do() {
    let (folder, path) = configured();
    let kos = folder.path().join("kos.dcm").display().to_string();
    let asked = ["fetch", "--kos", &kos, "--out", "images", "--config", &path];
    let service = Scripted::default();
    let ended = drimbox(&service, &asked);
    assert_eq!(ended.code, ExitCode::SUCCESS, "{}", ended.err);
    assert_eq!(*service.asked.borrow(), [format!("fetch {kos}")]);
    assert!(ended.out.contains("3 images"), "{}", ended.out);
    assert!(ended.out.contains("1 déjà là"), "{}", ended.out);
    assert!(
        !ended.err.contains('\r'),
        "a progress bar outside a terminal"
    );

    let broken = Scripted {
        broken: true,
        ..Scripted::default()
    };
    let ended = drimbox(&broken, &asked);
    assert_eq!(ended.code, ExitCode::from(2));
    assert!(ended.err.contains("[consumer] manque"), "{}", ended.err);
}

#[test]
fn an_exam_is_registered_with_what_the_options_say() {
    let (_folder, path) = configured();
    let service = Scripted::default();
    let ended = drimbox(
        &service,
        &[
            "exams",
            "add",
            "--kos",
            "kos.dcm",
            "--pacs",
            "scanner",
            "--opposed",
            "--masque-ps=false",
            "--config",
            &path,
        ],
    );
    assert_eq!(ended.code, ExitCode::SUCCESS, "{}", ended.err);
    assert_eq!(ended.out, "fait\n");
    let asked = service.asked.borrow().join("");
    let expected = ExamsCommand::Add(NewExam {
        kos: "kos.dcm".into(),
        pacs: "scanner".into(),
        cda_id: None,
        invisible_patient: None,
        masked_to_professionals: Some(false),
        opposed: Some(true),
    });
    assert_eq!(asked, format!("{expected:?}"));
}

#[test]
fn a_service_that_does_not_run_ends_the_command_with_code_1() {
    let (_folder, path) = configured();
    let service = Scripted {
        broken: true,
        ..Scripted::default()
    };
    let ended = drimbox(&service, &["exams", "list", "--config", &path]);
    assert_eq!(ended.code, ExitCode::from(1));
    assert!(ended.err.contains("does not run"), "{}", ended.err);
}

#[test]
fn an_account_is_closed_only_by_somebody_who_says_so_twice() {
    let (_folder, path) = configured();
    let service = Scripted::default();
    let ended = drimbox(&service, &["acme", "deactivate", "--config", &path]);
    assert_eq!(ended.code, ExitCode::from(USAGE));
    assert!(ended.err.contains("--yes"), "{}", ended.err);
    assert!(service.asked.borrow().is_empty());

    let yes = ["acme", "deactivate", "--yes", "--config", &path];
    assert_eq!(drimbox(&service, &yes).code, ExitCode::SUCCESS);
    let expected = format!("{:?}", AcmeCommand::Deactivate(None));
    assert_eq!(*service.asked.borrow(), [expected]);
}
