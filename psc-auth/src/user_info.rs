//! UserInfo: what PSC says of a professional. Every field is optional, an odd type makes a field absent and never
//! the whole answer; but the answer must be of the user it was asked for.

use std::fmt;

use http::header;
use secrecy::SecretString;
use serde_json::Value;

use crate::claims::Claims;
use crate::error::{Endpoint, PscError};
use crate::id_token::national_id;
use crate::identity::{NationalId, Rpps};
use crate::practice::{Exercice, Situation, SituationId, situations};
use crate::provider::Provider;
use crate::token_fault::{TokenFault, TokenKind};

/// A professional. Empty texts of PSC are `None`; `Debug` shows no name.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserInfo {
    /// Technical subject.
    pub sub: String,
    /// `SubjectNameID`, else `preferred_username`.
    pub national_id: Option<NationalId>,
    /// `given_name`.
    pub given_name: Option<String>,
    /// `family_name`.
    pub family_name: Option<String>,
    /// `email_verified`.
    pub email_verified: Option<bool>,
    /// `UITVersion`: version of this form of answer.
    pub version: Option<String>,
    /// `PSI_Locale`: the place of identification, an OID.
    pub locale: Option<String>,
    /// `Mode_Acces_Raison`: why access is asked for outside of the usual.
    pub access_reason: Option<String>,
    /// `Acces_Regulation_Medicale`: whether it is asked for by a medical dispatch centre, `FAUX` otherwise.
    pub dispatch_access: Option<String>,
    /// `SubjectRole`, `code^system` each.
    pub roles: Vec<String>,
    /// `SubjectOrganization`: name of the first structure.
    pub organization: Option<String>,
    /// `SubjectOrganizationID`: technical id of the first structure.
    pub organization_id: Option<String>,
    /// `Secteur_Activite`, `code^system`.
    pub sector: Option<String>,
    /// `Palier_Authentification`, `code^system`.
    pub authentication_level: Option<String>,
    /// `otherIds`.
    pub other_ids: Vec<OtherId>,
    /// `SubjectRefPro.codeCivilite`.
    pub title: Option<String>,
    /// `SubjectRefPro.exercices`.
    pub exercices: Vec<Exercice>,
}

impl fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserInfo")
            .field("national_id", &self.national_id)
            .field("exercices", &self.exercices)
            .finish_non_exhaustive()
    }
}

/// One of `otherIds`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherId {
    /// `identifiant`.
    pub id: NationalId,
    /// `origine`: `RPPS`, for instance.
    pub origin: Option<String>,
    /// `qualite`: a number, 1 was seen.
    pub quality: Option<i64>,
}

impl UserInfo {
    const MOST_EXERCICES: usize = 50;
    const MOST_OF_OTHERS: usize = 50;

    /// Reads a JSON answer.
    ///
    /// # Errors
    /// When it is not a JSON object or has no `sub`.
    pub fn parse(json: &[u8]) -> Result<Self, PscError> {
        let claims = Claims::parse(json).map_err(|_| malformed("not a JSON object"))?;
        Self::read(&claims)
    }

    fn read(claims: &Claims) -> Result<Self, PscError> {
        let get = |name| claims.get(name).and_then(as_text);
        let list = |name, most| {
            claims
                .get(name)
                .into_iter()
                .flat_map(move |v| elements(v, most))
        };
        let professional = claims.get("SubjectRefPro").unwrap_or(&Value::Null);
        Ok(Self {
            sub: claims
                .text("sub")
                .ok_or_else(|| malformed("`sub` is missing"))?
                .to_owned(),
            national_id: national_id(claims),
            given_name: get("given_name"),
            family_name: get("family_name"),
            email_verified: claims.get("email_verified").and_then(Value::as_bool),
            version: get("UITVersion"),
            locale: get("PSI_Locale"),
            access_reason: get("Mode_Acces_Raison"),
            dispatch_access: get("Acces_Regulation_Medicale"),
            roles: list("SubjectRole", Self::MOST_OF_OTHERS)
                .filter_map(as_text)
                .collect(),
            organization: get("SubjectOrganization"),
            organization_id: get("SubjectOrganizationID"),
            sector: get("Secteur_Activite"),
            authentication_level: get("Palier_Authentification"),
            other_ids: list("otherIds", Self::MOST_OF_OTHERS)
                .filter_map(OtherId::read)
                .collect(),
            title: text(professional, "codeCivilite"),
            exercices: professional
                .list("exercices", Self::MOST_EXERCICES)
                .map(Exercice::read)
                .collect(),
        })
    }

