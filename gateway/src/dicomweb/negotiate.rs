//! In what form a resource is answered (PS3.18 §8.7): what the client accepts against what can
//! be produced.
//!
//! What is stored is sent unchanged whenever the client accepts it, but for implicit VR and big
//! endian, which shall not be used with web services (§8.7.3). Otherwise pixels are transcoded: to a
//! syntax without loss, or to a lossy one that the client names. What cannot be made is refused,
//! never replaced by something else.

use std::sync::Arc;

use super::accept::{Accept, MediaRange, TransferSyntaxRange, Weight};
use super::multipart::DICOM_XML;
use super::problem::Problem;
use crate::dicom::uid::TransferSyntaxUid;
use crate::pixels::{available_targets, is_video, lossy_targets};

/// Explicit VR Little Endian.
pub const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// Implicit VR Little Endian and Explicit VR Big Endian: never sent.
const NOT_FOR_WEB: [&str; 2] = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"];
/// Deflated Explicit VR Little Endian: inflated for a client that does not name it.
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

/// What is done with one stored instance for this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Sent as stored.
    AsStored,
    /// An uncompressed data set, written again in Explicit VR Little Endian.
    ExplicitVrLittleEndian,
    /// Its pixels written anew in the first of these syntaxes that the image fits, the preferred
    /// one first; never empty.
    Transcoded(Arc<[TransferSyntaxUid]>),
}

/// How instances are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `multipart/related; type="application/dicom"`, a part per instance.
    Multipart,
    /// `application/dicom`: one instance is the whole body.
    SinglePart,
}

/// What an entry that names no transfer syntax asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unnamed {
    /// Explicit VR Little Endian, the default of PS3.18 §8.7.3.3: compressed images are decoded.
    /// Video, for which the standard has no default and nothing a decoder, goes as it is stored.
    #[default]
    ExplicitVrLittleEndian,
    /// The syntax each instance is stored in, for clients that leave the parameter out and expect
    /// the images there are.
    AsStored,
}

/// What a retrieve resource stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retrieved {
    /// One instance: may be answered in either [`Form`].
    Instance,
    /// A series or study: multipart only.
    Several,
}

/// Nothing the client accepts can be produced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAcceptable {
    /// No entry admits DICOM instances.
    #[error("DICOM instances are not among what the client accepts")]
    Instances,
    /// Entries admit instances, but neither in the syntaxes these are stored in nor in those they
    /// can be transcoded to.
    #[error("the client accepts none of the transfer syntaxes that can be had here ({})", .available.join(", "))]
    TransferSyntax {
        /// The syntaxes of the resource and those it can be transcoded to, each once, in order.
        available: Vec<String>,
    },
    /// Neither JSON nor XML is accepted for what both can say.
    #[error("neither DICOM JSON nor DICOM XML is among what the client accepts")]
    Model,
    /// Bytes are not accepted for what is bytes.
    #[error("bulk data are not among what the client accepts")]
    Octets,
}

impl NotAcceptable {
    /// No accepted syntax among those that instances stored in these can be had in.
    pub fn transfer_syntax<'a>(stored: impl IntoIterator<Item = &'a TransferSyntaxUid>) -> Self {
        let mut available = Vec::new();
        for stored in stored {
            if !NOT_FOR_WEB.contains(&stored.as_str()) {
                available.push(stored.as_str().to_owned());
            }
            let targets = available_targets(stored)
                .iter()
                .chain(lossy_targets(stored));
            available.extend(targets.map(|uid| uid.as_str().to_owned()));
        }
        available.sort_unstable();
        available.dedup();
        Self::TransferSyntax { available }
    }
}

impl From<NotAcceptable> for Problem {
    fn from(reason: NotAcceptable) -> Self {
        let remedy = match reason {
            NotAcceptable::Instances | NotAcceptable::TransferSyntax { .. } => {
                "ask for the images as they are stored: Accept: multipart/related; type=\"application/dicom\"; transfer-syntax=*"
            }
            NotAcceptable::Model => "ask for Accept: application/dicom+json",
            NotAcceptable::Octets => {
                "ask for Accept: multipart/related; type=\"application/octet-stream\""
            }
        };
        Self::not_acceptable(reason.to_string(), remedy)
    }
}

