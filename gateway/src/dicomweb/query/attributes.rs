//! What a match holds whether or not it was asked for (PS3.18 §10.6.3.3).

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::Level;

impl Level {
    /// The attributes of every match of this level. The URL of the resource, the availability, and
    /// counts that the archive leaves out are filled in by the gateway.
    ///
    /// A search below a level that its path does not name returns the attributes of that level too
    /// (§10.6.3.3.2, §10.6.3.3.3): see [`super::Query::return_attributes`].
    #[must_use]
    pub fn return_attributes(self) -> &'static [Tag] {
        match self {
            Self::Study => STUDY,
            Self::Series => SERIES,
            Self::Instance => INSTANCE,
        }
    }
}

/// Table 10.6.3-3.
const STUDY: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::INSTANCE_AVAILABILITY,
    tags::MODALITIES_IN_STUDY,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::RETRIEVE_URL,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::STUDY_INSTANCE_UID,
    tags::STUDY_ID,
    tags::NUMBER_OF_STUDY_RELATED_SERIES,
    tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
];

/// Table 10.6.3-4. Request Attributes Sequence comes with the items the archive gives.
const SERIES: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::MODALITY,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::SERIES_DESCRIPTION,
    tags::RETRIEVE_URL,
    tags::SERIES_INSTANCE_UID,
    tags::SERIES_NUMBER,
    tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
    tags::PERFORMED_PROCEDURE_STEP_START_DATE,
    tags::PERFORMED_PROCEDURE_STEP_START_TIME,
    tags::REQUEST_ATTRIBUTES_SEQUENCE,
];

/// Table 10.6.3-5.
const INSTANCE: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::INSTANCE_AVAILABILITY,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::RETRIEVE_URL,
    tags::INSTANCE_NUMBER,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_in_the_order_of_tags_without_repetition() {
        for level in [Level::Study, Level::Series, Level::Instance] {
            assert!(
                level.return_attributes().is_sorted_by(|a, b| a < b),
                "{level:?}"
            );
        }
    }
}
