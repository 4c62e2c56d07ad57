//! Where the images of an exam are, as a KOS says, and whether anything may be sent there.
//!
//! A forged KOS must not be able to send the token of a professional anywhere but to a DRIMbox of the
//! verified white list, nor to make the gateway ask machines of its own network. Everything is decided
//! here before a name is resolved.

use url::{Host, Url};

use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

/// Longest Retrieve URL that is read, bytes.
const MAX_URL: usize = 2_048;

/// Who knows the DRIMboxes of the network.
pub trait PeerDirectory: Send + Sync + 'static {
    /// Whether this host name, in lower case, is a `db` name of the white list that was verified last.
    fn lists(&self, db_host: &str) -> Listed;
}

/// What the white list says of a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// It is a `db` name.
    Yes,
    /// It is none.
    No,
    /// There is no list that can be trusted now, and why.
    Unknown(String),
}

/// Why nothing is sent where a KOS says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// No series says where it is.
    #[error("no series has a Retrieve URL (0008,1190)")]
    Missing,
    /// It is no URL, or too long.
    #[error(
        "a Retrieve URL is not an absolute URL of at most {MAX_URL} printable ASCII characters"
    )]
    Malformed,
    /// Another scheme than https.
    #[error("a Retrieve URL has another scheme than https")]
    NotHttps,
    /// User name or password in the URL.
    #[error("a Retrieve URL has a user name or a password")]
    UserInfo,
    /// An address in place of a name.
    #[error("a Retrieve URL has an IP address in place of a host name")]
    Address,
    /// A port that is not configured.
    #[error("a Retrieve URL has port {0}; add it to `consumer.ports` if it is right")]
    Port(u16),
    /// A query or a fragment.
    #[error("a Retrieve URL has a query or a fragment")]
    Query,
    /// The path does not end with the study and the series of the item it stands in.
    #[error("a Retrieve URL leads to another study or series than the one it stands for")]
    OtherPath,
    /// The host is not in the white list.
    #[error("the host {0} is not a `db` name of the white list")]
    NotListed(String),
    /// There is no list to look into.
    #[error("whether {host} is in the white list cannot be told: {reason}")]
    NoList {
        /// Host.
        host: String,
        /// Why.
        reason: String,
    },
}

impl LocationError {
    pub(super) fn french(&self) -> String {
        match self {
            Self::Missing => "il ne dit pas où sont les images".into(),
            Self::NotListed(host) => {
                format!("il désigne {host}, qui n'est pas une DRIMbox de la liste blanche")
            }
            Self::NoList { .. } => "la liste blanche des DRIMbox n'est pas disponible".into(),
            Self::Port(port) => format!("il désigne le port {port}, qui n'est pas admis"),
            Self::OtherPath => "il mélange plusieurs examens".into(),
            _ => "l'adresse des images qu'il donne n'est pas admise".into(),
        }
    }
}

/// Where a series is: an address that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesLocation {
    host: String,
    port: u16,
    path: String,
}

impl SeriesLocation {
    /// Reads the Retrieve URL of a series.
    ///
    /// Any path is taken before `/studies/{study}`, which must name the study, and the series where it
    /// names one. What a URL of an instance says beyond is left out: series are asked for.
    ///
    /// # Errors
    /// [`LocationError`]; nothing may be sent there.
    pub fn parse(
        text: &str,
        study: &StudyUid,
        series: &SeriesUid,
        ports: &[u16],
        directory: &dyn PeerDirectory,
    ) -> Result<Self, LocationError> {
        // The parser of URLs forgives what a genuine one never has: blanks, ends of lines, backslashes.
        let plain = text.len() <= MAX_URL
            && text
                .bytes()
                .all(|byte| byte > b' ' && byte != 0x7f && byte != b'\\');
        if !plain {
            return Err(LocationError::Malformed);
        }
        let url = Url::parse(text).map_err(|_| LocationError::Malformed)?;
        if url.scheme() != "https" {
            return Err(LocationError::NotHttps);
        }
        // Also an empty one, of which the parser says nothing.
        let authority = text.split('/').nth(2).unwrap_or_default();
        if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
            return Err(LocationError::UserInfo);
        }
        let host = match url.host() {
            // In lower case, and international names as ASCII: what looks like a name is not it.
            Some(Host::Domain(host)) => host.to_owned(),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => return Err(LocationError::Address),
            None => return Err(LocationError::Malformed),
        };
        let port = url.port_or_known_default().unwrap_or(443);
        if !ports.contains(&port) {
            return Err(LocationError::Port(port));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(LocationError::Query);
        }
        let path = series_path(url.path(), study, series)?;
        check_listed(directory, &host)?;
        Ok(Self { host, port, path })
    }

    /// Host name, in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path of the series.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Path of one of its instances.
    #[must_use]
    pub fn instance_path(&self, instance: &InstanceUid) -> String {
        format!("{}/instances/{instance}", self.path)
    }
}