/// What a client accepts of DICOM instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceEncoding {
    multipart: Option<Syntaxes>,
    single: Option<Syntaxes>,
    unnamed: Unnamed,
}

/// Chooses how instances can be answered, before it is known how they are stored.
///
/// No entry at all counts as `*/*`.
///
/// # Errors
/// [`NotAcceptable::Instances`] when no entry admits instances in a form this resource has.
pub fn negotiate_instances(
    accept: &Accept,
    resource: Retrieved,
    unnamed: Unnamed,
) -> Result<InstanceEncoding, NotAcceptable> {
    let multipart = Syntaxes::collect(accept, Form::Multipart);
    let single = match resource {
        Retrieved::Instance => Syntaxes::collect(accept, Form::SinglePart),
        Retrieved::Several => None,
    };
    if multipart.is_none() && single.is_none() {
        return Err(NotAcceptable::Instances);
    }
    Ok(InstanceEncoding {
        multipart,
        single,
        unnamed,
    })
}

impl InstanceEncoding {
    /// What to do with an instance of a multipart answer; `None`: this one cannot be sent.
    #[must_use]
    pub fn part(&self, stored: &TransferSyntaxUid) -> Option<Delivery> {
        let (delivery, _) = self.multipart.as_ref()?.deliver(stored, self.unnamed)?;
        Some(delivery)
    }

    /// Form and handling of an answer of one instance, by the greater weight; multipart when the
    /// client has no preference.
    #[must_use]
    pub fn single(&self, stored: &TransferSyntaxUid) -> Option<(Form, Delivery)> {
        let of = |syntaxes: &Option<Syntaxes>| {
            syntaxes
                .as_ref()
                .and_then(|known| known.deliver(stored, self.unnamed))
        };
        match (of(&self.multipart), of(&self.single)) {
            (Some((_, many)), Some((delivery, one))) if one > many => {
                Some((Form::SinglePart, delivery))
            }
            (Some((delivery, _)), _) => Some((Form::Multipart, delivery)),
            (None, Some((delivery, _))) => Some((Form::SinglePart, delivery)),
            (None, None) => None,
        }
    }
}

/// The media type of metadata and search results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelType {
    /// `application/dicom+json`.
    DicomJson,
    /// `application/json`, for a client that accepts only this name of it.
    Json,
    /// `multipart/related; type="application/dicom+xml"`.
    Xml,
}

impl ModelType {
    /// The media type of the body, or of each of its parts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DicomJson => "application/dicom+json",
            Self::Json => "application/json",
            Self::Xml => DICOM_XML,
        }
    }
}

/// Chooses the media type of metadata (PS3.18 §10.4.4) and search results (§10.6.4): JSON unless XML
/// is preferred, also for a client that did not say.
///
/// # Errors
/// [`NotAcceptable::Model`].
pub fn negotiate_model(accept: &Accept) -> Result<ModelType, NotAcceptable> {
    if accept.entries.is_empty() {
        return Ok(ModelType::DicomJson);
    }
    let weight = |sub| {
        let covering = accept
            .entries
            .iter()
            .filter(|entry| entry.media.covers("application", sub));
        most_precise(covering.map(|entry| (entry.media.precision(), entry.weight)))
    };
    // Also under its bare name, which is not in the standard's list but leaves no doubt.
    let xml = accept.entries.iter().filter_map(|entry| {
        let bare = entry.media.precision() == 2 && entry.media.covers("application", "dicom+xml");
        let precision = parts(entry, "application", "dicom+xml").or(bare.then_some(2))?;
        Some((precision, entry.weight))
    });
    // JSON stands before the other name of it, and both before XML.
    let offers = [
        (ModelType::DicomJson, weight("dicom+json")),
        (ModelType::Json, weight("json")),
        (ModelType::Xml, most_precise(xml)),
    ];
    let mut best = None;
    for (model, weight) in offers {
        let weight = weight.unwrap_or(Weight::NONE);
        if weight > best.map_or(Weight::NONE, |(_, weight)| weight) {
            best = Some((model, weight));
        }
    }
    best.map(|(model, _)| model).ok_or(NotAcceptable::Model)
}

