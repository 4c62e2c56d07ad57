//! French words for the codes of a situation, as the user reads them.

use crate::access::professional::Situation;

/// Profession (TRE_G15) and skill.
pub(super) fn profession(situation: &Situation) -> String {
    let name = match situation.profession.as_str() {
        "10" => "Médecin",
        "21" => "Pharmacien",
        "32" => "Physicien médical",
        "40" => "Chirurgien-dentiste",
        "50" => "Sage-femme",
        "60" => "Infirmier",
        "98" => "Manipulateur d'électroradiologie médicale",
        code => return format!("Profession {code}"),
    };
    let skill = situation.skill.as_deref().and_then(|code| {
        Some(match code {
            "SM28" => "médecine nucléaire",
            "SM37" | "SM45" => "radiothérapie",
            "SM44" | "SM55" => "radiodiagnostic",
            _ => return None,
        })
    });
    match skill {
        Some(skill) => format!("{name}, {skill}"),
        None => name.to_owned(),
    }
}

/// Structure, town and way of working; `None` for a situation without a place.
pub(super) fn place(situation: &Situation) -> Option<String> {
    let mode = situation.mode.as_deref().and_then(|code| {
        Some(match code {
            "L" => "libéral",
            "S" => "salarié",
            "B" => "bénévole",
            _ => return None,
        })
    });
    let parts = [
        situation.structure.as_deref(),
        situation.town.as_deref(),
        mode,
    ];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    (!text.is_empty()).then_some(text)
}
