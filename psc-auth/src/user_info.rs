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
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

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

    #[test]
    fn fields_that_are_missing_or_odd_are_absent_and_the_rest_is_read() {
        let mut odd = physician();
        odd["SubjectRole"] = json!("10");
        odd["otherIds"] = json!([null, {"identifiant": 899_700_000_017_u64, "origine": "RPPS"}, 7]);
        odd["SubjectNameID"] = json!(null);
        odd["preferred_username"] = json!(["x"]);
        odd["SubjectRefPro"]["exercices"][0]["codeProfession"] = json!(10);
        odd["SubjectRefPro"]["exercices"][0]["activities"] = json!({});
        let info = parse(&odd);
        assert!(info.roles.is_empty());
        assert_eq!(info.national_id, None);
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
