//! The published lists and authorities, when `DRIMBOX_ANS_DATA` names a folder that has them. They
//! are not part of this repository.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use drimbox::config::TrustEnvironment;
use drimbox::trust::whitelist::WhiteListRefusal;
use drimbox::trust::{Clock, Trust};

use super::{DAY, settings};

/// 2026-03-01 00:00:00 UTC.
const MARCH: u64 = 1_772_323_200;
/// 2026-09-13 00:00:00 UTC: between two certificates of the signer.
const GAP: u64 = 1_789_257_600;
/// 2026-10-01 00:00:00 UTC.
const OCTOBER: u64 = 1_790_812_800;

fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("DRIMBOX_ANS_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: DRIMBOX_ANS_DATA names no folder with the published files");
    }
    folder
}

#[test]
fn the_published_lists_verify_at_the_right_dates() {
    let Some(data) = data() else { return };
    let read = |name: &str| std::fs::read(data.join("whitelist").join(name)).unwrap();
    let (one, two) = (
        read("whitelist-signed-profile1.xml"),
        read("whitelist-signed-profile2.xml"),
    );
    let folder = tempfile::tempdir().unwrap();
    let authorities = ["ACR-EL-TEST.cer", "ACI-EL-ORG-TEST.cer"];
    let files = authorities
        .map(|name| data.join("igc-sante-ca").join(name))
        .to_vec();
    let now = Arc::new(AtomicU64::new(MARCH - DAY));
    let clock = Arc::clone(&now);
    let clock = Clock::new(move || {
        SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))
    });
    let mut settings = settings(folder.path(), TrustEnvironment::Test, files);
    // No revocation list of the real authorities is at hand.
    settings.max_bypass = Duration::from_secs(1_000 * DAY);
    let trust = Trust::open(settings, clock).unwrap();
    let said = |list: &[u8]| {
        let verified = trust.verify_list(list).map(|list| list.domains().len());
        verified.map_err(|refusal| refusal.label())
    };
    assert_eq!(said(&one), Err("signer_unknown_status"));
    trust
        .bypass(OCTOBER + DAY, "essai sans liste de révocation")
        .unwrap();
    for (at, first, second) in [
        (MARCH, Ok(10), Err("signer_date")),
        (GAP, Err("signer_date"), Err("signer_date")),
        (OCTOBER, Err("signer_date"), Ok(17)),
    ] {
        now.store(at, Ordering::SeqCst);
        assert_eq!(said(&one), first, "profile 1 at {at}");
        assert_eq!(said(&two), second, "profile 2 at {at}");
        assert_eq!(said(&read("whitelist-unsigned.xml")), Err("unsigned"));
    }
    let list = trust.verify_list(&two).unwrap();
    let domain = list.domain("db3.test.mesimagesmedicales.fr").unwrap();
    assert_eq!(domain.denomination, "ANS");

    // One byte.
    let text = String::from_utf8(two)
        .unwrap()
        .replacen("<db>db3.", "<db>db9.", 1);
    let refusal = trust.verify_list(text.as_bytes()).unwrap_err();
    assert!(
        matches!(refusal, WhiteListRefusal::Signature(_)),
        "{refusal}"
    );
}

#[test]
fn the_published_authorities_hang_together_and_are_not_mixed() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| data.join("igc-sante-ca").join(name);
    let open = |environment, names: [&str; 2]| {
        let files = names.map(file).to_vec();
        Trust::open(settings(folder.path(), environment, files), Clock::system())
    };
    let (test, real) = (
        ["ACR-EL-TEST.cer", "ACI-EL-ORG-TEST.cer"],
        ["ACR-EL.cer", "ACI-EL-ORG.cer"],
    );
    assert_eq!(
        open(TrustEnvironment::Test, test)
            .unwrap()
            .crl_status()
            .len(),
        2
    );
    open(TrustEnvironment::Production, real).unwrap();
    assert!(open(TrustEnvironment::Production, test).is_err());
    assert!(open(TrustEnvironment::Test, real).is_err());
    assert!(
        open(
            TrustEnvironment::Test,
            ["ACR-EL-TEST.cer", "ACI-EL-ORG.cer"]
        )
        .is_err()
    );
}
