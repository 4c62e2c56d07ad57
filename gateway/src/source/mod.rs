//! What this gateway publishes: the exams that other DRIMboxes and the links of reports may open.

pub mod exams;

pub use exams::{ExamError, Exams, PublishedExam};
