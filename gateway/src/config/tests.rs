#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const PACS: &str = r#"
[[pacs]]
name = "scanner"
[pacs.dimse]
host = "10.1.4.20"
ae_title = "PACS1"
"#;

/// A folder with the files that the examples name, as an administrator would lay them out.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let pem = |label| format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
        for name in ["ca.pem", "cert.pem"] {
            folder.write(name, &pem("CERTIFICATE"), 0o644);
        }
        folder.write("key.pem", &pem("PRIVATE KEY"), 0o600);
        folder.write("tokens", "viewer 0123456789abcdef\n", 0o600);
        folder
    }

    fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self, text: &str) -> Result<Config, ConfigError> {
        self.write("drimbox.toml", text, 0o644);
        load(&self.0.path().join("drimbox.toml"))
    }

    fn problems(&self, text: &str) -> Vec<Problem> {
        match self.load(text) {
            Err(ConfigError::Invalid { problems, .. }) => {
                assert!(!problems.is_empty());
                problems
            }
            other => panic!("{other:?}"),
        }
    }

    /// The one problem of a text that has exactly one.
    fn problem(&self, text: &str) -> Problem {
        let mut problems = self.problems(text);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.remove(0)
    }
}

fn problem(text: &str) -> Problem {
    Folder::new().problem(text)
}

#[test]
fn a_pacs_and_an_empty_local_section_are_enough() {
    let config = Folder::new().load(&format!("[local]\n{PACS}")).unwrap();
    let local = config.local.unwrap();
    assert_eq!(local.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(local.base_path, "/dicom-web");
    assert_eq!(local.default_pacs, "scanner");
    assert_eq!(local.resources, [Resource::Wado, Resource::Qido].into());
    assert!(config.peer.is_none());
    assert_eq!(config.cache.dir, Path::new("/var/lib/drimbox/cache"));
    assert_eq!(config.pacs[0].dimse().unwrap().port, 104);
    assert_eq!(
        config.pacs[0].dimse().unwrap().calling_ae_title.as_str(),
        "DRIMBOX"
    );
    assert_eq!(
        config.pacs[0].dimse().unwrap().retrieve,
        RetrieveMethod::Get
    );
}

#[test]
fn a_peer_offers_wado_alone_unless_told_otherwise() {
    let peer = "[peer]\ngate = \"none\"\nclient_ca_file = \"ca.pem\"\n";
    let served = PACS.replace(
        "name = \"scanner\"",
        "name = \"scanner\"\ndb_host = \"DB.centre.fr\"\n\
         db_tls = { certificate_file = \"cert.pem\", key_file = \"key.pem\" }",
    );
    let config = Folder::new().load(&format!("{peer}{served}")).unwrap();
    assert_eq!(config.peer.unwrap().resources, [Resource::Wado].into());
    assert_eq!(config.pacs[0].db_host.as_deref(), Some("db.centre.fr"));
}

#[test]
fn relative_paths_start_from_the_folder_of_the_file() {
    let folder = Folder::new();
    let text = format!("data_dir = \"state\"\n[local]\ntokens_file = \"tokens\"\n{PACS}");
    let config = folder.load(&text).unwrap();
    assert_eq!(config.data_dir, folder.0.path().join("state"));
    assert_eq!(config.cache.dir, folder.0.path().join("state/cache"));
    let tokens = config.local.unwrap().tokens_file.unwrap();
    assert_eq!(tokens, folder.0.path().join("tokens"));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    let problem = problem(&format!("[local]\nlisten_ = \"127.0.0.1:1\"\n{PACS}"));
    assert_eq!(problem.line, Some(2));
    assert_eq!(problem.key, "local.listen_");
    assert!(problem.remedy.contains("« listen »"), "{problem}");
}

#[test]
fn an_unknown_section_is_refused_with_the_nearest_known_one() {
    let problem = problem(&format!("[local]\n[limit]\nmax_requests = 3\n{PACS}"));
    assert_eq!(problem.key, "limit");
    assert!(problem.remedy.contains("« limits »"), "{problem}");
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
    let problem = problem(&format!("[local]\nserve_when_unreachable = true\n{PACS}"));
    assert!(problem.remedy.contains("[cache]"), "{problem}");
}

#[test]
fn a_misspelt_key_in_the_wrong_section_is_sent_to_the_right_one() {
    let pacs = PACS.replace("[pacs.dimse]", "retreive = \"move\"\n[pacs.dimse]");
    let problem = problem(&format!("[local]\n{pacs}"));
    assert!(problem.remedy.contains("« retrieve »"), "{problem}");
    assert!(problem.remedy.contains("[pacs.dimse]"), "{problem}");
}

#[test]
fn a_wrong_pacs_hides_no_mistake_of_the_local_listener() {
    let pacs = PACS.replace("\"scanner\"", "\"Scanner\"");
    let problems = Folder::new().problems(&format!("[local]\nlisten = \"0.0.0.0:80\"\n{pacs}"));
    let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["local.listen", "local.listen", "pacs[Scanner].name"]);
}

