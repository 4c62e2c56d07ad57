//! Signed white lists, in both signature profiles of the real ones.
//!
//! The canonical forms that are digested and signed are written out here as text: they owe nothing
//! to the code of the gateway that computes them.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::SigningKey as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::KitError;
use super::igc::Leaf;

const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const XADES: &str = "http://uri.etsi.org/01903/v1.3.2#";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const DIGEST_256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
const DIGEST_512: &str = "http://www.w3.org/2001/04/xmlenc#sha512";

/// How a list is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Lists of 2024 to March 2026: XPath Filter 2.0, `SigningCertificateV2`, prefixes.
    One,
    /// Lists from September 2026: `enveloped-signature`, `SigningCertificate`, default namespace.
    Two,
}

/// One domain of a list.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `db`
    pub db: String,
    /// `vi`; may be empty.
    pub vi: String,
    /// `DNCertificatOperateur`
    pub dn: String,
}

impl Entry {
    /// The entry of [`super::igc::LeafSpec::peer`] for the same host.
    #[must_use]
    pub fn peer(db_host: &str) -> Self {
        Self {
            db: db_host.to_owned(),
            vi: String::new(),
            dn: format!(
                "CN={db_host},OU=318751275100020,O=AGENCE DU NUMERIQUE EN SANTE,ST=Paris (75),C=FR"
            ),
        }
    }
}

/// Changes a text that is about to be signed.
pub type Edit = fn(String) -> String;

/// A list to sign; what is signed can be changed before it is.
#[derive(Debug, Clone)]
pub struct ListSpec {
    /// Signature profile.
    pub profile: Profile,
    /// Domains.
    pub entries: Vec<Entry>,
    /// `SigningTime`
    pub signing_time: OffsetDateTime,
    /// Applied to the list, canonical, without signature.
    pub edit_list: Edit,
    /// Applied to the canonical `SignedProperties`.
    pub edit_properties: Edit,
    /// Applied to the canonical `SignedInfo`.
    pub edit_signed_info: Edit,
}

impl ListSpec {
    /// A good list.
    #[must_use]
    pub fn new(profile: Profile, entries: Vec<Entry>, signing_time: OffsetDateTime) -> Self {
        Self {
            profile,
            entries,
            signing_time,
            edit_list: |text| text,
            edit_properties: |text| text,
            edit_signed_info: |text| text,
        }
    }

    /// The list without signature, as it stands in a file.
    #[must_use]
    pub fn unsigned(&self) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}",
            (self.edit_list)(self.list())
        )
    }

    /// The list signed with a certificate (RSA), as it stands in a file: with CRLF and empty
    /// elements in short.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign(&self, signer: &Leaf) -> Result<String, KitError> {
        self.sign_as(signer, signer)
    }

    /// As [`ListSpec::sign`], with the certificate of somebody else in `KeyInfo`.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign_as(&self, signer: &Leaf, shown: &Leaf) -> Result<String, KitError> {
        let list = (self.edit_list)(self.list());
        let p = Names::of(self.profile);
        let properties = (self.edit_properties)(self.properties(&p, signer)?);
        let signed_info = (self.edit_signed_info)(p.signed_info(&list, &properties));
        let value =
            signer
                .key
                .sign(signed_info.as_bytes())
                .map_err(|source| KitError::Certificate {
                    name: "white list".to_owned(),
                    source,
                })?;
        let Names { tag, declare, .. } = &p;
        let certificate = STANDARD.encode(shown.certificate.der());
        let signature = format!(
            "<{tag}Signature {declare} Id=\"id-1\">{}<{tag}SignatureValue>{}</{tag}SignatureValue>\
             <{tag}KeyInfo><{tag}X509Data><{tag}X509Certificate>{certificate}</{tag}X509Certificate>\
             </{tag}X509Data></{tag}KeyInfo><{tag}Object><xades:QualifyingProperties \
             xmlns:xades=\"{XADES}\" Target=\"#id-1\">{}</xades:QualifyingProperties></{tag}Object>\
             </{tag}Signature>",
            p.compact(&signed_info),
            STANDARD.encode(value),
            p.compact(&properties)
                .replace(&format!(" xmlns:xades=\"{XADES}\""), ""),
        );
        let list = list.replace("></vi>", "/>").replace('\n', "\r\n");
        let end = "</ListeBlancheDRIM-M>";
        let prolog = match self.profile {
            Profile::One => "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"no\"?>",
            Profile::Two => "",
        };
        Ok(format!(
            "{prolog}{}",
            list.replace(end, &format!("{signature}{end}"))
        ))
    }

    /// Canonical: no prolog, no empty element in short, line feeds.
    fn list(&self) -> String {
        let domains: String = self
            .entries
            .iter()
            .enumerate()
            .map(|(rank, entry)| {
                format!(
                    "\t<Domaine>\n\t\t<Identifiant>{rank}</Identifiant>\n\t\t<db>{}</db>\n\t\t\
                     <vi>{}</vi>\n\t\t<Denomination>ANS &amp; Cie</Denomination>\n\t\t\
                     <DNCertificatOperateur>{}</DNCertificatOperateur>\n\t\t\
                     <DateMAJ>2024-12-10T11:27:12Z</DateMAJ>\n\t</Domaine>\n",
                    entry.db, entry.vi, entry.dn
                )
            })
            .collect();
        format!(
            "<ListeBlancheDRIM-M xmlns=\"https://github.com/ansforge/DRIM-M_DATA\" \
             versionFormat=\"1.0.0\">\n\
             <DateDeGeneration>2026-06-19T18:06:52Z</DateDeGeneration>\n<ListeDomaines>\n\
             {domains}</ListeDomaines>\n</ListeBlancheDRIM-M>"
        )
    }

    fn properties(&self, p: &Names, signer: &Leaf) -> Result<String, KitError> {
        let Names { tag, declare, .. } = p;
        let time = self.signing_time.format(&Rfc3339).unwrap_or_default();
        let der = signer.certificate.der();
        let (algorithm, hash) = match self.profile {
            Profile::One => (DIGEST_512, digest(&SHA512, der)),
            Profile::Two => (DIGEST_256, digest(&SHA256, der)),
        };
        let digest = format!(
            "<xades:CertDigest><{tag}DigestMethod {declare} Algorithm=\"{algorithm}\">\
             </{tag}DigestMethod><{tag}DigestValue {declare}>{}</{tag}DigestValue></xades:CertDigest>",
            STANDARD.encode(hash)
        );
        let certificate = match self.profile {
            Profile::One => format!(
                "<xades:SigningCertificateV2><xades:Cert>{digest}</xades:Cert>\
                 </xades:SigningCertificateV2>"
            ),
            Profile::Two => format!(
                "<xades:SigningCertificate><xades:Cert>{digest}<xades:IssuerSerial>\
                 <X509IssuerName {declare}>CN=TEST AC IGC-SANTE ELEMENTAIRE ORGANISATIONS, \
                 OU=IGC-SANTE TEST, OU=0002 187512751, O=ASIP-SANTE, C=FR</X509IssuerName>\
                 <X509SerialNumber {declare}>{}</X509SerialNumber></xades:IssuerSerial>\
                 </xades:Cert></xades:SigningCertificate>",
                signer.serial
            ),
        };
        Ok(format!(
            "<xades:SignedProperties xmlns:xades=\"{XADES}\" Id=\"{}\">\
             <xades:SignedSignatureProperties><xades:SigningTime>{time}</xades:SigningTime>\
             {certificate}</xades:SignedSignatureProperties></xades:SignedProperties>",
            p.properties
        ))
    }
}

