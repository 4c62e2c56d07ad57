//! The measures of the exam page. Runs alternate: gateway, OHIF, and again.

use std::path::Path;

use crate::testkit::KitError;

use super::super::report::{Bar, Row, Unit};
use super::line::PHONE;
use super::stage::{IMAGES, Stage, Visit, Visited, Who};

/// The measures by name.
pub const KEYS: [&str; 4] = [
    "viewer-desktop",
    "viewer-phone",
    "viewer-scroll",
    "viewer-mpr",
];

/// How many times faster than OHIF the first image has to be.
const TIMES: f64 = 3.0;
/// Seconds until the first image.
const DESKTOP: f64 = 1.2;
const ON_PHONE: f64 = 3.0;

/// A PACS, the gateway, OHIF and a browser.
pub struct ViewerBench {
    stage: Stage,
    runs: usize,
}

impl ViewerBench {
    /// Starts them; `folder` keeps the exams and what npm installed.
    ///
    /// # Errors
    /// When an exam cannot be made, npm does not install, or a program does not start.
    pub async fn start(folder: &Path, runs: usize) -> Result<Self, KitError> {
        let stage = Stage::start(folder).await?;
        Ok(Self { stage, runs })
    }

    /// What the figures depend on.
    ///
    /// # Errors
    /// When the browser died.
    pub fn facts(&mut self) -> Result<String, KitError> {
        Ok(format!(
            "exam page: {} without a graphics card, OHIF {} behind nginx, with Orthanc's DICOMweb on the same origin",
            self.stage.browser()?,
            self.stage.ohif
        ))
    }

    /// Makes one measure: the time, and the bytes that it took.
    ///
    /// # Errors
    /// When no image comes.
    pub async fn measure(&mut self, key: &str) -> Result<Vec<Row>, KitError> {
        match key {
            "viewer-desktop" => {
                let what = "exam page: first image of a JPEG-LS CT, desktop";
                let bar = Bar::AtMost(DESKTOP);
                let both = self.both(Visit::Image(None)).await?;
                Ok(both.rows("viewer-desktop", what, bar, FIRST))
            }
            "viewer-phone" => {
                let what = "exam page: first image of a JPEG-LS CT, phone";
                let bar = Bar::AtMost(ON_PHONE);
                let both = self.both(Visit::Image(Some(PHONE))).await?;
                Ok(both.rows("viewer-phone", what, bar, LINE))
            }
            "viewer-scroll" => {
                let what = format!("exam page: {IMAGES} slices ready to scroll");
                let note = format!(
                    "{SCROLL}; stored in {:.1} MB",
                    figure(self.stage.stored()) / 1e6
                );
                let both = self.both(Visit::Received).await?;
                Ok(both.rows("viewer-scroll", &what, Bar::LessThanPeer, &note))
            }
            "viewer-mpr" => {
                let what = format!("exam page: three planes of {IMAGES} slices");
                let both = self.both(Visit::Planes).await?;
                Ok(both.rows("viewer-mpr", &what, Bar::LessThanPeer, PLANES))
            }
            _ => Err(KitError::Invalid {
                what: key.into(),
                reason: format!("no such measure; there are {}", KEYS.join(", ")),
            }),
        }
    }

    async fn both(&mut self, visit: Visit) -> Result<Both, KitError> {
        let mut both = Both::default();
        for _ in 0..self.runs {
            both.ours.push(self.stage.visit(Who::Drimbox, visit).await?);
            both.peer
                .push(match self.stage.visit(Who::Ohif, visit).await {
                    Ok(visited) => visited,
                    Err(error) => {
                        both.repeated.push(error.to_string());
                        self.stage.visit(Who::Ohif, visit).await?
                    }
                });
        }
        Ok(both)
    }
}

/// The runs of both.
#[derive(Default)]
struct Both {
    ours: Vec<Visited>,
    peer: Vec<Visited>,
    /// Why a visit of OHIF was made once more.
    repeated: Vec<String>,
}

impl Both {
    /// The time and the bytes.
    fn rows(&self, key: &'static str, what: &str, bar: Bar, note: &str) -> Vec<Row> {
        let mut time = self.row(key, what.to_owned(), Unit::Time, bar);
        if matches!(bar, Bar::AtMost(_)) {
            let times = time.ratio().map(f64::recip).unwrap_or_default();
            let text = format!("≥ {TIMES} × faster than OHIF ({times:.1})");
            time.also = Some((text, times >= TIMES));
        }
        note.clone_into(&mut time.note);
        if !self.repeated.is_empty() {
            let (visits, why) = (self.repeated.len(), self.repeated.join("; "));
            time.note.push_str(&format!(
                ". {visits} of OHIF's visits did not end and were repeated: {why}"
            ));
        }
        let what = format!("{what}: bytes received");
        let bytes = self.row(key, what, Unit::Memory, Bar::LessThanPeer);
        vec![time, bytes]
    }

    fn row(&self, key: &'static str, what: String, unit: Unit, bar: Bar) -> Row {
        let figures = |runs: &[Visited]| {
            let one = |run: &Visited| match unit {
                Unit::Time => run.seconds,
                _ => figure(run.bytes),
            };
            runs.iter().map(one).collect()
        };
        let mut row = Row::new(key, what, unit, bar);
        row.peer_name = "OHIF, the same exam from Orthanc".into();
        row.ours = figures(&self.ours);
        row.peer = figures(&self.peer);
        row
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size for print")]
fn figure(bytes: u64) -> f64 {
    bytes as f64
}

/// What the first image is.
const FIRST: &str = "from the navigation to the clean address (a session is there; OHIF has none) to the first frame \
    in which a canvas shows an image: an area brighter than 40 of 255, in 16 shades, of at least 8 % of the largest square \
    in it, looked at in every frame by a script of the debugging protocol, the same in both pages. Bytes are counted on the line, TLS and HTTP \
    included. Browser cache and gateway cache empty in every run, Orthanc as it is";
/// What the phone is.
const LINE: &str = "10 Mbit/s and 70 ms on the line between browser and server, for all connections together and \
    their opening; the main thread slowed down by 4 through the debugging protocol, which does not reach workers";
/// What ready is.
const SCROLL: &str = "from the navigation to the last byte of all that a page asks for by itself, before five seconds \
    of silence and not before nine tenths of the series came";
/// What the planes are.
const PLANES: &str = "from the navigation to the last change of the canvases, not before the volume is whole and its three views have been \
    drawn once more: the page says so by a mark, of OHIF its library is asked. The page's button is clicked as soon as the \
    page knows every image, OHIF opens with hangingprotocolId=mpr";
