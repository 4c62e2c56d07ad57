//! The signed white list: good ones of both profiles, and every kind of bad one.

mod content;
mod keeping;
mod signature;
mod signer;

use conformance::testkit::igc::CrlSpec;
use conformance::testkit::whitelist::{Entry, ListSpec, Profile};
use drimbox::trust::Trust;
use drimbox::trust::whitelist::{ListError, Outcome, WhiteListRefusal};

use super::{DAY, START, World, date};

const PROFILES: [Profile; 2] = [Profile::One, Profile::Two];
const HOSTS: [&str; 3] = [
    "db3.test.example.fr",
    "db4.test.example.fr",
    "db154.test.example.fr",
];

fn spec(profile: Profile) -> ListSpec {
    let mut entries: Vec<_> = HOSTS.iter().map(|host| Entry::peer(host)).collect();
    entries[1].vi = "vi4.test.example.fr".to_owned();
    entries[2].dn = entries[2].dn.replace("Paris (75)", "Côte-d'Or (21)");
    ListSpec::new(profile, entries, date(START - DAY))
}

/// A gateway with revocation lists and no white list.
fn ready(world: &World) -> Trust {
    let trust = world.bare();
    world.give_crls(&trust, &CrlSpec::default(), &CrlSpec::default());
    trust
}

fn verified(trust: &Trust, text: &str) -> Result<usize, WhiteListRefusal> {
    trust
        .verify_list(text.as_bytes())
        .map(|list| list.domains().len())
}

fn refusal(trust: &Trust, text: &str) -> WhiteListRefusal {
    verified(trust, text).expect_err("the list must be refused")
}

fn taken(trust: &Trust, text: &str) -> Result<Outcome, &'static str> {
    trust
        .take_list(text.as_bytes(), "test", false)
        .map_err(|error| match error {
            ListError::Refused(refusal) => refusal.label(),
            other => panic!("{other}"),
        })
}

#[test]
fn both_profiles_are_verified() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    for profile in PROFILES {
        let text = spec(profile).sign(&signer).unwrap();
        assert_eq!(verified(&trust, &text), Ok(3), "{profile:?}: {text}");
        let list = trust.verify_list(text.as_bytes()).unwrap();
        let domain = list.domain("db4.test.example.fr").unwrap();
        assert_eq!(domain.vi_host.as_deref(), Some("vi4.test.example.fr"));
        assert_eq!(domain.denomination, "ANS & Cie");
        assert_eq!(list.signing_time, date(START - DAY));
        // Line ends, a byte order mark and comments are not part of what is signed.
        for same in [
            text.replace("\r\n", "\n"),
            text.replace("\r\n", "\r"),
            format!("\u{feff}{text}"),
            text.replace("<ListeDomaines>", "<!-- x --><ListeDomaines>"),
            text.replace("<db>db4", "<db>d<!-- x -->b4"),
        ] {
            assert_eq!(verified(&trust, &same), Ok(3), "{profile:?}");
        }
    }
}

/// One operator may have several domains under one number (list of 2024).
#[test]
fn entries_that_share_a_number_are_told_apart_by_their_names() {
    let world = World::new();
    let trust = ready(&world);
    for profile in PROFILES {
        let mut list = spec(profile);
        list.edit_list = |text| {
            let same = "<Identifiant>0</Identifiant>";
            text.replace("<Identifiant>1</Identifiant>", same)
                .replace("<Identifiant>2</Identifiant>", same)
        };
        let text = list.sign(&world.signer()).unwrap();
        assert_eq!(text.matches("<Identifiant>0</").count(), 3);
        assert_eq!(taken(&trust, &text), Ok(Outcome::Accepted), "{profile:?}");
        for host in [HOSTS[0], HOSTS[1]] {
            let leaf = world.peer(host);
            let peer = trust.peer(&[leaf.certificate.der().clone()]).unwrap();
            assert_eq!(peer.db_host, host, "{profile:?}");
        }
    }
}
