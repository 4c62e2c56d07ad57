//! How a patient proves to be the one of a published exam.
//!
//! No national text says how, so the proof is a trait, and the centre chooses one in the configuration; without a
//! choice nobody comes in this way. A proof never says what was wrong, and does the same work whether the exam
//! exists or not.

use std::fmt;

use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::source::PublishedExam;
use crate::source::patient::{HashedCode, date};

/// What a patient typed. `Debug` shows nothing.
#[derive(Clone, Default)]
pub struct Given {
    /// The date of birth, as people write it.
    pub birth_date: String,
    /// The last digits of the INS.
    pub digits: String,
    /// The code of the report, or the one-time code.
    pub code: String,
}

/// What the page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Date of birth, and this many last digits of the INS.
    BirthDateAndDigits(usize),
    /// The code that is printed on the report.
    ReportCode,
    /// A code that was sent just now.
    OneTimeCode(Way),
}

/// How a one-time code is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By mail.
    Mail,
    /// By SMS.
    Sms,
}

/// The one-time code of a browser: what was sent last, to be used once.
pub trait OneTimeCodes: Send + Sync + fmt::Debug {
    /// Whether this is the code that was sent; takes it when it is, and counts a wrong one.
    fn take(&self, code: &str) -> bool;
}

/// A way to prove who one is.
pub trait PatientProof: Send + Sync + fmt::Debug {
    /// What the page asks for.
    fn question(&self) -> Question;

    /// The fixed word for the audit trail: how they proved it.
    fn word(&self) -> &'static str;

    /// Whether what was given proves to be the patient of the exam; `None` when the link names no exam.
    fn holds<'a>(
        &'a self,
        exam: Option<&'a PublishedExam>,
        given: &'a Given,
        sent: &'a dyn OneTimeCodes,
    ) -> BoxFuture<'a, bool>;
}

/// Date of birth and last digits of the INS.
#[derive(Debug, Clone, Copy)]
pub struct BirthDateAndIns {
    /// How many digits.
    pub digits: usize,
}

/// The code printed on the report, which the centre registered with the exam.
#[derive(Debug, Clone, Copy)]
pub struct ReportCode;

/// A code that was sent to the address that the centre holds.
#[derive(Debug, Clone, Copy)]
pub struct OneTimeCode(pub Way);

impl PatientProof for BirthDateAndIns {
    fn question(&self) -> Question {
        Question::BirthDateAndDigits(self.digits)
    }

    fn word(&self) -> &'static str {
        "birth_date_and_ins"
    }

    fn holds<'a>(
        &'a self,
        exam: Option<&'a PublishedExam>,
        given: &'a Given,
        _: &'a dyn OneTimeCodes,
    ) -> BoxFuture<'a, bool> {
        let known_date = exam.and_then(|exam| exam.patient.birth_date.as_deref());
        let known_digits = exam
            .and_then(|exam| exam.ins.as_ref())
            .and_then(|ins| last_digits(&ins.matricule, self.digits));
        let given_date = date(&given.birth_date);
        let typed: String = given.digits.split_whitespace().collect();
        let fits =
            same(known_date, given_date.as_deref()) & same(known_digits.as_deref(), Some(&typed));
        Box::pin(std::future::ready(fits.into()))
    }
}

impl PatientProof for ReportCode {
    fn question(&self) -> Question {
        Question::ReportCode
    }

    fn word(&self) -> &'static str {
        "report_code"
    }

    fn holds<'a>(
        &'a self,
        exam: Option<&'a PublishedExam>,
        given: &'a Given,
        _: &'a dyn OneTimeCodes,
    ) -> BoxFuture<'a, bool> {
        let known = exam.and_then(|exam| exam.patient.code.clone());
        let code = given.code.clone();
        Box::pin(async move {
            // A slow hash: off the async threads.
            let work = move || HashedCode::fits(known.as_ref(), &code);
            tokio::task::spawn_blocking(work).await.unwrap_or(false)
        })
    }
}

impl PatientProof for OneTimeCode {
    fn question(&self) -> Question {
        Question::OneTimeCode(self.0)
    }

