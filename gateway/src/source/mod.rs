//! What this gateway publishes: the exams that other DRIMboxes and the links of reports may open.

pub mod cda;
pub mod exams;
pub mod patient;

pub use exams::{ExamError, Exams, PublishedExam};
