//! A gateway and the PACS behind it, for stories about single instances.

use std::path::PathBuf;

use conformance::samples::{Instance, Series};
use conformance::testkit::{Client, Gateway, GatewayConfig, Orthanc, PacsConfig, Response};

use super::{exams, folder, series_path};

/// A gateway in front of an Orthanc that holds some files.
pub struct Pair {
    /// The gateway.
    pub gateway: Gateway,
    /// A client of its local listener.
    pub client: Client,
    _orthanc: Orthanc,
}

impl Pair {
    /// Starts both; `name` is that of their folders.
    pub async fn over(name: &str, files: Vec<PathBuf>) -> Self {
        let orthanc = Orthanc::builder(&folder(&format!("{name}-orthanc")))
            .start()
            .await
            .unwrap();
        orthanc.upload(files).await.unwrap();
        let config = GatewayConfig::new(&folder(name)).unwrap();
        Self {
            gateway: Gateway::start(config.pacs(entry(&orthanc))).await.unwrap(),
            client: Client::plain().unwrap(),
            _orthanc: orthanc,
        }
    }

    /// Asks for something below an instance.
    pub async fn get(&self, instance: &Instance, below: &str, accept: &str) -> Response {
        let url = self.gateway.local_url() + &path_of(instance) + below;
        self.client.get(&url).accept(accept).send().await.unwrap()
    }
}

/// The variable that chooses how the gateway reaches an Orthanc: `dicomweb`, or else DIMSE.
pub const UPSTREAM: &str = "DRIMBOX_TEST_UPSTREAM";

/// Whether the PACS of the stories is reached by DICOMweb.
pub fn is_web() -> bool {
    std::env::var(UPSTREAM).is_ok_and(|upstream| upstream == "dicomweb")
}

/// An Orthanc as the PACS `pacs` of a gateway.
pub fn entry(orthanc: &Orthanc) -> PacsConfig {
    if is_web() {
        PacsConfig::dicomweb("pacs", &orthanc.dicomweb_url()).set("quirks.decodes_queries", false)
    } else {
        PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port())
    }
}

/// The path of an instance below the root of the service.
pub fn path_of(instance: &Instance) -> String {
    for exam in &exams().exams {
        let holds = |series: &&Series| {
            let mut all = series.instances.iter();
            all.any(|one| one.sop_instance_uid == instance.sop_instance_uid)
        };
        if let Some(series) = exam.series.iter().find(holds) {
            return format!(
                "{}/instances/{}",
                series_path(exam, series),
                instance.sop_instance_uid
            );
        }
    }
    panic!("{} belongs to no series", instance.file)
}