#[test]
fn every_mistake_is_reported_at_once_in_the_order_of_the_file() {
    let text = "[local]\nlisten = 8080\nbase_path = \"dicom-web/\"\n\
                [cache]\nmax_bytes = \"50 Go\"\nmystery = 1\n\
                [[pacs]]\nname = \"Scanner Nord\"\n[pacs.dimse]\nport = 70000\nae_title = \"P\"\n";
    let problems = Folder::new().problems(text);
    let places: Vec<_> = problems.iter().map(|p| (p.line, p.key.as_str())).collect();
    assert_eq!(
        places,
        [
            (Some(2), "local.listen"),
            (Some(3), "local.base_path"),
            (Some(5), "cache.max_bytes"),
            (Some(6), "cache.mystery"),
            (Some(8), "pacs[Scanner Nord].name"),
            (Some(9), "pacs[Scanner Nord].dimse.host"),
            (Some(10), "pacs[Scanner Nord].dimse.port"),
        ]
    );
    assert!(problems.iter().all(|p| !p.remedy.is_empty()));
}

#[test]
fn an_error_names_the_file_the_line_the_key_the_value_and_the_remedy() {
    let folder = Folder::new();
    let wrong = PACS.replace("host", "port = 0\nhost");
    let error = folder.load(&format!("[local]\n{wrong}")).unwrap_err();
    let expected = "drimbox.toml : 1 erreur.\n\
                    ligne 6, pacs[scanner].dimse.port = 0 : cette valeur est hors limites.\n  \
                    Remède : écrire une valeur entre 1 et 65535.";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[test]
fn a_local_listener_seen_from_the_network_needs_tls_and_tokens() {
    let problems = Folder::new().problems(&format!("[local]\nlisten = \"0.0.0.0:8080\"\n{PACS}"));
    let text: Vec<_> = problems.iter().map(|p| p.what.as_str()).collect();
    assert_eq!(text.len(), 2);
    assert!(text[0].contains("[local.tls]") && text[1].contains("tokens_file"));

    let complete = "[local]\nlisten = \"0.0.0.0:8080\"\ntokens_file = \"tokens\"\n\
                    tls = { certificate_file = \"cert.pem\", key_file = \"key.pem\" }\n";
    Folder::new().load(&format!("{complete}{PACS}")).unwrap();
}

#[test]
fn a_peer_listener_needs_a_name_a_certificate_and_what_its_gate_stands_on() {
    let keys = |text: &str| {
        let problems = Folder::new().problems(&format!("{text}{PACS}"));
        let keys = problems.into_iter().map(|problem| problem.key);
        keys.collect::<Vec<_>>()
    };
    let of_pacs = ["pacs[scanner].db_host", "pacs[scanner].db_tls"];
    // Once for [trust], once for [psc].
    assert_eq!(
        keys("[peer]\n"),
        [&["peer.gate", "peer.gate"][..], &of_pacs].concat()
    );
    assert_eq!(
        keys("[peer]\ngate = \"none\"\n"),
        [&["peer.client_ca_file"][..], &of_pacs].concat()
    );
    assert_eq!(
        keys("[peer]\ngate = \"none\"\nclient_ca_file = \"ca.pem\"\n"),
        of_pacs
    );
}

#[test]
fn a_certificate_of_the_viewer_needs_its_name() {
    let pacs = PACS.replace(
        "name = \"scanner\"",
        "name = \"scanner\"\nvi_tls = { certificate_file = \"cert.pem\", key_file = \"key.pem\" }",
    );
    assert_eq!(
        problem(&format!("[local]\n{pacs}")).key,
        "pacs[scanner].vi_tls"
    );
}

#[test]
fn a_secret_file_open_to_the_group_is_refused() {
    let folder = Folder::new();
    let text = format!("[local]\ntokens_file = \"tokens\"\n{PACS}");
    folder.write("tokens", "viewer 0123456789abcdef\n", 0o640);
    let problem = folder.problem(&text);
    assert!(problem.what.contains("640"), "{problem}");
    assert!(problem.remedy.contains("chmod 600"), "{problem}");
    folder.write("tokens", "viewer 0123456789abcdef\n", 0o600);
    folder.load(&text).unwrap();
}

#[test]
fn a_missing_or_wrong_certificate_is_refused() {
    let folder = Folder::new();
    let tls = |certificate: &str, key: &str| {
        format!("[local.tls]\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n{PACS}")
    };
    folder.load(&tls("cert.pem", "key.pem")).unwrap();
    let absent = folder.problem(&tls("nowhere.pem", "key.pem"));
    assert!(absent.remedy.contains("nowhere.pem"), "{absent}");
    let swapped = folder.problem(&tls("key.pem", "key.pem"));
    assert!(swapped.what.contains("aucun certificat"), "{swapped}");
    let folder_given = folder.problem(&tls(".", "key.pem"));
    assert!(
        folder_given.what.contains("fichier ordinaire"),
        "{folder_given}"
    );
}

#[test]
fn two_pacs_share_neither_name_nor_host() {
    let pacs = PACS.replace("[pacs.dimse]", "db_host = \"db.centre.fr\"\n[pacs.dimse]");
    let problems = Folder::new().problems(&format!("[local]\n{pacs}{pacs}"));
    let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["pacs[scanner].name", "pacs[scanner].db_host"]);
    assert!(problems.iter().all(|p| p.line > Some(9)), "{problems:?}");
}

