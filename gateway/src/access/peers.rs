//! The white list as the directory of peers.

use rustls_pki_types::CertificateDer;

use super::gate::{NotAPeer, PeerDirectory, PeerIdentity};
use crate::trust::Trust;

impl PeerDirectory for Trust {
    /// The chain is verified again: revocation may have come after the handshake.
    fn peer(&self, chain: &[CertificateDer<'static>]) -> Result<PeerIdentity, NotAPeer> {
        match Trust::peer(self, chain) {
            Ok(peer) => Ok(PeerIdentity {
                subject: peer.dn.to_string(),
                fingerprint: peer.fingerprint,
                host: Some(peer.db_host),
            }),
            Err(refusal) => Err(NotAPeer {
                label: refusal.label(),
                ours: refusal.is_ours(),
            }),
        }
    }
}