    fn word(&self) -> &'static str {
        match self.0 {
            Way::Mail => "mail_code",
            Way::Sms => "sms_code",
        }
    }

    fn holds<'a>(
        &'a self,
        exam: Option<&'a PublishedExam>,
        given: &'a Given,
        sent: &'a dyn OneTimeCodes,
    ) -> BoxFuture<'a, bool> {
        let typed: String = given.code.split_whitespace().collect();
        let fits = sent.take(&typed) && exam.is_some();
        Box::pin(std::future::ready(fits))
    }
}

/// The last digits of a matricule, which may have letters for Corsica before them.
fn last_digits(matricule: &str, count: usize) -> Option<String> {
    let plain: String = matricule.split_whitespace().collect();
    let start = plain.len().checked_sub(count)?;
    let last = plain.get(start..)?;
    (count > 0 && last.bytes().all(|byte| byte.is_ascii_digit())).then(|| last.to_owned())
}

/// Compares in a time that tells nothing; what is not known is like nothing.
fn same(known: Option<&str>, given: Option<&str>) -> Choice {
    let digest = |text: Option<&str>| Sha256::digest(text.unwrap_or_default());
    let equal = digest(known).as_slice().ct_eq(digest(given).as_slice());
    let both = known.is_some_and(|text| !text.is_empty()) && given.is_some();
    equal & Choice::from(u8::from(both))
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given(***)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::source::exams::tests::exam;
    use crate::source::patient::PatientFacts;

    #[derive(Debug)]
    struct Sent(&'static str);

    impl OneTimeCodes for Sent {
        fn take(&self, code: &str) -> bool {
            self.0 == code
        }
    }

    fn of_patient() -> PublishedExam {
        let mut exam = exam("ct", "1.2", "1.9");
        exam.patient = PatientFacts {
            birth_date: Some("19790315".into()),
            code: Some(HashedCode::of("KJHG-4567").unwrap()),
            ..PatientFacts::default()
        };
        exam
    }

    fn asked(proof: &dyn PatientProof, exam: Option<&PublishedExam>, given: &Given) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        runtime.block_on(proof.holds(exam, given, &Sent("123456")))
    }

    #[test]
    fn both_the_birth_date_and_the_digits_must_be_right() {
        let proof = BirthDateAndIns { digits: 6 };
        let exam = of_patient();
        let given = |birth_date: &str, digits: &str| Given {
            birth_date: birth_date.into(),
            digits: digits.into(),
            ..Given::default()
        };
        assert!(asked(&proof, Some(&exam), &given("15/03/1979", "518989")));
        assert!(asked(&proof, Some(&exam), &given("15/03/1979", "518 989")));
        for (date, digits) in [
            ("15/03/1978", "518989"),
            ("15/03/1979", "518988"),
            ("15/03/1979", "8989"),
            ("15/03/1979", "1518989"),
            ("15/03/1979", ""),
            ("", "518989"),
            ("", ""),
        ] {
            assert!(
                !asked(&proof, Some(&exam), &given(date, digits)),
                "{date} {digits}"
            );
        }
        assert!(!asked(&proof, None, &given("15/03/1979", "518989")));
        let mut unknown = of_patient();
        unknown.patient.birth_date = None;
        assert!(!asked(&proof, Some(&unknown), &given("", "518989")));
        let mut unknown = of_patient();
        unknown.ins = None;
        assert!(!asked(&proof, Some(&unknown), &given("15/03/1979", "")));
    }

    #[test]
    fn the_code_of_the_report_must_be_the_one_registered() {
        let exam = of_patient();
        let given = |code: &str| Given {
            code: code.into(),
            ..Given::default()
        };
        assert!(asked(&ReportCode, Some(&exam), &given("kjhg 4567")));
        assert!(!asked(&ReportCode, Some(&exam), &given("kjhg 4568")));
        assert!(!asked(&ReportCode, None, &given("kjhg 4567")));
        let mut without = of_patient();
        without.patient.code = None;
        assert!(!asked(&ReportCode, Some(&without), &given("")));
    }

    #[test]
    fn a_one_time_code_opens_an_exam_that_exists_only() {
        let exam = of_patient();
        let given = |code: &str| Given {
            code: code.into(),
            ..Given::default()
        };
        let proof = OneTimeCode(Way::Mail);
        assert!(asked(&proof, Some(&exam), &given("123 456")));
        assert!(!asked(&proof, Some(&exam), &given("123457")));
        assert!(!asked(&proof, None, &given("123456")));
    }
}
