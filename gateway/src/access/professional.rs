//! Which professionals may come in: those with a national id and an allowed profession, and in which of their
//! *situations d'exercice* they may act here.

use std::fmt;

use psc_auth::{LoggedIn, NationalId, ProfessionPolicy, Rpps, UserInfo};
use serde::{Deserialize, Serialize};

/// A professional whom Pro Santé Connect has identified. `Debug` shows no name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Professional {
    /// National id (PS_IdNat).
    pub national_id: NationalId,
    /// RPPS number, when there is one.
    pub rpps: Option<Rpps>,
    /// Family name.
    pub family_name: Option<String>,
    /// Given name.
    pub given_name: Option<String>,
    /// Technical subject at PSC.
    pub sub: String,
    /// Session at PSC, which one of its logouts names.
    pub sid: Option<String>,
}

/// A way in which a professional acts: a profession, and a place if there is one. `Debug` shows no name: a practice
/// often has its owner's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    /// Stands for this situation in a form.
    pub id: String,
    /// `codeProfession`, table TRE_G15.
    pub profession: String,
    /// `codeSavoirFaire`.
    pub skill: Option<String>,
    /// `codeModeExercice`: L liberal, S employed, B voluntary.
    pub mode: Option<String>,
    /// `codeRole`.
    pub role: Option<String>,
    /// `codeSecteurDactivite`.
    pub sector: Option<String>,
    /// National id of the structure with its prefix, as a VIHF wants it.
    pub structure_id: Option<String>,
    /// Name of the structure.
    pub structure: Option<String>,
    /// Its town.
    pub town: Option<String>,
}

/// A professional who may come in, and the situations to choose from: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Who.
    pub professional: Professional,
    /// Allowed situations, in the order of PSC.
    pub situations: Vec<Situation>,
}

/// Why a professional may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// PSC gives no national id in its prefixed form.
    #[error("Pro Santé Connect gives no national id")]
    NoNationalId,
    /// No situation with an allowed profession and category.
    #[error("no profession that is allowed here")]
    Profession,
}

impl NotAdmitted {
    /// The word for metrics and the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoNationalId => "no_national_id",
            Self::Profession => "profession",
        }
    }
}

/// Decides about what PSC says of someone who logged in.
///
/// # Errors
/// [`NotAdmitted`].
pub fn admit(
    policy: &ProfessionPolicy,
    logged_in: &LoggedIn,
    user: &UserInfo,
) -> Result<Admitted, NotAdmitted> {
    let national_id = user.national_id.as_ref().or(logged_in.national_id.as_ref());
    let professional = Professional {
        national_id: national_id.ok_or(NotAdmitted::NoNationalId)?.clone(),
        rpps: user.rpps(),
        family_name: user.family_name.clone().or(logged_in.family_name.clone()),
        given_name: user.given_name.clone().or(logged_in.given_name.clone()),
        sub: logged_in.sub.clone(),
        sid: logged_in.sid.clone(),
    };
    let situations = user.situations();
    let allowed = situations
        .iter()
        .filter(|situation| policy.allows(situation.exercice));
    let situations: Vec<_> = allowed.filter_map(Situation::of).collect();
    if situations.is_empty() {
        return Err(NotAdmitted::Profession);
    }
    Ok(Admitted {
        professional,
        situations,
    })
}

impl Situation {
    fn of(situation: &psc_auth::Situation<'_>) -> Option<Self> {
        let place = situation.activity;
        let text = |field: fn(&psc_auth::Activity) -> &Option<String>| {
            place.and_then(|activity| field(activity).clone())
        };
        Some(Self {
            id: situation.id.to_string(),
            profession: situation.exercice.profession.clone()?,
            skill: situation.exercice.skill.clone(),
            mode: text(|activity| &activity.mode),
            role: text(|activity| &activity.role),
            sector: text(|activity| &activity.sector),
            structure_id: place.and_then(psc_auth::Activity::structure_id),
            structure: text(|activity| &activity.name).or(text(|activity| &activity.trade_name)),
            town: text(|activity| &activity.town),
        })
    }
}

impl fmt::Debug for Professional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Professional")
            .field("national_id", &self.national_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Situation")
            .field("id", &self.id)
            .field("profession", &self.profession)
            .field("skill", &self.skill)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use serde_json::{Value, json};

    use super::*;

    fn logged_in() -> LoggedIn {
        let record = json!({ "sub": "s", "sid": "x", "national_id": null, "acr": null,
                             "auth_time": null, "given_name": "G", "family_name": "F" });
        serde_json::from_value(record).unwrap()
    }

    fn decided(id: &str, exercices: Value) -> Result<Admitted, NotAdmitted> {
        let user = json!({ "sub": "s", "SubjectNameID": id,
                           "SubjectRefPro": { "exercices": exercices } });
        let user = UserInfo::parse(user.to_string().as_bytes()).unwrap();
        admit(&ProfessionPolicy::default(), &logged_in(), &user)
    }

    fn exercice(profession: &str, places: &[&str]) -> Value {
        let places: Vec<_> = places
            .iter()
            .map(|name| json!({ "raisonSocialeSite": name, "numeroFinessSite": "750000018" }))
            .collect();
        json!({ "codeProfession": profession, "activities": places })
    }

    #[test]
    fn only_allowed_situations_are_offered() {
        let exercices = json!([exercice("60", &["A"]), exercice("10", &["B", "C"])]);
        let admitted = decided("899700366240", exercices).unwrap();
        let places: Vec<_> = admitted
            .situations
            .iter()
            .map(|situation| (situation.id.as_str(), situation.structure.as_deref()))
            .collect();
        assert_eq!(places, [("1-0", Some("B")), ("1-1", Some("C"))]);
        assert_eq!(
            admitted.situations[0].structure_id.as_deref(),
            Some("1750000018")
        );
        assert_eq!(admitted.professional.rpps.unwrap().as_str(), "99700366240");
    }

    #[test]
    fn without_an_allowed_profession_or_a_national_id_nobody_comes_in() {
        let nurse = json!([exercice("60", &["A"])]);
        assert_eq!(decided("899700366240", nurse), Err(NotAdmitted::Profession));
        assert_eq!(
            decided("899700366240", json!([])),
            Err(NotAdmitted::Profession)
        );
        let physician = json!([exercice("10", &[])]);
        assert!(decided("899700366240", physician.clone()).is_ok());
        assert_eq!(decided("x", physician), Err(NotAdmitted::NoNationalId));
    }

    #[test]
    fn debug_shows_no_name() {
        let admitted = decided("899700366240", json!([exercice("10", &["DR DUPONT"])])).unwrap();
        let shown = format!("{admitted:?}");
        assert!(
            !shown.contains("DUPONT") && !shown.contains("99700366"),
            "{shown}"
        );
    }
}
