//! The requests of a consumer: RAD-107 as DRIM-M writes it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::token::{AccessToken, TokenError};
use crate::dicom::uid::InstanceUid;

/// Names the KOS that a consumer works from.
pub const KOS_SOP_INSTANCE_UID: HeaderName = HeaderName::from_static("kos-sopinstanceuid");

macro_rules! accept {
    ($($uid:literal $q:literal),*) => {
        concat!($(
            "multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.",
            $uid, ";q=", $q, ";boundary=**,"
        ),*)
    };
}

/// Which form of images is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// Compressed without loss, the safer profile.
    #[default]
    Lossless,
    /// Compressed with loss: less to transfer.
    Lossy,
}

impl Preference {
    /// The value of `Accept`: that of the DRIM-M examples, to the last comma.
    #[must_use]
    pub fn accept(self) -> &'static str {
        match self {
            Self::Lossless => accept!(
                "4.70" "0.9", "4.80" "0.8", "4.91" "0.6", "4.50" "0.5", "4.51" "0.5",
                "4.100" "0.5", "4.101" "0.5", "4.102" "0.5", "4.103" "0.5", "1" "0.4"
            ),
            Self::Lossy => accept!(
                "4.50" "0.9", "4.51" "0.9", "4.70" "0.6", "4.80" "0.5", "4.91" "0.5",
                "4.100" "0.5", "4.101" "0.5", "4.102" "0.5", "4.103" "0.5", "1" "0.4"
            ),
        }
    }
}

/// What is asked for when a source can send nothing of the list: the syntax that every source has.
pub const UNCOMPRESSED: &str = accept!("1" "1.0");

/// The header fields of a request besides the usual ones.
pub(super) fn fields(token: &AccessToken, kos: &InstanceUid) -> Result<HeaderMap, TokenError> {
    let mut fields = HeaderMap::new();
    if let Some(token) = token.header()? {
        fields.insert(header::AUTHORIZATION, token);
    }
    let kos = HeaderValue::from_str(kos.as_str()).map_err(|_| TokenError::Unusable)?;
    fields.insert(KOS_SOP_INSTANCE_UID, kos);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_lists_are_those_of_the_specification() {
        let list = Preference::Lossless.accept();
        assert!(list.starts_with(
            "multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.70;\
             q=0.9;boundary=**,multipart/related; type="
        ));
        assert!(list.ends_with("transfer-syntax=1.2.840.10008.1.2.1;q=0.4;boundary=**,"));
        for list in [Preference::Lossless, Preference::Lossy].map(Preference::accept) {
            assert_eq!(list.matches("boundary=**,").count(), 10);
        }
    }

    /// Over the samples of the ANS, where `DRIMBOX_ANS_DATA` names a folder that has them.
    #[test]
    fn the_list_is_that_of_the_published_request() {
        let Some(folder) = std::env::var_os("DRIMBOX_ANS_DATA") else {
            eprintln!("skipped: DRIMBOX_ANS_DATA names no folder with the samples of the ANS");
            return;
        };
        let file = std::path::Path::new(&folder).join("wado-rs/request-series.txt");
        let text = std::fs::read_to_string(file).unwrap();
        let accept = text.lines().find_map(|line| line.strip_prefix("Accept:"));
        assert_eq!(accept.unwrap().trim_end(), Preference::Lossless.accept());
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split(':').next())
            .collect();
        assert!(
            names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(KOS_SOP_INSTANCE_UID.as_str()))
        );
    }
}
