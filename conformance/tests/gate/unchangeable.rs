//! Images to which the INS of the KOS cannot be added: none of them leaves without it.

use std::path::{Path, PathBuf};

use conformance::testkit::Client;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use serde_json::{Value as Json, json};

use crate::network::{Asking, INS, Network, SOURCE, STUDY};
use crate::support::{AS_STORED, files, folder, metric, run, until};

type Element = DataElement<dicom_object::InMemDicomObject>;

const OTHER_PATIENT_IDS: Tag = Tag(0x0010, 0x1002);
/// An image whose head is beyond what is changed in memory (16 MiB).
const LARGE: Own = Own("2.25.4100");
/// One whose Other Patient IDs are no sequence.
const ODD: Own = Own("2.25.4200");
/// A series whose last is such a one, behind more of those that are in order than are read at once.
const LAST_IS_ODD: Own = Own("2.25.4300");
/// Its images.
const COUNT: usize = 12;

/// A study of one series.
struct Own(&'static str);

impl Own {
    fn kos(&self) -> String {
        format!("{}.9", self.0)
    }

    fn series(&self) -> String {
        format!("{}.1", self.0)
    }

    fn instance(&self, number: usize) -> String {
        format!("{}.1.{number}", self.0)
    }

    fn path(&self) -> String {
        format!("/studies/{}/series/{}", self.0, self.series())
    }

    /// An image of the sample exam, as one of this study, with one more element.
    fn write(&self, into: &Path, number: usize, element: Option<Element>) -> PathBuf {
        let instance = self.instance(number);
        let mut object = dicom_object::open_file(&files(&[STUDY])[0]).unwrap();
        for (tag, uid) in [
            (tags::STUDY_INSTANCE_UID, self.0.to_owned()),
            (tags::SERIES_INSTANCE_UID, self.series()),
            (tags::SOP_INSTANCE_UID, instance.clone()),
        ] {
            object.put(DataElement::new(tag, VR::UI, uid));
        }
        object.put(DataElement::new(
            tags::INSTANCE_NUMBER,
            VR::IS,
            number.to_string(),
        ));
        if let Some(element) = element {
            object.put(element);
        }
        object.update_meta(|meta| meta.media_storage_sop_instance_uid.clone_from(&instance));
        let file = into.join(format!("{instance}.dcm"));
        object.write_to_file(&file).unwrap();
        file
    }

    fn published(&self, count: usize) -> Json {
        let instances: Vec<String> = (1..=count).map(|number| self.instance(number)).collect();
        json!({
            "pacs": "sim",
            "study": self.0,
            "kos": self.kos(),
            "series": [{ "series": self.series(), "instances": instances }],
            "ins": { "matricule": INS, "authority": "1.2.250.1.213.1.4.10" },
        })
    }

    async fn request(&self, network: &Network) -> Asking {
        let mut asking = network.request().await;
        asking.url = network.gateway.peer_url(SOURCE) + &self.path();
        asking.kos = Some(self.kos());
        asking
    }
}

/// A network whose source has published them all.
async fn network(name: &str) -> Network {
    let home = folder(&format!("{name}-images"));
    let large = PrimitiveValue::from(vec![7_u8; (16 << 20) + 2]);
    let large = DataElement::new(Tag(0x0009, 0x1010), VR::OB, large);
    let odd = DataElement::new(OTHER_PATIENT_IDS, VR::LO, "IPP7");
    let mut more = vec![
        LARGE.write(&home, 1, Some(large)),
        ODD.write(&home, 1, Some(odd.clone())),
    ];
    more.extend((1..COUNT).map(|number| LAST_IS_ODD.write(&home, number, None)));
    more.push(LAST_IS_ODD.write(&home, COUNT, Some(odd)));
    let network = Network::start_with(name, &more).await;
    for (own, count) in [(LARGE, 1), (ODD, 1), (LAST_IS_ODD, COUNT)] {
        network.publish(&own.published(count)).await;
    }
    network
}

/// The record of the end of the last answer.
async fn ended(network: &Network, before: usize) -> Json {
    let last = || {
        let trail = network.trail().split_off(before);
        let mut ended = trail
            .into_iter()
            .filter(|one| one["kind"] == "request-ended");
        ended.next()
    };
    until("the end is on record", async || last().is_some()).await;
    last().unwrap()
}

/// An exam of one image that is refused with this status and for this reason before its first byte.
async fn refused_whole(network: &Network, own: &Own, status: u16, why: &str) {
    let mut asking = own.request(network).await;
    let series = asking.url.clone();
    // On its way from the PACS, and from the cache.
    for below in ["", "", &format!("/instances/{}", own.instance(1))] {
        asking.url = format!("{series}{below}");
        let before = network.trail().len();
        let answer = network.ask(&asking).await;
        assert_eq!(answer.status(), status, "{below}");
        let body = answer.text().await.unwrap();
        assert!(body.contains(why), "{body}");
        let outcome = &ended(network, before).await["outcome"];
        assert_eq!(outcome["ending"], "failed");
        assert_eq!(outcome["status"], status);
    }
    // The centre itself has it as it is.
    let url = network.gateway.local_url() + &own.path();
    let call = Client::plain().unwrap().get(&url).accept(AS_STORED);
    let body = call.send().await.unwrap().multipart().await.unwrap();
    assert!(body.is_complete());
    assert_eq!(body.parts.len(), 1);
}

#[test]
fn an_image_to_which_the_ins_cannot_be_added_is_refused_before_its_first_byte() {
    run(async {
        let network = network("unchangeable").await;
        refused_whole(&network, &LARGE, 413, "too large to be changed").await;
        refused_whole(&network, &ODD, 502, "cannot be changed").await;
    });
}

#[test]
fn a_series_is_cut_and_counted_before_an_image_to_which_the_ins_cannot_be_added() {
    run(async {
        let network = network("unchangeable-last").await;
        let asking = LAST_IS_ODD.request(&network).await;
        let aborted = "drimbox_http_aborted_responses_total";
        let labels = [("listener", "peer"), ("cause", "source_failed")];
        for way in ["from the PACS", "from the cache"] {
            let before = network.trail().len();
            let counted = metric(&network.gateway, aborted, &labels).await;
            let into = folder("cut-before-unchangeable");
            let client = network.client(asking.identity.as_ref());
            // The connection may end before what is written of the answer leaves.
            if let Ok(answer) = network.try_by(&client, &asking).await {
                assert_eq!(answer.status(), 200, "{way}");
                let body = answer.multipart_to(&into).await.unwrap();
                assert!(!body.is_complete(), "{way}: it looks whole");
            }
            for part in std::fs::read_dir(&into).unwrap() {
                let part = std::fs::read(part.unwrap().path()).unwrap();
                let has_ins = memchr::memmem::find(&part, INS.as_bytes()).is_some();
                assert!(has_ins, "{way}: an image without the INS");
            }
            let outcome = &ended(&network, before).await["outcome"];
            assert_eq!(outcome["ending"], "aborted", "{way}");
            assert!(
                outcome["instances"].as_u64().unwrap() < COUNT as u64,
                "{way}"
            );
            until("the cut answer to be counted", async || {
                metric(&network.gateway, aborted, &labels).await == counted + 1
            })
            .await;
        }
    });
}
