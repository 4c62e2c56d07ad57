//! The exams of each profile, a file per kind.

mod ct;
mod image;

use super::Profile;
use super::plan::ExamPlan;

/// Every exam of a profile.
pub(super) fn plan(profile: Profile) -> Vec<ExamPlan> {
    let mut exams = Vec::new();
    exams.extend(ct::exams(profile));
    exams
}
