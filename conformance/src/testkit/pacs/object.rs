//! One DICOM file as the simulator keeps it.

use std::path::Path;

use bytes::Bytes;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, OpenFileOptions};

use super::KitError;

/// A stored object: its attributes for queries, its data set as it is in the file.
#[derive(Debug, Clone)]
pub struct Object {
    /// Attributes up to the pixel data.
    pub(super) attributes: InMemDicomObject,
    /// SOP Class UID.
    pub sop_class: String,
    /// SOP Instance UID.
    pub sop_instance: String,
    /// Transfer Syntax UID.
    pub transfer_syntax: String,
    /// The data set, encoded in that transfer syntax.
    pub data_set: Bytes,
}

impl Object {
    /// Reads a file (PS3.10 with preamble).
    ///
    /// # Errors
    /// When it cannot be read as DICOM.
    pub fn load(file: &Path) -> Result<Self, KitError> {
        let invalid = |reason: String| KitError::Invalid {
            what: file.display().to_string(),
            reason,
        };
        let bytes = std::fs::read(file).map_err(KitError::io("read", file))?;
        let read = OpenFileOptions::new()
            .read_until(tags::PIXEL_DATA)
            .open_file(file)
            .map_err(|error| invalid(error.to_string()))?;
        let meta = read.meta();
        // Preamble, prefix, and the element (0002,0000) itself come before the group it measures.
        let start = 128 + 4 + 12 + meta.information_group_length as usize;
        if bytes.len() < start {
            return Err(invalid("shorter than its file meta information".into()));
        }
        let trim = |uid: &str| uid.trim_end_matches(['\0', ' ']).to_owned();
        let sop_class = trim(&meta.media_storage_sop_class_uid);
        let sop_instance = trim(&meta.media_storage_sop_instance_uid);
        let transfer_syntax = trim(&meta.transfer_syntax);
        Ok(Self {
            sop_class,
            sop_instance,
            transfer_syntax,
            data_set: Bytes::from(bytes).slice(start..),
            attributes: read.into_inner(),
        })
    }

    /// An attribute as text, without padding; empty when it is absent.
    #[must_use]
    pub fn text(&self, tag: Tag) -> String {
        self.attributes
            .get(tag)
            .and_then(|element| element.to_str().ok())
            .map(|text| text.trim_matches([' ', '\0']).to_owned())
            .unwrap_or_default()
    }
}
