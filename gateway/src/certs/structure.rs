//! The identifier of a structure as IGC Santé certificates write it: in the OU of the subject, one digit
//! that says what kind of number follows (nomenclature of the MOS, guide de commande des certificats IGC
//! Santé, Ségur imagerie vague 2).

use std::fmt;

/// Whom an IGC Santé certificate was given to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StructureId {
    kind: StructureKind,
    number: String,
}

/// What kind of number identifies a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StructureKind {
    /// Prefix 0: ADELI of a professional.
    Adeli,
    /// Prefix 1: FINESS, without saying of which entity.
    Finess,
    /// Prefix 3: SIRET of a company's site.
    Siret,
    /// Prefix 4: RPPS-rang, the practice of one professional.
    RppsRang,
    /// Prefix 5: FINESS of a legal entity.
    FinessJuridique,
    /// Prefix 6: FINESS of a geographic site.
    FinessGeographique,
}

impl StructureKind {
    fn of(prefix: char) -> Option<Self> {
        Some(match prefix {
            '0' => Self::Adeli,
            '1' => Self::Finess,
            '3' => Self::Siret,
            '4' => Self::RppsRang,
            '5' => Self::FinessJuridique,
            '6' => Self::FinessGeographique,
            _ => return None,
        })
    }

    /// How many characters the number has.
    fn lengths(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Adeli | Self::Finess | Self::FinessJuridique | Self::FinessGeographique => 9..=9,
            Self::Siret => 14..=14,
            // The RPPS number (11), then the rank of the practice.
            Self::RppsRang => 13..=14,
        }
    }

    /// What administrators call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Adeli => "ADELI",
            Self::Finess => "FINESS",
            Self::Siret => "SIRET",
            Self::RppsRang => "RPPS-rang",
            Self::FinessJuridique => "FINESS juridique",
            Self::FinessGeographique => "FINESS géographique",
        }
    }
}

impl StructureId {
    /// Reads an OU; `None` when it is something else, such as `IGC-SANTE`.
    #[must_use]
    pub fn parse(organizational_unit: &str) -> Option<Self> {
        let mut characters = organizational_unit.trim().chars();
        let kind = StructureKind::of(characters.next()?)?;
        let number = characters.as_str();
        // Corsican FINESS numbers start with 2A or 2B.
        let is_number = number.chars().all(|c| c.is_ascii_digit())
            || (number.starts_with("2A") || number.starts_with("2B"))
                && number.chars().skip(2).all(|c| c.is_ascii_digit());
        (is_number && kind.lengths().contains(&number.len())).then(|| Self {
            kind,
            number: number.to_owned(),
        })
    }

    /// What kind of number it is.
    #[must_use]
    pub fn kind(&self) -> StructureKind {
        self.kind
    }

    /// The number without its prefix.
    #[must_use]
    pub fn number(&self) -> &str {
        &self.number
    }
}

impl fmt::Display for StructureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.number)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_first_digit_says_what_the_number_is() {
        for (text, kind, number) in [
            ("318751275100020", StructureKind::Siret, "18751275100020"),
            ("1750712184", StructureKind::Finess, "750712184"),
            ("5750712184", StructureKind::FinessJuridique, "750712184"),
            ("62A0000014", StructureKind::FinessGeographique, "2A0000014"),
            ("41000123456701", StructureKind::RppsRang, "1000123456701"),
            ("410001234567001", StructureKind::RppsRang, "10001234567001"),
            ("0123456789", StructureKind::Adeli, "123456789"),
        ] {
            let id = StructureId::parse(text).unwrap();
            assert_eq!((id.kind(), id.number()), (kind, number), "{text}");
        }
        assert_eq!(
            StructureId::parse("318751275100020").unwrap().to_string(),
            "SIRET 18751275100020"
        );
    }

    #[test]
    fn other_units_are_no_structures() {
        for text in [
            "",
            "3",
            "IGC-SANTE",
            "0002 187512751",
            "31875127510002X",
            "2187512751",
            "31875127510002",
        ] {
            assert_eq!(StructureId::parse(text), None, "{text}");
        }
    }
}
