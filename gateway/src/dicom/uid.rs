//! Unique identifiers (DICOM PS3.5 §9.1) as types.
//!
//! A UID that reaches any other module was parsed here: at most 64 characters, components of
//! digits separated by single dots. Nothing else can come from a URL or from the network, so a UID
//! never carries a path separator. UIDs identify exams: they are printed at debug level only.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a UID (PS3.5 §9.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UidError {
    /// Nothing between the delimiters.
    #[error("the UID is empty")]
    Empty,
    /// PS3.5 §9.1: a UID has at most 64 characters.
    #[error("the UID has {0} characters, 64 are allowed")]
    TooLong(usize),
    /// A character that is neither a digit nor a dot, or an empty component.
    #[error("a UID is made of digits and single dots")]
    Malformed,
}

/// Any unique identifier: at most 64 characters, digits and single dots.
///
/// Leading zeros in a component are tolerated: real archives hold such UIDs, and they are matched
/// as text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Box<str>);

impl Uid {
    /// Parses a UID; the padding of PS3.5 (a trailing NUL, or a space as some systems write) is
    /// removed first.
    ///
    /// # Errors
    /// [`UidError`] when what remains is not a UID.
    pub fn parse(text: &str) -> Result<Self, UidError> {
        let text = text.trim_end_matches(['\0', ' ']);
        if text.is_empty() {
            return Err(UidError::Empty);
        }
        if text.len() > 64 {
            return Err(UidError::TooLong(text.len()));
        }
        let well_formed = text
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        if well_formed {
            Ok(Self(text.into()))
        } else {
            Err(UidError::Malformed)
        }
    }

    /// The UID as text, without padding.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Uid {
    type Err = UidError;
    fn from_str(text: &str) -> Result<Self, UidError> {
        Self::parse(text)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! uid_kind {
    ($(#[$doc:meta] $name:ident;)*) => {$(
        #[$doc]
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(Uid);

        impl $name {
            /// Parses the text of the attribute; see [`Uid::parse`].
            ///
            /// # Errors
            /// [`UidError`] when the text is not a UID.
            pub fn parse(text: &str) -> Result<Self, UidError> {
                Uid::parse(text).map(Self)
            }

            /// The UID as text, without padding.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// A UID of the standard that stands in our own text.
            #[must_use]
            pub fn known(uid: &'static str) -> Self {
                Self(Uid(uid.into()))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl From<Uid> for $name {
            fn from(uid: Uid) -> Self {
                Self(uid)
            }
        }

        impl FromStr for $name {
            type Err = UidError;
            fn from_str(text: &str) -> Result<Self, UidError> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

uid_kind! {
    /// Study Instance UID (0020,000D).
    StudyUid;
    /// Series Instance UID (0020,000E).
    SeriesUid;
    /// SOP Instance UID (0008,0018).
    InstanceUid;
    /// SOP Class UID (0008,0016).
    SopClassUid;
    /// Transfer Syntax UID (0002,0010).
    TransferSyntaxUid;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_removed() {
        assert_eq!(
            Uid::parse("1.2.840\0").map(|u| u.to_string()),
            Ok("1.2.840".into())
        );
        assert_eq!(
            Uid::parse("1.2.840 ").map(|u| u.to_string()),
            Ok("1.2.840".into())
        );
    }

    #[test]
    fn what_could_be_a_path_is_not_a_uid() {
        for text in [
            "",
            ".",
            "..",
            "1..2",
            "../1",
            "1/2",
            "1\\2",
            "1.2\u{0}.3",
            "1.2.",
            "%2e",
            "1.a",
        ] {
            assert!(Uid::parse(text).is_err(), "{text:?} was taken for a UID");
        }
        assert_eq!(Uid::parse(&"1".repeat(65)), Err(UidError::TooLong(65)));
    }
}