#[test]
fn retrieval_by_move_needs_the_gateways_own_listener() {
    let pacs = format!("{PACS}retrieve = \"move\"\n");
    let refused = problem(&format!("[local]\n{pacs}"));
    assert_eq!(refused.key, "pacs[scanner].dimse.retrieve");
    let open = format!("[local]\n[dimse]\nlisten = \"0.0.0.0:11112\"\n{pacs}");
    Folder::new().load(&open).unwrap();
}

#[test]
fn two_listeners_do_not_share_a_port() {
    let text = format!("[admin]\nlisten = \"127.0.0.1:8080\"\n[local]\n{PACS}");
    assert!(problem(&text).what.contains("8080"));
}

#[test]
fn the_default_pacs_is_one_of_the_file() {
    let text = format!("[local]\ndefault_pacs = \"irm\"\n{PACS}");
    assert!(problem(&text).remedy.contains("scanner"));
}

#[test]
fn a_file_without_pacs_or_listener_says_what_to_add() {
    let keys: Vec<_> = Folder::new()
        .problems("")
        .into_iter()
        .map(|p| p.key)
        .collect();
    assert_eq!(keys, ["pacs", "local"]);
}

#[test]
fn broken_toml_is_reported_with_its_line() {
    let problem = problem("[local]\nlisten = 127.0.0.1:8080\n");
    assert_eq!(problem.line, Some(2));
}

#[test]
fn an_absent_file_is_reported_with_its_path() {
    let error = load(Path::new("/nonexistent/drimbox.toml")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent/drimbox.toml : ")
    );
}

#[test]
fn an_oversized_file_is_refused() {
    let text = "#".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
    let error = Folder::new().load(&text).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
}

#[test]
fn a_section_of_the_wrong_type_is_reported_once() {
    assert_eq!(problem(&format!("local = true\n{PACS}")).key, "local");
    let problem = problem(&format!("[local]\ntls = \"cert.pem\"\n{PACS}"));
    assert_eq!(problem.key, "local.tls");
}

#[test]
fn a_charset_is_a_defined_term() {
    let with = |charset: &str| format!("[local]\n{PACS}[pacs.quirks]\ncharset = '{charset}'\n");
    for term in ["ISO_IR 100", "ISO_IR 192", r"\ISO 2022 IR 87", "GB18030"] {
        Folder::new().load(&with(term)).unwrap();
    }
    for term in ["latin1", "ISO_IR 100\\ISO_IR 192", "UTF-8"] {
        Folder::new().problem(&with(term));
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "[\\[\\]a-z_.=\" \n0-9é]{0,200}") {
        let _ = parse(&text, Path::new("/nonexistent"));
    }
}