/// How a profile writes its elements.
struct Names {
    tag: &'static str,
    declare: String,
    properties: &'static str,
    transform: String,
}

impl Names {
    fn of(profile: Profile) -> Self {
        match profile {
            Profile::One => Self {
                tag: "ds:",
                declare: format!("xmlns:ds=\"{DSIG}\""),
                properties: "xades-id-1",
                transform: "<ds:Transform Algorithm=\"http://www.w3.org/2002/06/xmldsig-filter2\">\
                            <dsig-filter2:XPath xmlns:dsig-filter2=\
                            \"http://www.w3.org/2002/06/xmldsig-filter2\" Filter=\"subtract\">\
                            /descendant::ds:Signature</dsig-filter2:XPath></ds:Transform>"
                    .to_owned(),
            },
            Profile::Two => Self {
                tag: "",
                declare: format!("xmlns=\"{DSIG}\""),
                properties: "SignedProperties",
                transform: format!(
                    "<Transform Algorithm=\"{DSIG}enveloped-signature\"></Transform>"
                ),
            },
        }
    }

    /// Canonical.
    fn signed_info(&self, list: &str, properties: &str) -> String {
        let Self {
            tag,
            declare,
            properties: id,
            transform,
        } = self;
        let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
        let reference = |attributes: &str, transform: &str, text: &str| {
            format!(
                "<{tag}Reference {attributes}><{tag}Transforms>{transform}\
                 <{tag}Transform Algorithm=\"{EXCLUSIVE}\"></{tag}Transform></{tag}Transforms>\
                 <{tag}DigestMethod Algorithm=\"{DIGEST_256}\"></{tag}DigestMethod>\
                 <{tag}DigestValue>{}</{tag}DigestValue></{tag}Reference>",
                hash(text)
            )
        };
        format!(
            "<{tag}SignedInfo {declare}>\
             <{tag}CanonicalizationMethod Algorithm=\"{EXCLUSIVE}\"></{tag}CanonicalizationMethod>\
             <{tag}SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\">\
             </{tag}SignatureMethod>{}{}</{tag}SignedInfo>",
            reference("Id=\"r-1\" URI=\"\"", transform, list),
            reference(
                &format!("Type=\"http://uri.etsi.org/01903#SignedProperties\" URI=\"#{id}\""),
                "",
                properties
            ),
        )
    }

    /// As it stands inside a `Signature`: namespaces are declared around, empty elements in short.
    fn compact(&self, canonical: &str) -> String {
        let mut text = canonical.replace(&format!(" {}", self.declare), "");
        for name in [
            "CanonicalizationMethod",
            "SignatureMethod",
            "Transform",
            "DigestMethod",
        ] {
            text = text.replace(&format!("></{}{name}>", self.tag), " />");
        }
        // What holds something was not empty.
        text.replace(
            "</dsig-filter2:XPath />",
            "</dsig-filter2:XPath></ds:Transform>",
        )
    }
}
