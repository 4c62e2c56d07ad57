//! What is said when an association is negotiated: the request, what each side takes, and what a
//! rejection means.

use dicom_ul::pdu::{
    AssociationRJ, AssociationRJServiceProviderPresentationReason as PresentationReason,
    AssociationRJServiceUserReason as UserReason, AssociationRJSource, AssociationRQ,
    PresentationContextProposed, RequestorRoles, UserVariableItem,
};

use super::upper_layer::{APPLICATION_CONTEXT, Local, MAX_SENT_PDU, ProposedContext};
use crate::config::AeTitle;
use crate::dicom::part10::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};

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