/// A PACS reached by DICOMweb, with these lines.
fn web(lines: &str) -> String {
    format!("[local]\n[[pacs]]\nname = \"web\"\n[pacs.dicomweb]\n{lines}\n")
}

#[test]
fn a_pacs_is_reached_by_dicomweb_where_its_url_says() {
    let text =
        web("url = \"https://PACS.centre.fr:8443/orthanc/dicom-web/\"\nca_file = \"ca.pem\"");
    let config = Folder::new().load(&text).unwrap();
    let Upstream::Dicomweb(web) = &config.pacs[0].upstream else {
        panic!("{:?}", config.pacs[0].upstream)
    };
    assert_eq!(web.root, "https://pacs.centre.fr:8443/orthanc/dicom-web");
    assert_eq!((web.host.as_str(), web.port), ("pacs.centre.fr", 8443));
    assert_eq!(web.tls.as_ref().unwrap().server_name, "pacs.centre.fr");
    assert_eq!(web.authentication, Authentication::None);
    assert!(config.pacs[0].dimse().is_none());
}

#[test]
fn a_pacs_is_described_by_exactly_one_way_to_reach_it() {
    let both = format!("[local]\n{PACS}[pacs.dicomweb]\nurl = \"http://127.0.0.1/\"\n");
    let refused = problem(&both);
    assert_eq!(refused.key, "pacs[scanner].dicomweb");
    assert!(refused.what.contains("deux fois"), "{refused}");
    let none = problem("[local]\n[[pacs]]\nname = \"scanner\"\n");
    assert_eq!(none.key, "pacs[scanner].dimse");
    assert!(none.remedy.contains("[pacs.dicomweb]"), "{none}");
}

#[test]
fn clear_text_on_a_network_must_be_wanted() {
    let clear = "url = \"http://10.1.4.20:8042/dicom-web\"";
    let refused = problem(&web(clear));
    assert_eq!(refused.key, "pacs[web].dicomweb.url");
    assert!(refused.remedy.contains("allow_clear"), "{refused}");
    Folder::new()
        .load(&web(&format!("{clear}\nallow_clear = true")))
        .unwrap();
    for local in ["127.0.0.1:8042", "[::1]", "localhost"] {
        let text = web(&format!("url = \"http://{local}/dicom-web\""));
        Folder::new().load(&text).unwrap();
    }
}

#[test]
fn the_white_list_comes_in_clear_only_where_it_is_wanted() {
    let list = |source: &str| {
        format!(
            "[local]\n{PACS}[trust]\nauthority_files = [\"ca.pem\"]\n\
             [trust.white_list]\nsources = [\"{source}\"]\n"
        )
    };
    let clear = list("http://liste.exemple.fr/liste.xml");
    let refused = problem(&clear);
    assert_eq!(refused.key, "trust.white_list.sources");
    assert!(refused.remedy.contains("allow_clear"), "{refused}");
    for text in [
        format!("{clear}allow_clear = true"),
        list("https://liste.exemple.fr/liste.xml"),
        list("http://127.0.0.1:8000/liste.xml"),
        list("http://[::1]/liste.xml"),
        list("/srv/liste.xml"),
    ] {
        let config = Folder::new().load(&text).unwrap();
        assert_eq!(config.trust.unwrap().white_list.sources.len(), 1);
    }
}