    /// The RPPS number: from the national id, else from `otherIds`.
    #[must_use]
    pub fn rpps(&self) -> Option<Rpps> {
        let national = self.national_id.as_ref().and_then(NationalId::rpps);
        national.or_else(|| {
            self.other_ids
                .iter()
                .filter(|other| other.origin.as_deref() == Some("RPPS"))
                .find_map(|other| other.id.rpps())
        })
    }

    /// The ways in which the professional may act: with more than one, the user chooses.
    #[must_use]
    pub fn situations(&self) -> Vec<Situation<'_>> {
        situations(&self.exercices)
    }

    /// The situation with this id, as a form brings it back; `None` when there is none.
    #[must_use]
    pub fn situation(&self, id: &str) -> Option<Situation<'_>> {
        self.situations()
            .into_iter()
            .find(|situation| situation.id.to_string() == id)
    }

    /// The only situation there is; `None` when the user has to choose or has none.
    #[must_use]
    pub fn only_situation(&self) -> Option<SituationId> {
        match self.situations().as_slice() {
            [one] => Some(one.id),
            _ => None,
        }
    }
}

impl OtherId {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            id: NationalId::parse(&text(value, "identifiant")?).ok()?,
            origin: text(value, "origine"),
            quality: value.get("qualite").and_then(Value::as_i64),
        })
    }
}

impl Provider {
    /// Asks UserInfo with this token about the user `sub`. A signed answer must be for `client`, where that is known.
    pub(crate) async fn user_info(
        &self,
        token: &SecretString,
        sub: &str,
        client: Option<&str>,
    ) -> Result<UserInfo, PscError> {
        let known = self.known().await?;
        let url = known.metadata.needs(Endpoint::UserInfo)?;
        let answer = self.get(Endpoint::UserInfo, url, Some(token)).await?;
        let media_type = answer
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let info = match media_type.as_str() {
            "application/json" => UserInfo::parse(&answer.body)?,
            "application/jwt" => self.signed_user_info(&answer.body, client).await?,
            _ => return Err(malformed("neither JSON nor a JWT")),
        };
        // OpenID Connect Core §5.3.2: without this, a token could be swapped for another user's.
        if info.sub != sub {
            return Err(PscError::OtherUser);
        }
        Ok(info)
    }

    async fn signed_user_info(
        &self,
        body: &[u8],
        client: Option<&str>,
    ) -> Result<UserInfo, PscError> {
        let refused = |fault| PscError::Token {
            token: TokenKind::UserInfo,
            fault,
        };
        let token = std::str::from_utf8(body).map_err(|_| malformed("not a JWT"))?;
        let token = token.trim();
        if token.bytes().filter(|byte| *byte == b'.').count() == 4 {
            return Err(PscError::EncryptedUserInfo);
        }
        let claims = self.verify_signature(TokenKind::UserInfo, token).await?;
        if claims.text("iss") != Some(&self.settings.issuer) {
            return Err(refused(TokenFault::Mismatch("iss")));
        }
        if client.is_some_and(|client| !claims.audience_has(client)) {
            return Err(refused(TokenFault::Mismatch("aud")));
        }
        UserInfo::read(&claims)
    }
}

fn malformed(what: &'static str) -> PscError {
    PscError::Malformed {
        endpoint: Endpoint::UserInfo,
        what,
    }
}

/// Members read without complaint.
pub(crate) trait Lenient {
    /// The elements of a list, up to `most`; none when it is no list.
    fn list<'a>(&'a self, name: &str, most: usize) -> impl Iterator<Item = &'a Value>;
}

impl Lenient for Value {
    fn list<'a>(&'a self, name: &str, most: usize) -> impl Iterator<Item = &'a Value> {
        self.get(name)
            .into_iter()
            .flat_map(move |value| elements(value, most))
    }
}

