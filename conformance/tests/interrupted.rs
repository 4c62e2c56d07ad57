//! Real PACS whose line or process fails in the middle of a retrieval: never a part for the whole,
//! and all of it once they are well again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::path::PathBuf;

use conformance::testkit::{
    Client, Dcmqrscp, Fault, FaultProxy, Gateway, GatewayConfig, Orthanc, PacsConfig,
};
use support::objects::{self, Made};
use support::{Seen, ask, folder, run, see, until};

/// Seconds that the gateway waits for a PACS that is to be found silent.
const PATIENCE: f64 = 3.0;
/// Bytes of the pixels of one image.
const IMAGE: usize = 512 << 10;
/// In the first image that comes over a connection, and in the second.
const AT_FIRST: u64 = 300_000;
const HALFWAY: u64 = 700_000;
/// Studies of four images: one for each thing that may happen, because what came whole is kept.
const STUDIES: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Get,
    Move,
}

enum Pacs {
    Orthanc(Box<Orthanc>),
    Dcmqrscp(Dcmqrscp),
}

impl Pacs {
    async fn orthanc(name: &str, move_to: u16, files: Vec<PathBuf>) -> Self {
        let folder = folder(&format!("{name}-pacs"));
        let orthanc = Orthanc::builder(&folder).modality("DRIMBOX", move_to);
        let orthanc = orthanc.start().await.unwrap();
        orthanc.upload(files).await.unwrap();
        Self::Orthanc(Box::new(orthanc))
    }

    async fn dcmqrscp(name: &str, move_to: u16, files: Vec<PathBuf>) -> Self {
        let folder = folder(&format!("{name}-pacs"));
        let pacs = Dcmqrscp::builder(&folder).application("DRIMBOX", move_to);
        Self::Dcmqrscp(pacs.start(&files).await.unwrap())
    }

    fn address(&self) -> (&str, u16) {
        match self {
            Self::Orthanc(pacs) => (pacs.ae_title(), pacs.dicom_port()),
            Self::Dcmqrscp(pacs) => (pacs.ae_title(), pacs.port()),
        }
    }

    /// As `kill -9` does.
    fn kill(&mut self) {
        match self {
            Self::Orthanc(pacs) => pacs.process().kill(),
            Self::Dcmqrscp(pacs) => pacs.process().kill(),
        }
    }

    async fn restart(&mut self) {
        match self {
            Self::Orthanc(pacs) => pacs.restart().await.unwrap(),
            Self::Dcmqrscp(pacs) => pacs.restart().await.unwrap(),
        }
    }
}

/// A gateway, a PACS, and the line that the images come over.
struct Pair {
    pacs: Pacs,
    line: FaultProxy,
    gateway: Gateway,
    client: Client,
    into: PathBuf,
    studies: Vec<Made>,
}

impl Pair {
    async fn start(
        name: &str,
        way: Way,
        pacs: impl AsyncFnOnce(&str, u16, Vec<PathBuf>) -> Pacs,
    ) -> Self {
        let made = folder(&format!("{name}-files"));
        let studies: Vec<Made> = (0..STUDIES)
            .map(|number| objects::make(&made, &format!("2.25.880{number}"), 4, IMAGE))
            .collect();
        let files = studies
            .iter()
            .flat_map(|study| study.files.clone())
            .collect();
        let config = GatewayConfig::new(&folder(name)).unwrap();
        let config = config.storage_scp().unwrap();
        // A C-MOVE brings its images over an association that the PACS opens.
        let here = config.address("dimse").unwrap();
        let towards_us = FaultProxy::of_what_clients_send(here).await.unwrap();
        let pacs = pacs(name, towards_us.address().port(), files).await;
        let (title, port) = pacs.address();
        let towards_pacs = FaultProxy::start(([127, 0, 0, 1], port).into())
            .await
            .unwrap();
        let (line, entry) = match way {
            Way::Get => {
                let port = towards_pacs.address().port();
                (towards_pacs, PacsConfig::new("pacs", title, port))
            }
            Way::Move => (towards_us, PacsConfig::new("pacs", title, port).by_move()),
        };
        let entry = entry
            .set("dimse.connect_timeout_seconds", PATIENCE)
            .set("dimse.response_timeout_seconds", PATIENCE);
        Self {
            gateway: Gateway::start(config.pacs(entry)).await.unwrap(),
            pacs,
            line,
            client: Client::plain().unwrap(),
            into: folder(&format!("{name}-parts")),
            studies,
        }
    }