#[test]
fn what_a_dicomweb_upstream_lacks_or_has_too_much_of_is_said() {
    let https = "url = \"https://pacs.centre.fr/rs\"\nca_file = \"ca.pem\"";
    let http = "url = \"http://localhost/rs\"";
    for (lines, key) in [
        (String::new(), "url"),
        ("url = \"https://pacs.centre.fr/rs\"".to_owned(), "ca_file"),
        ("url = \"ftp://pacs/\"".to_owned(), "url"),
        (
            "url = \"https://u:p@pacs/\"\nca_file = \"ca.pem\"".to_owned(),
            "url",
        ),
        (
            "url = \"https://pacs/?a=b\"\nca_file = \"ca.pem\"".to_owned(),
            "url",
        ),
        (format!("{http}\nca_file = \"ca.pem\""), "ca_file"),
        (format!("{https}\nusername = \"a\""), "password_file"),
        (format!("{https}\npassword_file = \"tokens\""), "username"),
        (
            format!("{https}\nusername = \"a:b\"\npassword_file = \"tokens\""),
            "username",
        ),
        (
            format!("{https}\npassword_file = \"ca.pem\"\nusername = \"a\""),
            "password_file",
        ),
        (
            format!(
                "{https}\nusername = \"a\"\npassword_file = \"tokens\"\ntoken_file = \"tokens\""
            ),
            "token_file",
        ),
        (format!("{https}\nae_title = \"PACS\""), "ae_title"),
    ] {
        let refused = problem(&web(&lines));
        assert_eq!(refused.key, format!("pacs[web].dicomweb.{key}"), "{lines}");
        assert!(!refused.remedy.is_empty());
    }
    let overrides =
        format!("{https}\n[pacs.quirks]\ncharset = \"ISO_IR 100\"\ncharset_overrides = true");
    assert_eq!(
        problem(&web(&overrides)).key,
        "pacs[web].quirks.charset_overrides"
    );
}

fn psc(lines: &str) -> String {
    format!(
        "[local]\n{PACS}\n[psc]\nclient_id = \"box\"\ncertificate_file = \"cert.pem\"\n\
         key_file = \"key.pem\"\n{lines}"
    )
}

#[test]
fn pro_sante_connect_has_its_own_addresses_and_a_laboratory_gives_them() {
    let folder = Folder::new();
    let read = |lines: &str| folder.load(&psc(lines)).unwrap().psc.unwrap();
    let production = read("environment = \"production\"");
    assert_eq!(production.environment, PscEnvironment::Production);
    assert_eq!(Vec::from_iter(production.professions), ["10", "40", "50"]);
    let laboratory = read(
        "environment = \"custom\"\nissuer = \"https://i.example/r\"\nradiographers = true\n\
         http_proxy = \"http://proxy.example:3128\"",
    );
    let PscEnvironment::Custom { issuer, .. } = laboratory.environment else {
        panic!("{:?}", laboratory.environment);
    };
    assert_eq!(issuer, "https://i.example/r");
    assert!(laboratory.professions.contains("98"));
    let own = read("environment = \"production\"\nprofessions = [\"10\", \"60\"]");
    assert_eq!(Vec::from_iter(own.professions), ["10", "60"]);
}

#[test]
fn what_the_psc_section_lacks_or_has_too_much_of_is_said() {
    let folder = Folder::new();
    let keys = |text: &str| -> Vec<String> {
        let problems = folder.problems(text);
        problems.into_iter().map(|problem| problem.key).collect()
    };
    let required = ["environment", "client_id", "certificate_file", "key_file"];
    let text = format!("[local]\n{PACS}\n[psc]\n");
    assert_eq!(keys(&text), required.map(|key| format!("psc.{key}")));
    assert_eq!(keys(&psc("environment = \"custom\"")), ["psc.issuer"]);
    assert_eq!(
        keys(&psc(
            "environment = \"bas\"\nissuer = \"https://i.example\"\nhttp_proxy = \"https://p:1\"\n\
             refuse_other_clients = true"
        )),
        ["psc.issuer", "psc.http_proxy", "psc.refuse_other_clients"]
    );
}

/// A consumer with a certificate of its own.
const CONSUMER: &str = "[local]\n[consumer]\n\
    identity = { certificate_file = \"cert.pem\", key_file = \"key.pem\" }\n";
/// One DRIMbox that is known without the white list.
const KNOWN_PEER: &str = "ca_file = \"ca.pem\"\n[[consumer.peers]]\n\
    db_host = \"DB.autre.example\"\naddress = \"192.0.2.10:443\"\n";