/// The text of a member; `None` when it is missing, empty or no text.
pub(crate) fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(as_text)
}

fn elements(value: &Value, most: usize) -> impl Iterator<Item = &Value> {
    value
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .take(most)
}

/// Codes were seen as texts; a number in their place is taken as one.
fn as_text(value: &Value) -> Option<String> {
    const LONGEST: usize = 512;
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty() && text.len() <= LONGEST).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::practice::Activity;

    /// The shape of an answer of the sandbox: a physician with a practice of their own and a hospital.
    fn physician() -> Value {
        json!({
            "sub": "f:0:899700000017", "SubjectNameID": "899700000017",
            "preferred_username": "899700000017", "email_verified": false,
            "given_name": "KIT", "family_name": "DOC", "SubjectRole": ["10^1.2.250.1.213.1.1.5.5"],
            "otherIds": [{"identifiant": "899700000017", "origine": "RPPS", "qualite": 1}],
            "SubjectRefPro": {"codeCivilite": "M", "exercices": [{
                "codeProfession": "10", "codeCategorieProfessionnelle": "C", "codeSavoirFaire": "SM44",
                "activities": [
                    {"codeModeExercice": "L", "numeroSiretSite": "", "ancienIdentifiantDeLaStructure": "499700000017007"},
                    {"codeModeExercice": "S", "numeroFinessSite": "0B0172805", "ancienIdentifiantDeLaStructure": ""}
                ]
            }]}
        })
    }

    fn parse(value: &Value) -> UserInfo {
        UserInfo::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn an_answer_as_of_the_sandbox_is_read() {
        let info = parse(&physician());
        assert_eq!(info.rpps().unwrap().as_str(), "99700000017");
        let situations = info.situations();
        assert_eq!(situations.len(), 2);
        assert_eq!(info.only_situation(), None);
        let chosen = info.situation("0-1").unwrap();
        assert_eq!(
            chosen.activity.unwrap().structure_id().unwrap(),
            "10B0172805"
        );
        assert_eq!(chosen.activity.unwrap().siret, None);
        assert!(info.situation("0-2").is_none() && info.situation("0").is_none());
    }

    /// Every member that PSC was seen to send, with values of our own.
    const COMPLETE: &str = include_str!("../tests/data/userinfo.json");

    #[test]
    fn every_member_of_a_complete_answer_is_read() {
        let info = UserInfo::parse(COMPLETE.as_bytes()).unwrap();
        assert_eq!(
            info.sub,
            "f:550dc1c8-d97b-4b1e-ac8c-8eb4471cf9dd:899700000033"
        );
        assert_eq!(info.national_id.as_ref().unwrap().as_str(), "899700000033");
        assert_eq!(info.email_verified, Some(false));
        for (read, expected) in [
            (&info.given_name, "LOUISE"),
            (&info.family_name, "ESSAI-COMPLET"),
            (&info.version, "1.0"),
            (&info.locale, "1.2.250.1.213.1.3.1.1"),
            (&info.access_reason, "URGENCE"),
            (&info.dispatch_access, "FAUX"),
            (&info.organization, "MAISON DES ESSAIS"),
            (&info.organization_id, "R10042"),
            (&info.sector, "SA07^1.2.250.1.71.4.2.4"),
            (
                &info.authentication_level,
                "APPPRIP3^1.2.250.1.213.1.5.1.1.1",
            ),
            (&info.title, "MME"),
        ] {
            assert_eq!(read.as_deref(), Some(expected));
        }
        assert_eq!(info.roles, ["10^1.2.250.1.213.1.1.5.5"]);
        let [other] = &info.other_ids[..] else {
            panic!("one other id")
        };
        assert_eq!(other.id.as_str(), "899700000033");
        assert_eq!(
            (other.origin.as_deref(), other.quality),
            (Some("RPPS"), Some(1))
        );

        let [exercice] = &info.exercices[..] else {
            panic!("one exercise")
        };
        for (read, expected) in [
            (&exercice.profession, "10"),
            (&exercice.category, "C"),
            (&exercice.title, "DR"),
            (&exercice.family_name, "ESSAI-COMPLET"),
            (&exercice.given_name, "LOUISE"),
            (&exercice.skill_kind, "S"),
            (&exercice.skill, "SM44"),
        ] {
            assert_eq!(read.as_deref(), Some(expected));
        }
        let [first, second] = &exercice.activities[..] else {
            panic!("two activities")
        };
        for (read, expected) in [
            (&first.mode, "L"),
            (&first.sector, "SA07"),
            (&first.pharmacist_section, "SP01"),
            (&first.role, "FON-AU"),
            (&first.kind, "GENR01"),
            (&first.siret, "12345678900029"),
            (&first.siren, "123456789"),
            (&first.finess, "750000034"),
            (&first.finess_legal, "750000042"),
            (&first.technical_id, "R10042"),
            (&first.name, "MAISON DES ESSAIS"),
            (&first.trade_name, "IMAGERIE DES ESSAIS"),
            (&first.addressee, "DR ESSAI"),
            (&first.location, "BATIMENT B"),
            (&first.street_number, "12"),
            (&first.street_number_suffix, "T"),
            (&first.street_kind, "R"),
            (&first.street, "DES ESSAIS"),
            (&first.distribution, "BP 7"),
            (&first.town, "75009 PARIS"),
            (&first.postal_code, "75009"),
            (&first.municipality, "75109"),
            (&first.country, "99000"),
            (&first.telephone, "0100000001"),
            (&first.second_telephone, "0100000002"),
            (&first.fax, "0100000003"),
            (&first.email, "essai@example.org"),
            (&first.department, "75"),
            (&first.former_id, "499700000033001"),
            (&first.registrar, "CNOM/CNOM/CNOM"),
        ] {
            assert_eq!(read.as_deref(), Some(expected));
        }
        // Empty texts, as most of them are.
        let bare = Activity {
            mode: Some("S".into()),
            ..Activity::default()
        };
        assert_eq!(*second, bare);
    }

    #[test]
    fn fields_that_are_missing_or_odd_are_absent_and_the_rest_is_read() {
        let mut odd = physician();
        odd["SubjectRole"] = json!("10");
        odd["otherIds"] = json!([
            null, {"identifiant": 899_700_000_017_u64, "origine": "RPPS", "qualite": "1"}, 7,
        ]);
        odd["email_verified"] = json!("yes");
        odd["SubjectNameID"] = json!(null);
        odd["preferred_username"] = json!(["x"]);
        odd["SubjectRefPro"]["exercices"][0]["codeProfession"] = json!(10);
        odd["SubjectRefPro"]["exercices"][0]["activities"] = json!({});
        let info = parse(&odd);
        assert!(info.roles.is_empty());
        assert_eq!(info.national_id, None);
        assert_eq!(info.email_verified, None);
        assert_eq!(info.other_ids[0].quality, None);
        assert_eq!(info.rpps().unwrap().as_str(), "99700000017");
        assert_eq!(info.exercices[0].profession.as_deref(), Some("10"));
        assert_eq!(info.only_situation().unwrap().to_string(), "0");

        let bare = parse(&json!({"sub": "s"}));
        assert!(bare.exercices.is_empty() && bare.situations().is_empty());
        assert!(UserInfo::parse(b"{}").is_err());
    }

    #[test]
    fn endless_lists_are_cut() {
        let mut long = physician();
        long["SubjectRefPro"]["exercices"] = json!(vec![json!({}); 1000]);
        assert_eq!(parse(&long).exercices.len(), UserInfo::MOST_EXERCICES);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = UserInfo::parse(&bytes);
        }

        #[test]
        fn any_type_in_any_place_leaves_the_subject(
            name in prop::sample::select(vec![
                "SubjectNameID", "SubjectRole", "otherIds", "SubjectRefPro", "given_name", "Secteur_Activite",
                "email_verified", "UITVersion",
            ]),
            value in prop::sample::select(vec![
                json!(null), json!(1.5), json!("x"), json!([]), json!({}), json!([[[]]]), json!([{"exercices": 3}]),
                json!({"exercices": [{"activities": [1, "a", null]}]}), json!(true),
            ]),
        ) {
            let mut info = physician();
            info[name] = value;
            prop_assert_eq!(parse(&info).sub, "f:0:899700000017");
        }
    }
}