/// How bulk data are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkForm {
    /// `multipart/related; type="application/octet-stream"`.
    Multipart,
    /// `application/octet-stream`: the value is the whole body.
    SinglePart,
}

impl BulkForm {
    /// A name of the form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Multipart => "multipart",
            Self::SinglePart => "single",
        }
    }
}

/// Chooses how a value is wrapped: in a part, unless the client prefers the bare value.
///
/// # Errors
/// [`NotAcceptable::Octets`].
pub fn negotiate_bulk(accept: &Accept) -> Result<BulkForm, NotAcceptable> {
    if accept.entries.is_empty() {
        return Ok(BulkForm::Multipart);
    }
    let one = octets(accept).filter(|entry| entry.media.covers("application", "octet-stream"));
    let one = one.map(|entry| (entry.media.precision(), entry.weight));
    let one = most_precise(one).unwrap_or(Weight::NONE);
    match octets_in_parts(accept) {
        many if one > many => Ok(BulkForm::SinglePart),
        many if many > Weight::NONE => Ok(BulkForm::Multipart),
        _ => Err(NotAcceptable::Octets),
    }
}

/// Whether several values, which are parts, are accepted.
///
/// # Errors
/// [`NotAcceptable::Octets`].
pub fn negotiate_bulk_parts(accept: &Accept) -> Result<(), NotAcceptable> {
    if accept.entries.is_empty() || octets_in_parts(accept) > Weight::NONE {
        return Ok(());
    }
    Err(NotAcceptable::Octets)
}

/// Weight of `multipart/related` with parts of octets.
fn octets_in_parts(accept: &Accept) -> Weight {
    let many = octets(accept).filter_map(|entry| {
        let precision = parts(entry, "application", "octet-stream")?;
        Some((precision, entry.weight))
    });
    most_precise(many).unwrap_or(Weight::NONE)
}

/// The entries that may mean octets, which have no transfer syntax but the one that values are in by
/// themselves.
fn octets(accept: &Accept) -> impl Iterator<Item = &MediaRange> {
    let entries = accept.entries.iter();
    entries.filter(|entry| match &entry.transfer_syntax {
        TransferSyntaxRange::Named(uid) => uid.as_str() == EXPLICIT_VR_LITTLE_ENDIAN,
        TransferSyntaxRange::Any | TransferSyntaxRange::Unnamed => true,
    })
}

/// Whether an entry admits `multipart/related` with parts of this type, and how precisely it says so
/// (0 to 5).
fn parts(entry: &MediaRange, main: &str, sub: &str) -> Option<u8> {
    if !entry.media.covers("multipart", "related") {
        return None;
    }
    let parts = match &entry.parts {
        // Without `type` the default of the resource is meant.
        None => 0,
        Some(parts) if parts.covers(main, sub) => 1 + parts.precision(),
        Some(_) => return None,
    };
    Some(entry.media.precision() + parts)
}

/// The transfer syntaxes accepted in one form, each with its weight and the precision of the range
/// it came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Syntaxes {
    named: Vec<(TransferSyntaxUid, u8, Weight)>,
    any: Vec<(u8, Weight)>,
    unnamed: Vec<(u8, Weight)>,
    /// The syntaxes in the order in which the client came to speak of them.
    order: Vec<TransferSyntaxUid>,
}

impl Syntaxes {
    /// What the entries say of one form; `None` when they do not admit it at all.
    fn collect(accept: &Accept, form: Form) -> Option<Self> {
        let mut known = Self::default();
        if accept.entries.is_empty() {
            known.unnamed.push((0, Weight::BEST));
            return Some(known);
        }
        for entry in &accept.entries {
            let Some(precision) = admits(entry, form) else {
                continue;
            };
            match &entry.transfer_syntax {
                TransferSyntaxRange::Named(uid) => {
                    known.named.push((uid.clone(), precision, entry.weight));
                    known.order.push(uid.clone());
                }
                TransferSyntaxRange::Any => known.any.push((precision, entry.weight)),
                TransferSyntaxRange::Unnamed => {
                    known.unnamed.push((precision, entry.weight));
                    let explicit = TransferSyntaxUid::known(EXPLICIT_VR_LITTLE_ENDIAN);
                    known.order.push(explicit);
                }
            }
        }
        let weights = known.named.iter().map(|(_, _, weight)| weight);
        let weights = weights.chain(known.any.iter().chain(&known.unnamed).map(|(_, w)| w));
        weights
            .copied()
            .any(|weight| weight > Weight::NONE)
            .then_some(known)
    }

