//! What is said when an association is negotiated: the request, what each side takes, and what a
//! rejection means.

use dicom_ul::pdu::{
    AssociationRJ, AssociationRJServiceProviderPresentationReason as PresentationReason,
    AssociationRJServiceUserReason as UserReason, AssociationRJSource, AssociationRQ,
    PresentationContextProposed, RequestorRoles, UserVariableItem,
};

use super::upper_layer::{APPLICATION_CONTEXT, Local, MAX_SENT_PDU, ProposedContext, trim_uid};
use crate::config::AeTitle;
use crate::dicom::part10::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};

/// What a query may use, asked for and answered in the SOP class extended negotiation (PS3.7
/// §D.3.3.5, fields of PS3.4 §C.5.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct QueryAbilities {
    /// Queries that do not name every parent.
    pub relational: bool,
    /// A range of dates and one of times as one range of moments.
    pub date_time: bool,
    /// Names of persons by their meaning.
    pub fuzzy_names: bool,
}

impl QueryAbilities {
    fn encode(self) -> Vec<u8> {
        [self.relational, self.date_time, self.fuzzy_names]
            .map(u8::from)
            .to_vec()
    }

    /// Fields may be left out at the end; a value that is not defined is no ability.
    fn decode(fields: &[u8]) -> Self {
        let field = |at: usize| fields.get(at) == Some(&1);
        Self {
            relational: field(0),
            date_time: field(1),
            fuzzy_names: field(2),
        }
    }
}

/// What the acceptor said of the SOP classes it answered for.
pub(super) fn peer_abilities(variables: &[UserVariableItem]) -> Vec<(String, QueryAbilities)> {
    let answers = variables.iter().filter_map(|item| match item {
        UserVariableItem::SopClassExtendedNegotiationSubItem(sop_class, fields) => Some((
            trim_uid(sop_class).to_owned(),
            QueryAbilities::decode(fields),
        )),
        _ => None,
    });
    answers.collect()
}

/// The A-ASSOCIATE-RQ that proposes these contexts (PS3.8 §9.3.2).
pub(super) fn association_request(
    local: &Local<'_>,
    called: &AeTitle,
    proposed: &[ProposedContext],
) -> AssociationRQ {
    let mut variables = user_variables(local.max_pdu);
    let mut with_role: Vec<&str> = Vec::new();
    for context in proposed.iter().filter(|context| context.peer_sends) {
        if !with_role.contains(&context.abstract_syntax.as_ref()) {
            with_role.push(&context.abstract_syntax);
            // PS3.7 annex D.3.3.4: we are SCP of these, the acceptor is SCU.
            let roles = RequestorRoles {
                scu: false,
                scp: true,
            };
            variables.push(UserVariableItem::ScuScpRoleSelectionSubItem(
                context.abstract_syntax.to_string(),
                roles,
            ));
        }
    }
    for context in proposed {
        if let Some(abilities) = context.extended {
            variables.push(UserVariableItem::SopClassExtendedNegotiationSubItem(
                context.abstract_syntax.to_string(),
                abilities.encode(),
            ));
        }
    }
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: local.ae_title.to_string(),
        called_ae_title: called.to_string(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: proposed
            .iter()
            .zip((1..=255_u8).step_by(2))
            .map(|(context, id)| PresentationContextProposed {
                id,
                abstract_syntax: context.abstract_syntax.to_string(),
                transfer_syntaxes: context
                    .transfer_syntaxes
                    .iter()
                    .map(|&syntax| syntax.to_owned())
                    .collect(),
            })
            .collect(),
        user_variables: variables,
    }
}

/// What this side says of itself (PS3.8 annex D, PS3.7 annex D).
pub(super) fn user_variables(max_pdu: u32) -> Vec<UserVariableItem> {
    vec![
        UserVariableItem::MaxLength(max_pdu),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()),
    ]
}

/// Largest PDU the peer takes. PS3.8 annex D.1: zero means no limit.
pub(super) fn peer_max_pdu(variables: &[UserVariableItem]) -> usize {
    variables
        .iter()
        .find_map(|item| match item {
            UserVariableItem::MaxLength(0) => Some(MAX_SENT_PDU),
            UserVariableItem::MaxLength(length) => usize::try_from(*length).ok(),
            _ => None,
        })
        .unwrap_or(16_384)
}

/// Why a PACS rejected an association, and what to do.
pub(super) fn explain_rejection(
    rejection: &AssociationRJ,
    calling: &AeTitle,
    called: &AeTitle,
) -> (String, &'static str) {
    match &rejection.source {
        AssociationRJSource::ServiceUser(UserReason::CallingAETitleNotRecognized) => (
            format!("calling AE title {calling} not recognised"),
            "Add it to the PACS's list of known applications",
        ),
        AssociationRJSource::ServiceUser(UserReason::CalledAETitleNotRecognized) => (
            format!("called AE title {called} not recognised"),
            "Correct `ae_title` of this PACS in the configuration",
        ),
        AssociationRJSource::ServiceProviderPresentation(
            PresentationReason::TemporaryCongestion | PresentationReason::LocalLimitExceeded,
        ) => (
            "too many associations at the PACS".to_owned(),
            "Lower `max_associations` of this PACS, or raise the PACS's limit",
        ),
        other => (other.to_string(), "Look into the log of the PACS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_peer_leaves_out_it_does_not_do() {
        let all = QueryAbilities {
            relational: true,
            date_time: true,
            fuzzy_names: true,
        };
        assert_eq!(QueryAbilities::decode(&all.encode()), all);
        assert_eq!(
            QueryAbilities::decode(&[1]),
            QueryAbilities {
                relational: true,
                ..QueryAbilities::default()
            }
        );
        assert_eq!(QueryAbilities::decode(&[]), QueryAbilities::default());
        assert_eq!(
            QueryAbilities::decode(&[0, 2, 0xFF, 1, 1]),
            QueryAbilities::default()
        );
    }
}
