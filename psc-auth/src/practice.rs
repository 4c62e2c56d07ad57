//! How a professional works: exercises (one per profession), activities (one per place), and the choice between them,
//! the *situation d'exercice*.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::user_info::{Lenient, text};

/// An exercise: one profession of a professional. Empty texts of PSC are `None`; `Debug` shows no name.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exercice {
    /// `codeProfession`, table TRE_G15: 10 is a physician.
    pub profession: Option<String>,
    /// `codeCategorieProfessionnelle`: C civil, M military, E student.
    pub category: Option<String>,
    /// `codeCiviliteDexercice`.
    pub title: Option<String>,
    /// `nomDexercice`.
    pub family_name: Option<String>,
    /// `prenomDexercice`.
    pub given_name: Option<String>,
    /// `codeTypeSavoirFaire`.
    pub skill_kind: Option<String>,
    /// `codeSavoirFaire`: SM44 is radiodiagnosis, for instance.
    pub skill: Option<String>,
    /// Where it is practised.
    pub activities: Vec<Activity>,
}

/// An activity: one place and way of working. Empty texts of PSC are `None`; `Debug` shows no name: a practice often
/// has its owner's.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// `codeModeExercice`: L liberal, S employed, B voluntary.
    pub mode: Option<String>,
    /// `codeSecteurDactivite`.
    pub sector: Option<String>,
    /// `codeRole`.
    pub role: Option<String>,
    /// `codeGenreActivite`.
    pub kind: Option<String>,
    /// `codeSectionPharmacien`.
    pub pharmacist_section: Option<String>,
    /// `numeroSiretSite`.
    pub siret: Option<String>,
    /// `numeroSirenSite`.
    pub siren: Option<String>,
    /// `numeroFinessSite`.
    pub finess: Option<String>,
    /// `numeroFinessetablissementJuridique`.
    pub finess_legal: Option<String>,
    /// `identifiantTechniqueDeLaStructure`.
    pub technical_id: Option<String>,
    /// `ancienIdentifiantDeLaStructure`, which has its prefix.
    pub former_id: Option<String>,
    /// `raisonSocialeSite`.
    pub name: Option<String>,
    /// `enseigneCommercialeSite`.
    pub trade_name: Option<String>,
    /// `complementDestinataire`.
    pub addressee: Option<String>,
    /// `complementPointGeographique`: building, floor.
    pub location: Option<String>,
    /// `numeroVoie`.
    pub street_number: Option<String>,
    /// `indiceRepetitionVoie`: bis, ter.
    pub street_number_suffix: Option<String>,
    /// `codeTypeDeVoie`.
    pub street_kind: Option<String>,
    /// `libelleVoie`.
    pub street: Option<String>,
    /// `mentionDistribution`: a post-office box.
    pub distribution: Option<String>,
    /// `codePostal`.
    pub postal_code: Option<String>,
    /// `bureauCedex`: the town.
    pub town: Option<String>,
    /// `codeCommune` of INSEE.
    pub municipality: Option<String>,
    /// `codeDepartement`.
    pub department: Option<String>,
    /// `codePays`.
    pub country: Option<String>,
    /// `telephone`.
    pub telephone: Option<String>,
    /// `telephone2`.
    pub second_telephone: Option<String>,
    /// `telecopie`.
    pub fax: Option<String>,
    /// `adresseEMail`.
    pub email: Option<String>,
    /// `autoriteDenregistrement`.
    pub registrar: Option<String>,
}

impl fmt::Debug for Exercice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exercice")
            .field("profession", &self.profession)
            .field("category", &self.category)
            .field("skill", &self.skill)
            .field("activities", &self.activities)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activity")
            .field("mode", &self.mode)
            .field("sector", &self.sector)
            .field("finess", &self.finess)
            .finish_non_exhaustive()
    }
}

impl Exercice {
    const MOST_ACTIVITIES: usize = 200;

    pub(crate) fn read(value: &Value) -> Self {
        let get = |name| text(value, name);
        Self {
            profession: get("codeProfession"),
            category: get("codeCategorieProfessionnelle"),
            title: get("codeCiviliteDexercice"),
            family_name: get("nomDexercice"),
            given_name: get("prenomDexercice"),
            skill_kind: get("codeTypeSavoirFaire"),
            skill: get("codeSavoirFaire"),
            activities: value
                .list("activities", Self::MOST_ACTIVITIES)
                .map(Activity::read)
                .collect(),
        }
    }
}

impl Activity {
    fn read(value: &Value) -> Self {
        let get = |name| text(value, name);
        Self {
            mode: get("codeModeExercice"),
            sector: get("codeSecteurDactivite"),
            role: get("codeRole"),
            kind: get("codeGenreActivite"),
            pharmacist_section: get("codeSectionPharmacien"),
            siret: get("numeroSiretSite"),
            siren: get("numeroSirenSite"),
            finess: get("numeroFinessSite"),
            finess_legal: get("numeroFinessetablissementJuridique"),
            technical_id: get("identifiantTechniqueDeLaStructure"),
            former_id: get("ancienIdentifiantDeLaStructure"),
            name: get("raisonSocialeSite"),
            trade_name: get("enseigneCommercialeSite"),
            addressee: get("complementDestinataire"),
            location: get("complementPointGeographique"),
            street_number: get("numeroVoie"),
            street_number_suffix: get("indiceRepetitionVoie"),
            street_kind: get("codeTypeDeVoie"),
            street: get("libelleVoie"),
            distribution: get("mentionDistribution"),
            postal_code: get("codePostal"),
            town: get("bureauCedex"),
            municipality: get("codeCommune"),
            department: get("codeDepartement"),
            country: get("codePays"),
            telephone: get("telephone"),
            second_telephone: get("telephone2"),
            fax: get("telecopie"),
            email: get("adresseEMail"),
            registrar: get("autoriteDenregistrement"),
        }
    }