/// Whether a host is in the white list now.
pub(super) fn check_listed(directory: &dyn PeerDirectory, host: &str) -> Result<(), LocationError> {
    let host = || host.to_owned();
    match directory.lists(&host()) {
        Listed::Yes => Ok(()),
        Listed::No => Err(LocationError::NotListed(host())),
        Listed::Unknown(reason) => Err(LocationError::NoList {
            host: host(),
            reason,
        }),
    }
}

/// `…/studies/{study}/series/{series}`, whatever the form of the URL.
fn series_path(path: &str, study: &StudyUid, series: &SeriesUid) -> Result<String, LocationError> {
    let at = path.rfind("/studies/").ok_or(LocationError::OtherPath)?;
    let (root, rest) = path.split_at_checked(at).ok_or(LocationError::OtherPath)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let mut segments = rest.split('/').skip(2);
    let names_study = segments.next() == Some(study.as_str());
    let names_series = match (segments.next(), segments.next()) {
        (None, _) => true,
        (Some("series"), Some(named)) => named == series.as_str(),
        _ => false,
    };
    let names_more = match (segments.next(), segments.next()) {
        (None, _) => true,
        (Some("instances"), Some(instance)) => InstanceUid::parse(instance).is_ok(),
        _ => false,
    };
    if names_study && names_series && names_more {
        Ok(format!("{root}/studies/{study}/series/{series}"))
    } else {
        Err(LocationError::OtherPath)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    struct One;

    impl PeerDirectory for One {
        fn lists(&self, db_host: &str) -> Listed {
            match db_host {
                "db1.example.org" => Listed::Yes,
                "db9.example.org" => Listed::Unknown("the list is too old".into()),
                _ => Listed::No,
            }
        }
    }

    fn parse(url: &str) -> Result<SeriesLocation, LocationError> {
        let study = StudyUid::parse("1.2.3").unwrap();
        let series = SeriesUid::parse("1.2.3.4").unwrap();
        SeriesLocation::parse(url, &study, &series, &[443, 8443], &One)
    }

    const TAIL: &str = "/studies/1.2.3/series/1.2.3.4";

    #[test]
    fn every_context_path_and_form_leads_to_the_series() {
        for (root, end) in [
            ("/dicom-web-rs", TAIL),
            ("/dcm4chee-arc/aets/X/rs", TAIL),
            ("", TAIL),
            ("/a/studies/9", TAIL),
            ("/rs", "/studies/1.2.3"),
            ("/rs", "/studies/1.2.3/series/1.2.3.4/"),
            ("/rs", "/studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.5"),
            (
                "/rs",
                "/studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.5/frames/1",
            ),
        ] {
            let found = parse(&format!("https://DB1.example.org{root}{end}")).unwrap();
            assert_eq!(found.host(), "db1.example.org");
            assert_eq!(found.port(), 443);
            assert_eq!(found.path(), format!("{root}{TAIL}"));
        }
        let found = parse(&format!("https://db1.example.org:8443{TAIL}")).unwrap();
        assert_eq!(found.port(), 8443);
        let instance = InstanceUid::parse("1.2.3.4.9").unwrap();
        assert_eq!(
            found.instance_path(&instance),
            format!("{TAIL}/instances/1.2.3.4.9")
        );
    }

    #[test]
    fn nothing_is_sent_to_who_is_not_a_listed_drimbox() {
        use LocationError::{
            Address, Malformed, NoList, NotHttps, NotListed, OtherPath, Port, Query, UserInfo,
        };
        let at = |authority: &str| format!("https://{authority}{TAIL}");
        let cases: Vec<(String, fn(&LocationError) -> bool)> = vec![
            (at("evil.example.org"), |e| matches!(e, NotListed(_))),
            (at("db1.example.org.evil.org"), |e| {
                matches!(e, NotListed(_))
            }),
            (at("db1.example.org."), |e| matches!(e, NotListed(_))),
            (at("localhost"), |e| matches!(e, NotListed(_))),
            // A Cyrillic letter.
            (at("db1.ex\u{430}mple.org"), |e| matches!(e, NotListed(_))),
            (at("db9.example.org"), |e| matches!(e, NoList { .. })),
            (at("127.0.0.1"), |e| matches!(e, Address)),
            (at("2130706433"), |e| matches!(e, Address)),
            (at("0x7f.1"), |e| matches!(e, Address)),
            (at("[::1]"), |e| matches!(e, Address)),
            (at("[::ffff:10.0.0.1]"), |e| matches!(e, Address)),
            (at("db1.example.org:22"), |e| matches!(e, Port(22))),
            (at("db1.example.org:99999"), |e| matches!(e, Malformed)),
            (at("user@db1.example.org"), |e| matches!(e, UserInfo)),
            (at("user:pw@db1.example.org"), |e| matches!(e, UserInfo)),
            (at("@db1.example.org"), |e| matches!(e, UserInfo)),
            (at("evil.org\\@db1.example.org"), |e| matches!(e, Malformed)),
            (at("db1.exa\nmple.org"), |e| matches!(e, Malformed)),
            (format!("http://db1.example.org{TAIL}"), |e| {
                matches!(e, NotHttps)
            }),
            (format!("ftp://db1.example.org{TAIL}"), |e| {
                matches!(e, NotHttps)
            }),
            ("file:///etc/passwd".into(), |e| matches!(e, NotHttps)),
            (format!("//db1.example.org{TAIL}"), |e| {
                matches!(e, Malformed)
            }),
            (TAIL.into(), |e| matches!(e, Malformed)),
            (String::new(), |e| matches!(e, Malformed)),
            (format!("{}?a=b", at("db1.example.org")), |e| {
                matches!(e, Query)
            }),
            (format!("{}#a", at("db1.example.org")), |e| {
                matches!(e, Query)
            }),
            (
                "https://db1.example.org/studies/1.2.9/series/1.2.3.4".into(),
                |e| matches!(e, OtherPath),
            ),
            (
                "https://db1.example.org/studies/1.2.3/series/1.2.3.5".into(),
                |e| matches!(e, OtherPath),
            ),
            (
                "https://db1.example.org/studies/1.2.3/../../admin".into(),
                |e| matches!(e, OtherPath),
            ),
            (format!("{}/metadata", at("db1.example.org")), |e| {
                matches!(e, OtherPath)
            }),
            (at(&"a".repeat(MAX_URL)), |e| matches!(e, Malformed)),
        ];
        for (url, expected) in cases {
            let error = parse(&url).expect_err(&url);
            assert!(expected(&error), "{url}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_let_through_goes_to_the_listed_host_and_the_series(text in "(https|http|ftp)?(://|:/|//|:)?[a-z0-9@:.\\\\\\[\\]%]{0,12}db1\\.example\\.org[a-z0-9@:./\\\\%?#]{0,12}(/studies/1\\.2\\.3/series/1\\.2\\.3\\.4)?[a-z0-9@:./\\\\%?#]{0,6}") {
            if let Ok(found) = parse(&text) {
                prop_assert_eq!(found.host(), "db1.example.org");
                prop_assert!(found.path().ends_with(TAIL));
            }
        }
    }
}