#[test]
fn a_consumer_asks_port_443_of_public_addresses_unless_told_otherwise() {
    let text = format!("{CONSUMER}{KNOWN_PEER}{PACS}");
    let consumer = Folder::new().load(&text).unwrap().consumer.unwrap();
    assert_eq!(consumer.ports, [443]);
    assert!(consumer.private_networks.is_empty());
    assert_eq!(consumer.peers[0].db_host, "db.autre.example");

    let text = format!(
        "{CONSUMER}private_networks = [\"10.20.0.0/16\", \"192.168.1.7\"]\n{KNOWN_PEER}{PACS}"
    );
    let consumer = Folder::new().load(&text).unwrap().consumer.unwrap();
    let networks: Vec<String> = consumer
        .private_networks
        .iter()
        .map(|n| n.to_string())
        .collect();
    assert_eq!(networks, ["10.20.0.0/16", "192.168.1.7/32"]);
}

#[test]
fn a_consumer_needs_somebody_to_ask_and_a_certificate_to_show() {
    assert_eq!(problem(&format!("{CONSUMER}{PACS}")).key, "consumer.peers");
    let without_ca = KNOWN_PEER.replace("ca_file = \"ca.pem\"\n", "");
    let text = format!("{CONSUMER}{without_ca}{PACS}");
    assert_eq!(problem(&text).key, "consumer.ca_file");
    let text = format!("[local]\n[consumer]\n{KNOWN_PEER}{PACS}");
    assert_eq!(problem(&text).key, "consumer.identity");
    let text = format!("{CONSUMER}private_networks = [\"10.0.0.0/99\"]\n{KNOWN_PEER}{PACS}");
    assert_eq!(problem(&text).key, "consumer.private_networks");
}

#[test]
fn certificates_of_the_dmp_may_be_to_come_but_not_their_structure() {
    let structure = |name: &str, unit: &str| {
        format!(
            "[[dmp.structures]]\nname = \"{name}\"\nstructure = \"{unit}\"\n\
             sign = {{ certificate_file = \"later.pem\", key_file = \"later.key\" }}\n"
        )
    };
    let good = structure("centre", "318751275100020");
    let config = Folder::new().load(&format!("[local]\n{good}{PACS}"));
    let config = config.unwrap();
    assert_eq!(config.dmp[0].structure, "318751275100020");
    assert!(config.dmp[0].auth.is_none() && config.dmp[0].sign.is_some());
    let twice = problem(&format!("[local]\n{good}{good}{PACS}"));
    assert_eq!(twice.key, "dmp.structures[centre].name");
    let wrong = structure("centre", "18751275100020");
    let wrong = problem(&format!("[local]\n{wrong}{PACS}"));
    assert_eq!(wrong.key, "dmp.structures[centre].structure");
    assert!(wrong.remedy.contains("SIRET"), "{wrong}");
}

#[test]
fn a_key_beside_the_one_in_use_is_closed_to_others_too() {
    let folder = Folder::new();
    let pair = "{ certificate_file = \"cert.pem\", key_file = \"key.pem\" }";
    let text = format!("[local]\ntls = {pair}\n{PACS}");
    for suffix in ["nouvelle", "arrivant", "ancien"] {
        let name = format!("key.pem.{suffix}");
        folder.write(&name, "key", 0o640);
        let remedy = folder.problem(&text).remedy;
        assert!(
            remedy.contains("chmod 600") && remedy.contains(&name),
            "{remedy}"
        );
        folder.write(&name, "key", 0o600);
        folder.load(&text).unwrap();
    }
    // Of a certificate that is still asked for it is the only key there.
    let pair = "{ certificate_file = \"sign.pem\", key_file = \"sign.key\" }";
    let structure = "[[dmp.structures]]\nname = \"centre\"\nstructure = \"5750000001\"";
    let text = format!("[local]\n{structure}\nsign = {pair}\n{PACS}");
    folder.load(&text).unwrap();
    folder.write("sign.key.nouvelle", "key", 0o644);
    assert!(folder.problem(&text).remedy.contains("sign.key.nouvelle"));
}

#[test]
fn a_passphrase_of_keys_is_long_and_closed_to_others() {
    let folder = Folder::new();
    let text = format!("[keys]\npassphrase_file = \"phrase\"\n[local]\n{PACS}");
    folder.write("phrase", "une phrase de passe\n", 0o600);
    assert!(folder.load(&text).unwrap().keys.passphrase.is_some());
    folder.write("phrase", "courte\n", 0o600);
    assert!(folder.problem(&text).remedy.contains("openssl rand"));
    folder.write("phrase", "une phrase de passe\n", 0o644);
    assert!(folder.problem(&text).what.contains("chmod 600"));
}