    async fn look(&self, study: usize) -> Seen {
        let made = &self.studies[study];
        let url = self.gateway.local_url() + &made.path();
        let answer = ask(&self.client, &url).await;
        see(answer, &self.into, |body| {
            made.assert_pixels(&self.into, body.parts.len());
        })
        .await
    }

    async fn until_it_serves_everything(&self) {
        for study in 0..STUDIES {
            until("the whole study", async || {
                self.look(study).await == Seen::Whole
            })
            .await;
        }
    }
}

async fn a_line_that_fails(pair: &Pair, way: Way) {
    assert_eq!(pair.look(0).await, Seen::Whole);
    pair.line.set(Fault::CutAfter(HALFWAY));
    let seen = pair.look(1).await;
    match way {
        Way::Get => assert_eq!(seen, Seen::Cut),
        // What did not come is asked for again, and comes over another association.
        Way::Move => assert_eq!(seen, Seen::Whole),
    }
    pair.line.set(Fault::StallAfter(HALFWAY));
    let seen = pair.look(2).await;
    match way {
        Way::Get => assert_eq!(seen, Seen::Cut),
        // Which of the two associations runs out of patience first is open.
        Way::Move => assert!(matches!(seen, Seen::Cut | Seen::Whole), "{seen:?}"),
    }
    for (study, fault) in [
        (3, Fault::CutAfter(AT_FIRST)),
        (4, Fault::StallAfter(0)),
        (5, Fault::Refuse),
    ] {
        pair.line.set(fault);
        let seen = pair.look(study).await;
        assert!(
            matches!(seen, Seen::Status(502..=504)),
            "{fault:?}: {seen:?}"
        );
    }
    pair.line.set(Fault::None);
    pair.until_it_serves_everything().await;
}

async fn a_process_that_dies(pair: &mut Pair) {
    // The PACS dies while the rest of an image is on its way.
    pair.line.set(Fault::StallAfter(HALFWAY));
    let url = pair.gateway.local_url() + &pair.studies[0].path();
    let mut answer = ask(&pair.client, &url).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.next().await.unwrap().is_some());
    pair.pacs.kill();
    pair.line.set(Fault::None);
    let body = answer.drain().await;
    assert!(body.broken.is_some(), "a part was given for the whole");
    let seen = pair.look(0).await;
    assert!(matches!(seen, Seen::Status(502 | 503)), "{seen:?}");
    pair.pacs.restart().await;
    pair.until_it_serves_everything().await;
}

macro_rules! stories {
    ($($line:ident, $death:ident: $pacs:ident, $way:ident;)*) => {$(
        #[test]
        fn $line() {
            run(async {
                let pair = Pair::start(stringify!($line), Way::$way, Pacs::$pacs).await;
                a_line_that_fails(&pair, Way::$way).await;
            });
        }

        #[test]
        fn $death() {
            run(async {
                let mut pair = Pair::start(stringify!($death), Way::$way, Pacs::$pacs).await;
                a_process_that_dies(&mut pair).await;
            });
        }
    )*};
}

stories! {
    a_line_to_orthanc_that_fails_gives_no_part_for_the_whole,
    an_orthanc_that_is_killed_gives_no_part_for_the_whole: orthanc, Get;
    a_line_from_orthanc_that_fails_in_a_move_gives_no_part_for_the_whole,
    an_orthanc_that_is_killed_in_a_move_gives_no_part_for_the_whole: orthanc, Move;
    a_line_to_dcmqrscp_that_fails_gives_no_part_for_the_whole,
    a_dcmqrscp_that_is_killed_gives_no_part_for_the_whole: dcmqrscp, Get;
    a_line_from_dcmqrscp_that_fails_in_a_move_gives_no_part_for_the_whole,
    a_dcmqrscp_that_is_killed_in_a_move_gives_no_part_for_the_whole: dcmqrscp, Move;
}