    /// Delivery of an instance stored in `stored`, with the weight it has for the client. As
    /// stored comes first whenever it is acceptable: nothing is written again without need.
    fn deliver(&self, stored: &TransferSyntaxUid, unnamed: Unnamed) -> Option<(Delivery, Weight)> {
        let weight = |syntax: &str| {
            self.weight(syntax, unnamed)
                .filter(|weight| *weight > Weight::NONE)
        };
        let native = NOT_FOR_WEB.contains(&stored.as_str());
        if !native {
            let unnamed = if is_video(stored) {
                Unnamed::AsStored
            } else {
                unnamed
            };
            let weight = self.weight(stored.as_str(), unnamed);
            if let Some(weight) = weight.filter(|weight| *weight > Weight::NONE) {
                return Some((Delivery::AsStored, weight));
            }
        }
        if (native || stored.as_str() == DEFLATED)
            && let Some(weight) = weight(EXPLICIT_VR_LITTLE_ENDIAN)
        {
            return Some((Delivery::ExplicitVrLittleEndian, weight));
        }
        let is_named =
            |syntax: &&TransferSyntaxUid| self.named.iter().any(|(uid, ..)| uid == *syntax);
        let lossy = lossy_targets(stored).iter().filter(is_named);
        let without_loss = available_targets(stored).iter();
        let targets = without_loss
            .map(|syntax| (false, syntax))
            .chain(lossy.map(|syntax| (true, syntax)));
        let mut targets: Vec<_> = targets
            .filter_map(|(loses, syntax)| Some((weight(syntax.as_str())?, loses, syntax)))
            .collect();
        // Of equal weights those without loss, of these the one that the client spoke of first.
        targets.sort_by_key(|(weight, loses, syntax)| {
            (std::cmp::Reverse(*weight), *loses, self.place(syntax))
        });
        let best = targets.first()?.0;
        let targets = targets.into_iter().map(|(.., syntax)| syntax.clone());
        Some((Delivery::Transcoded(targets.collect()), best))
    }

    /// Where the client came to speak of a syntax; after all others of which it did not.
    fn place(&self, syntax: &TransferSyntaxUid) -> usize {
        let place = self.order.iter().position(|named| named == syntax);
        place.unwrap_or(usize::MAX)
    }

    /// Weight of a syntax: by an entry that names it, else by the entries that mean any.
    fn weight(&self, syntax: &str, unnamed: Unnamed) -> Option<Weight> {
        let named = self.named.iter().filter(|(uid, ..)| uid.as_str() == syntax);
        let named = named.map(|(_, precision, weight)| (*precision, *weight));
        let mut any = self.any.clone();
        if unnamed == Unnamed::AsStored || syntax == EXPLICIT_VR_LITTLE_ENDIAN {
            any.extend(&self.unnamed);
        }
        most_precise(named).or_else(|| most_precise(any))
    }
}

/// Whether an entry admits instances in a form, and how precisely it says so (0 to 5).
fn admits(entry: &MediaRange, form: Form) -> Option<u8> {
    match form {
        Form::Multipart => parts(entry, "application", "dicom"),
        Form::SinglePart => entry
            .media
            .covers("application", "dicom")
            .then(|| entry.media.precision()),
    }
}

/// Of several statements the most precise counts (RFC 9110 §12.5.1); of equals the greatest
/// weight, because a client that lists an entry twice wants it.
fn most_precise(statements: impl IntoIterator<Item = (u8, Weight)>) -> Option<Weight> {
    statements.into_iter().max().map(|(_, weight)| weight)
}

#[cfg(test)]
mod tests;