    /// The structure's national id with its prefix, as a VIHF wants it: `ancienIdentifiantDeLaStructure`, else
    /// 1 + FINESS, else 3 + SIRET.
    #[must_use]
    pub fn structure_id(&self) -> Option<String> {
        let prefixed = |prefix: &str, number: &Option<String>| {
            number.as_ref().map(|number| format!("{prefix}{number}"))
        };
        self.former_id
            .clone()
            .or_else(|| prefixed("1", &self.finess))
            .or_else(|| prefixed("3", &self.siret))
    }
}

/// One way in which the professional may act now: an exercise, and one of its activities if it has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation<'a> {
    /// Stands for this situation in a form; stable for one answer of UserInfo.
    pub id: SituationId,
    /// The exercise.
    pub exercice: &'a Exercice,
    /// The activity.
    pub activity: Option<&'a Activity>,
}

/// Position of a situation in UserInfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SituationId {
    exercice: usize,
    activity: Option<usize>,
}

impl fmt::Display for SituationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.activity {
            Some(activity) => write!(f, "{}-{activity}", self.exercice),
            None => write!(f, "{}", self.exercice),
        }
    }
}

pub(crate) fn situations(exercices: &[Exercice]) -> Vec<Situation<'_>> {
    let mut found = Vec::new();
    for (number, exercice) in exercices.iter().enumerate() {
        let situation = |activity: Option<(usize, &'_ Activity)>| SituationId {
            exercice: number,
            activity: activity.map(|(position, _)| position),
        };
        if exercice.activities.is_empty() {
            found.push(Situation {
                id: situation(None),
                exercice,
                activity: None,
            });
        }
        for (position, activity) in exercice.activities.iter().enumerate() {
            found.push(Situation {
                id: situation(Some((position, activity))),
                exercice,
                activity: Some(activity),
            });
        }
    }
    found
}

/// Which professions may see images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfessionPolicy {
    /// Values of `codeProfession`.
    pub allowed: BTreeSet<String>,
    /// Values of `codeCategorieProfessionnelle` that are refused whatever the profession.
    pub refused_categories: BTreeSet<String>,
}

impl Default for ProfessionPolicy {
    /// Physicians, dental surgeons and midwives (10, 40, 50); students (E) are refused.
    fn default() -> Self {
        Self {
            allowed: ["10", "40", "50"].map(str::to_owned).into(),
            refused_categories: ["E"].map(str::to_owned).into(),
        }
    }
}

impl ProfessionPolicy {
    /// The default with radiographers (98).
    #[must_use]
    pub fn with_radiographers(mut self) -> Self {
        self.allowed.insert("98".to_owned());
        self
    }

    /// Whether this exercise is allowed. Without a profession it is not.
    #[must_use]
    pub fn allows(&self, exercice: &Exercice) -> bool {
        let allowed = exercice
            .profession
            .as_ref()
            .is_some_and(|profession| self.allowed.contains(profession));
        let refused = exercice
            .category
            .as_ref()
            .is_some_and(|category| self.refused_categories.contains(category));
        allowed && !refused
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn exercice(profession: Option<&str>, category: Option<&str>) -> Exercice {
        Exercice {
            profession: profession.map(str::to_owned),
            category: category.map(str::to_owned),
            ..Exercice::default()
        }
    }

    #[test]
    fn the_default_lets_physicians_in_and_students_and_nurses_not() {
        let policy = ProfessionPolicy::default();
        assert!(policy.allows(&exercice(Some("10"), Some("C"))));
        assert!(policy.allows(&exercice(Some("50"), None)));
        assert!(!policy.allows(&exercice(Some("10"), Some("E"))));
        assert!(!policy.allows(&exercice(Some("60"), Some("C"))));
        assert!(!policy.allows(&exercice(None, None)));
        assert!(!policy.allows(&exercice(Some("98"), Some("C"))));
        assert!(
            policy
                .with_radiographers()
                .allows(&exercice(Some("98"), Some("C")))
        );
    }

    #[test]
    fn the_structure_is_named_by_its_former_id_then_finess_then_siret() {
        let mut activity = Activity {
            siret: Some("12345678900011".to_owned()),
            ..Activity::default()
        };
        assert_eq!(activity.structure_id().unwrap(), "312345678900011");
        activity.finess = Some("0B0172805".to_owned());
        assert_eq!(activity.structure_id().unwrap(), "10B0172805");
        activity.former_id = Some("499700366240007".to_owned());
        assert_eq!(activity.structure_id().unwrap(), "499700366240007");
        assert_eq!(Activity::default().structure_id(), None);
    }
}
