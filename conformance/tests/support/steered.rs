//! A PACS that a story steers, reached by DIMSE or by DICOMweb: the same stories are told over both.

use std::net::SocketAddr;
use std::path::PathBuf;

use conformance::testkit::pacs::Asked;
use conformance::testkit::{FaultyPacs, FaultyWeb, Gateway, Orthanc, PacsConfig, WebFault};

use super::pair::is_web;
use super::{folder, metric, until};

/// The PACS.
pub enum Steered {
    /// By DIMSE.
    Dimse(FaultyPacs),
    /// By DICOMweb, in front of an Orthanc.
    Web(FaultyWeb, Box<Orthanc>),
}

impl Steered {
    /// Starts one with these files, by the upstream that the stories are told over.
    pub async fn start(name: &str, files: &[PathBuf], here: &[(&str, SocketAddr)]) -> Self {
        if !is_web() {
            return Self::Dimse(FaultyPacs::start("SIM", files, here).await.unwrap());
        }
        let folder = folder(&format!("{name}-orthanc"));
        let orthanc = Orthanc::builder(&folder).start().await.unwrap();
        orthanc.upload(files.to_vec()).await.unwrap();
        let front = FaultyWeb::start(&orthanc.dicomweb_url()).await.unwrap();
        Self::Web(front, Box::new(orthanc))
    }

    /// What the gateway needs to know of it.
    pub fn entry(&self) -> PacsConfig {
        match self {
            Self::Dimse(pacs) => PacsConfig::new("sim", "SIM", pacs.port()),
            Self::Web(front, _) => PacsConfig::dicomweb("sim", &front.url()),
        }
    }

    /// The simulator of DIMSE; stories about DIMSE itself are not told over DICOMweb.
    pub fn dimse(&self) -> &FaultyPacs {
        match self {
            Self::Dimse(pacs) => pacs,
            Self::Web(..) => panic!("a story about DIMSE"),
        }
    }

    /// Does not bring the n-th image of a retrieval to its end, counted from 1, until it recovers.
    pub fn hold_before(&self, number: usize) {
        match self {
            Self::Dimse(pacs) => pacs.behave(|b| b.hold_before = Some(number)),
            Self::Web(front, _) => {
                // A part is whole once the delimiter behind it has come.
                let hold = WebFault::HoldsBefore(number);
                front.behave(|b| b.retrieve = Some(hold));
            }
        }
    }

    /// Waits until so many images were sent, the gateway has them, and the next is held.
    pub async fn until_held(&self, sent: usize, gateway: &Gateway) {
        let received = "drimbox_upstream_instances_received_total";
        until("the image that is held", async || match self {
            // What was answered has arrived.
            Self::Dimse(pacs) => pacs.count(|asked| *asked == Asked::Stored(0)) == sent,
            Self::Web(front, _) => {
                front.holding() > 0 && metric(gateway, received, &[]).await >= sent as u64
            }
        })
        .await;
    }

    /// Behaves well from now on.
    pub fn recover(&self) {
        match self {
            Self::Dimse(pacs) => pacs.recover(),
            Self::Web(front, _) => front.recover(),
        }
    }

    /// Forgets what it was asked.
    pub fn forget(&self) {
        match self {
            Self::Dimse(pacs) => pacs.forget(),
            Self::Web(front, _) => front.forget(),
        }
    }

    /// Retrievals so far.
    pub fn retrievals(&self) -> usize {
        match self {
            Self::Dimse(pacs) => {
                pacs.count(|asked| matches!(asked, Asked::Get(_) | Asked::Move { .. }))
            }
            Self::Web(front, _) => front.requests().iter().filter(is_retrieval).count(),
        }
    }

    /// Retrievals of one instance alone so far.
    pub fn single_retrievals(&self) -> usize {
        match self {
            Self::Dimse(pacs) => pacs.count(|asked| match asked {
                Asked::Get(identifier) | Asked::Move { identifier, .. } => {
                    identifier.level == "IMAGE"
                }
                _ => false,
            }),
            Self::Web(front, _) => {
                let all = front.requests();
                let single = all.iter().filter(is_retrieval);
                single
                    .filter(|one| one.target.contains("/instances/"))
                    .count()
            }
        }
    }

    /// Retrievals that the gateway broke off so far: C-CANCEL, or a connection that it closed.
    pub fn cancelled(&self) -> usize {
        match self {
            Self::Dimse(pacs) => pacs.count(|asked| *asked == Asked::Cancel),
            Self::Web(front, _) => front.left(),
        }
    }
}

/// Searches have a query, or are of a set.
fn is_retrieval(request: &&conformance::testkit::web::WebRequest) -> bool {
    let path = request.target.split('?').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    path.contains("/studies/") && !matches!(last, "series" | "instances" | "studies")
}
