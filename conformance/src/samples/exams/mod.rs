//! The exams of each profile, a file per kind.

mod charsets;
mod classes;
mod ct;
mod documents;
mod elements;
mod image;
mod mr;
mod multiframe;
mod pixels;
mod projection;
mod studies;
mod syntaxes;

use super::Profile;
use super::plan::ExamPlan;

/// Every exam of a profile.
pub(super) fn plan(profile: Profile) -> Vec<ExamPlan> {
    let mut exams = ct::exams(profile);
    exams.extend(multiframe::exams(profile));
    if profile != Profile::Bench {
        exams.extend(mr::exams(profile));
        exams.extend(projection::exams(profile));
        exams.extend(documents::exams(profile));
        exams.extend(syntaxes::exams());
        exams.extend(classes::exams());
        exams.extend(charsets::exams());
        exams.extend(elements::exams());
        exams.extend(pixels::exams());
    }
    exams.extend(studies::exams(profile));
    exams
}
