//! Who a gateway of the stories believes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use drimbox::config::{OcspUse, PeerKeyUsage, Source, Trust, TrustEnvironment, WhiteListSettings};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// How a gateway of this environment believes these authorities, with a folder of its own below `folder`.
pub fn settings(
    folder: &Path,
    environment: TrustEnvironment,
    authority_files: Vec<PathBuf>,
) -> Trust {
    let prefix = match environment {
        TrustEnvironment::Test => "TEST ",
        TrustEnvironment::Production => "",
    };
    Trust {
        folder: folder.join("trust"),
        environment,
        authority_files,
        issuing_authorities: vec![format!("{prefix}AC IGC-SANTE ELEMENTAIRE ORGANISATIONS")],
        key_usage: PeerKeyUsage::Either,
        crl_sources: Vec::<Source>::new(),
        crl_refresh: Duration::from_secs(4 * HOUR),
        revocation_hosts: vec!["127.0.0.1".to_owned()],
        ocsp: OcspUse::Off,
        http_proxy: None,
        max_bypass: Duration::from_secs(3 * DAY),
        white_list: WhiteListSettings {
            sources: Vec::new(),
            ca_file: folder.join("ca.pem"),
            signer_name: "Liste Blanche DRIM-M".to_owned(),
            signer_unit: "318751275100020".to_owned(),
            max_age: Duration::from_secs(7 * DAY),
            alarm_after: Duration::from_secs(2 * DAY),
            signed_alarm_after: Some(Duration::from_secs(90 * DAY)),
            max_loss_percent: 50,
        },
    }
}
