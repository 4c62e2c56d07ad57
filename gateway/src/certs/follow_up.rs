//! The list that the IGC Santé platform exports (« Suivre », guide de commande des certificats), compared
//! with the inventory.
//!
//! Separator, encoding and the exact titles of the columns are not published: they are recognised, not
//! assumed, and what cannot be read is reported line by line. Nothing of the list is trusted: it only
//! leads to questions.

use std::collections::BTreeSet;

use time::{Date, Duration, Month, OffsetDateTime};

use super::inventory::Entry;

/// Bytes of a list.
const MAX_BYTES: usize = 8 << 20;
/// Lines of a list.
const MAX_ROWS: usize = 50_000;

/// One certificate of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Line of the file, from 1.
    pub line: usize,
    /// « N° produit », when the list has it.
    pub product: Option<String>,
    /// « Usage »: `SSL_SERV`, `AUTH_CLI`, `SIGN`…
    pub usage: String,
    /// « FQDN », or the common name.
    pub name: String,
    /// « Début de validité », when the list has it.
    pub not_before: Option<Date>,
    /// « Fin de validité ».
    pub not_after: Date,
    /// « Etat », when the list has it.
    pub state: Option<String>,
}

impl Row {
    /// Whether the certificate is in force, as far as the list says.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state
            .as_deref()
            .is_none_or(|state| fold(state).starts_with("acti"))
    }
}

/// A list, and the lines that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FollowUp {
    /// The certificates.
    pub rows: Vec<Row>,
    /// Line and reason, French.
    pub unread: Vec<(usize, String)>,
}

/// Why a file is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowUpError {
    /// Too large.
    #[error("le fichier dépasse {} Mio : exporter la liste du seul centre", MAX_BYTES >> 20)]
    TooLarge,
    /// A column is missing.
    #[error(
        "la colonne « {0} » est introuvable : exporter la liste depuis « Suivre » sur la plateforme \
         IGC Santé, avec sa ligne de titres"
    )]
    NoColumn(&'static str),
}

/// Reads a list.
///
/// # Errors
/// [`FollowUpError`].
pub fn parse(content: &[u8]) -> Result<FollowUp, FollowUpError> {
    if content.len() > MAX_BYTES {
        return Err(FollowUpError::TooLarge);
    }
    let text = match std::str::from_utf8(content) {
        Ok(text) => text.to_owned(),
        Err(_) => encoding_rs::WINDOWS_1252.decode(content).0.into_owned(),
    };
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = csv::ReaderBuilder::new()
        .delimiter(separator(text))
        .flexible(true)
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut columns: Option<Columns> = None;
    let mut list = FollowUp::default();
    for record in lines.records().take(MAX_ROWS) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                list.unread
                    .push((line_number(line), "ligne illisible".into()));
                continue;
            }
        };
        let line = line_number(record.position().map_or(0, csv::Position::line));
        let Some(known) = &columns else {
            columns = Columns::find(&record);
            continue;
        };
        if record.iter().all(str::is_empty) {
            continue;
        }
        match known.row(&record, line) {
            Ok(row) => list.rows.push(row),
            Err(reason) => list.unread.push((line, reason)),
        }
    }
    columns
        .map(|_| list)
        .ok_or(FollowUpError::NoColumn("Fin de validité"))
}

fn line_number(line: u64) -> usize {
    usize::try_from(line).unwrap_or(usize::MAX)
}

/// The character that occurs most in the line of titles.
fn separator(text: &str) -> u8 {
    let titles = text
        .lines()
        .find(|line| fold(line).contains("validite"))
        .unwrap_or_default();
    let count = |separator: u8| titles.bytes().filter(|byte| *byte == separator).count();
    [b';', b',', b'\t', b'|']
        .into_iter()
        .max_by_key(|separator| count(*separator))
        .unwrap_or(b';')
}

struct Columns {
    product: Option<usize>,
    usage: Option<usize>,
    name: Option<usize>,
    not_before: Option<usize>,
    not_after: usize,
    state: Option<usize>,
}

impl Columns {
    fn find(titles: &csv::StringRecord) -> Option<Self> {
        let at = |wanted: &[&str]| {
            titles.iter().position(|title| {
                let title = fold(title);
                wanted.iter().any(|wanted| title.contains(wanted))
            })
        };
        Some(Self {
            not_after: at(&["fin de validite", "date de fin", "expiration"])?,
            not_before: at(&["debut de validite", "date de debut"]),
            product: at(&["n° produit", "no produit", "numero produit", "produit"]),
            usage: at(&["usage"]),
            name: at(&["fqdn"]).or_else(|| at(&["nom commun", "common name", "cn"])),
            state: at(&["etat", "statut"]),
        })
    }

    fn row(&self, record: &csv::StringRecord, line: usize) -> Result<Row, String> {
        let text = |at: Option<usize>| {
            at.and_then(|at| record.get(at))
                .filter(|text| !text.is_empty())
        };
        let date = text(Some(self.not_after)).ok_or("la date de fin de validité manque")?;
        let read = |date| date_of(date).ok_or_else(|| format!("la date « {date} » ne se lit pas"));
        let not_after = read(date)?;
        let not_before = text(self.not_before).map(read).transpose()?;
        Ok(Row {
            line,
            product: text(self.product).map(str::to_owned),
            usage: text(self.usage).unwrap_or_default().to_owned(),
            name: text(self.name).unwrap_or_default().to_owned(),
            not_before,
            not_after,
            state: text(self.state).map(str::to_owned),
        })
    }
}

/// Lower case without accents.
fn fold(text: &str) -> String {
    text.chars()
        .flat_map(char::to_lowercase)
        .map(|c| match c {
            'à' | 'â' | 'ä' => 'a',
            'é' | 'è' | 'ê' | 'ë' => 'e',
            'î' | 'ï' => 'i',
            'ô' | 'ö' => 'o',
            'ù' | 'û' | 'ü' => 'u',
            'ç' => 'c',
            '\u{a0}' | '\u{202f}' => ' ',
            c => c,
        })
        .collect()
}

/// `20 févr. 2026`, `20/02/2026`, `2026-02-20`, each with or without a time of day after it.
fn date_of(text: &str) -> Option<Date> {
    let text = fold(text);
    let mut parts = text
        .split([' ', '/', '-', 'T', 't', '.', ','])
        .filter(|part| !part.is_empty());
    let (first, second, third) = (parts.next()?, parts.next()?, parts.next()?);
    let (year, month, day) = if first.len() == 4 {
        (first, second, third)
    } else {
        (third, second, first)
    };
    let month = match month.parse::<u8>() {
        Ok(number) => Month::try_from(number).ok()?,
        Err(_) => month_named(month)?,
    };
    if year.len() != 4 {
        return None;
    }
    Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()
}

fn month_named(name: &str) -> Option<Month> {
    const NAMES: [(&str, Month); 12] = [
        ("jan", Month::January),
        ("fev", Month::February),
        ("mar", Month::March),
        ("avr", Month::April),
        ("mai", Month::May),
        ("juin", Month::June),
        ("juil", Month::July),
        ("aou", Month::August),
        ("sep", Month::September),
        ("oct", Month::October),
        ("nov", Month::November),
        ("dec", Month::December),
    ];
    let found = NAMES.iter().find(|(start, _)| name.starts_with(start))?;
    Some(found.1)
}

/// What the list and the box do not agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// On the box, not in the list: place and name.
    OnlyHere {
        /// The place.
        place: String,
        /// Host or common name.
        name: String,
    },
    /// In the list and active, not on the box.
    OnlyListed(Row),
    /// On the box, and in the list as no longer in force.
    OtherState {
        /// The place.
        place: String,
        /// The line of the list.
        listed: Row,
    },
    /// The same certificate with different dates.
    OtherDate {
        /// The place.
        place: String,
        /// When the certificate on the box begins and ends.
        here: (Date, Date),
        /// The line of the list.
        listed: Row,
    },
}

/// Compares what IGC Santé issued with what is here: by name, usage and dates of validity; by usage and dates where the
/// list has no name, as for organisations.
#[must_use]
pub fn compare(entries: &[Entry], list: &FollowUp) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut explained = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry.place.role.is_igc()) {
        let Some(facts) = &entry.facts else { continue };
        let name = entry
            .place
            .host
            .clone()
            .or_else(|| facts.common_name.clone())
            .unwrap_or_default();
        let mut other = None;
        let (mut found, mut ended) = (false, None);
        for row in list.rows.iter().filter(|row| serves(&row.usage, entry)) {
            let begins = row.not_before;
            let same_dates = is_day(facts.not_after, row.not_after)
                && begins.is_none_or(|begins| is_day(facts.not_before, begins));
            // Without a name one line stands for one certificate.
            let nameless =
                row.name.is_empty() && same_dates && !found && !explained.contains(&row.line);
            if !nameless && !row.name.eq_ignore_ascii_case(&name) {
                continue;
            }
            explained.insert(row.line);
            match (same_dates, row.is_active()) {
                (true, true) => found = true,
                (true, false) => ended = Some(row.clone()),
                (false, true) => other = Some(row.clone()),
                (false, false) => {}
            }
        }
        let place = entry.place.id.clone();
        if found {
            continue;
        }
        if ended.is_none() && other.is_none() {
            let place = place.clone();
            differences.push(Difference::OnlyHere { place, name });
        }
        if let Some(listed) = ended {
            let place = place.clone();
            differences.push(Difference::OtherState { place, listed });
        }
        if let Some(listed) = other {
            differences.push(Difference::OtherDate {
                place,
                here: (facts.not_before.date(), facts.not_after.date()),
                listed,
            });
        }
    }
    let listed = list
        .rows
        .iter()
        .filter(|row| row.is_active() && !explained.contains(&row.line));
    differences.extend(listed.cloned().map(Difference::OnlyListed));
    differences
}

/// Whether a moment is on that day, in UTC or in France: what time the list keeps is not published.
fn is_day(moment: OffsetDateTime, day: Date) -> bool {
    (0..=2).any(|hours| (moment + Duration::hours(hours)).date() == day)
}

/// Whether a usage of the list may be that of an entry; a list without usages says nothing.
fn serves(usage: &str, entry: &Entry) -> bool {
    let usage = fold(usage);
    let wanted: &[&str] = match entry.place.role.code() {
        "SERV_SSL" => &["ssl_serv", "serv_ssl", "ssl"],
        "ORG_SIGN" => &["sign"],
        _ => &["auth"],
    };
    usage.is_empty() || wanted.iter().any(|wanted| usage.contains(wanted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use time::macros::date;

    use super::*;
    use crate::certs::facts::Facts;
    use crate::certs::place::{Place, Role};
    use crate::certs::testdata::{Profile, certificate};
    use crate::config::ServerIdentity;

    const LIST: &str = "N° produit;Canal;Date début de validité;Fin de validité;Offre;Usage;Etat;FQDN;Adresse\n\
        123;WEB;20 févr. 2026;19 févr. 2029;SERV;SSL_SERV;Actif;db1.exemple.fr;a@exemple.fr\n\
        124;WEB;1 août 2023;1 août 2026;SERV;SSL_SERV;Expiré;db2.exemple.fr;a@exemple.fr\n";

    #[test]
    fn the_list_is_read_whatever_its_separator_and_encoding() {
        let wanted = parse(LIST.as_bytes()).unwrap();
        assert_eq!(wanted.unread, []);
        assert_eq!(wanted.rows.len(), 2);
        assert_eq!(wanted.rows[0].not_after, date!(2029 - 02 - 19));
        assert_eq!(wanted.rows[1].not_after, date!(2026 - 08 - 01));
        assert_eq!(wanted.rows[1].not_before, Some(date!(2023 - 08 - 01)));
        assert!(wanted.rows[0].is_active() && !wanted.rows[1].is_active());
        for separator in [",", "\t"] {
            let other = LIST.replace(';', separator);
            assert_eq!(parse(other.as_bytes()).unwrap(), wanted, "{separator:?}");
        }
        let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(LIST);
        assert_eq!(parse(&latin).unwrap(), wanted);
        let marked = format!("\u{feff}{LIST}");
        assert_eq!(parse(marked.as_bytes()).unwrap(), wanted);
    }

    #[test]
    fn dates_of_several_forms_are_one() {
        for text in [
            "20 févr. 2026",
            "20 février 2026",
            "20/02/2026",
            "20/02/2026 10:00:44",
            "2026-02-20",
            "2026-02-20T10:00:44Z",
            "20 fevr 2026",
        ] {
            assert_eq!(date_of(text), Some(date!(2026 - 02 - 20)), "{text}");
        }
        for text in [
            "",
            "demain",
            "31/02/2026",
            "20/13/2026",
            "20/02/26",
            "20 zoo 2026",
        ] {
            assert_eq!(date_of(text), None, "{text}");
        }
    }

    #[test]
    fn lines_that_cannot_be_read_are_reported_and_the_others_kept() {
        let list =
            format!("{LIST}125;WEB;;bientôt;SERV;SSL_SERV;Actif;db3.exemple.fr;\n;;;;;;;;\n");
        let list = parse(list.as_bytes()).unwrap();
        assert_eq!(list.rows.len(), 2);
        assert_eq!(list.unread.len(), 1);
        assert_eq!(list.unread[0].0, 4);
        assert_eq!(
            parse(b"a;b\n1;2\n"),
            Err(FollowUpError::NoColumn("Fin de validité"))
        );
        assert_eq!(
            parse(&vec![b' '; MAX_BYTES + 1]),
            Err(FollowUpError::TooLarge)
        );
    }

    fn entry(host: &str) -> Entry {
        let profile = Profile {
            common_name: host,
            ..Profile::default()
        };
        Entry {
            place: Place {
                id: format!("db:{host}"),
                role: Role::ServSsl,
                user: String::new(),
                host: Some(host.into()),
                holder: crate::certs::place::Holder::default(),
                identity: ServerIdentity {
                    certificate_file: "c".into(),
                    key_file: "k".into(),
                },
                kept: crate::certs::place::Kept::Files,
            },
            facts: Some(Facts::of(&certificate(&profile).0).unwrap()),
            chain: Vec::new(),
            standing: None,
            is_superseded: false,
            findings: Vec::new(),
        }
    }

    #[test]
    fn the_box_and_the_list_are_compared_both_ways() {
        // 1 095 days from the first of January 2026.
        let end = "31/12/2028";
        let list = format!(
            "FQDN;Usage;Fin de validité;Etat\n\
             db.ici.fr;SSL_SERV;{end};Actif\n\
             db.date.fr;SSL_SERV;01/01/2030;Actif\n\
             db.ailleurs.fr;SSL_SERV;{end};Actif\n\
             db.vieux.fr;SSL_SERV;01/01/2020;Expiré\n"
        );
        let list = parse(list.as_bytes()).unwrap();
        let entries = [entry("db.ici.fr"), entry("DB.date.fr"), entry("db.seul.fr")];
        let found = compare(&entries, &list);
        assert_eq!(
            found,
            [
                Difference::OtherDate {
                    place: "db:DB.date.fr".into(),
                    here: (date!(2026 - 01 - 01), date!(2028 - 12 - 31)),
                    listed: list.rows[1].clone(),
                },
                Difference::OnlyHere {
                    place: "db:db.seul.fr".into(),
                    name: "db.seul.fr".into()
                },
                Difference::OnlyListed(list.rows[2].clone()),
            ]
        );
    }

    #[test]
    fn one_that_began_another_day_is_another_certificate() {
        let list = |begins: &str| {
            let text = format!(
                "FQDN;Usage;Date début de validité;Fin de validité;Etat\n\
                 db.ici.fr;SSL_SERV;{begins};31/12/2028;Actif\n"
            );
            parse(text.as_bytes()).unwrap()
        };
        let entries = [entry("db.ici.fr")];
        assert_eq!(compare(&entries, &list("01/01/2026")), []);
        let later = list("05/03/2026");
        let wanted = Difference::OtherDate {
            place: "db:db.ici.fr".into(),
            here: (date!(2026 - 01 - 01), date!(2028 - 12 - 31)),
            listed: later.rows[0].clone(),
        };
        assert_eq!(compare(&entries, &later), [wanted]);
        // A list without that date is compared by the end alone.
        assert_eq!(compare(&entries, &list("")), []);
        assert_eq!(list("hier").unread.len(), 1);
    }

    #[test]
    fn a_certificate_in_use_that_the_list_has_as_revoked_is_a_difference() {
        let list = "FQDN;Usage;Fin de validité;Etat\n\
             db.ici.fr;SSL_SERV;31/12/2028;Révoqué\n";
        let list = parse(list.as_bytes()).unwrap();
        let found = compare(&[entry("db.ici.fr")], &list);
        let wanted = Difference::OtherState {
            place: "db:db.ici.fr".into(),
            listed: list.rows[0].clone(),
        };
        assert_eq!(found, [wanted]);
        // Revoked and issued again for the same days.
        let again = "FQDN;Usage;Fin de validité;Etat\n\
             db.ici.fr;SSL_SERV;31/12/2028;Révoqué\n\
             db.ici.fr;SSL_SERV;31/12/2028;Actif\n";
        let again = parse(again.as_bytes()).unwrap();
        assert_eq!(compare(&[entry("db.ici.fr")], &again), []);
    }

    #[test]
    fn lines_without_a_name_are_compared_by_usage_and_end() {
        let list = "FQDN;Usage;Fin de validité;Etat\n\
             ;AUTH_CLI;31/12/2028;Actif\n\
             ;AUTH_CLI;31/12/2029;Actif\n\
             ;SIGN;31/12/2028;Actif\n";
        let list = parse(list.as_bytes()).unwrap();
        let of = |role| {
            let mut entry = entry("CENTRE");
            entry.place.role = role;
            entry.place.host = None;
            entry
        };
        let client = of(Role::OrgAuthCliPsc);
        let found = compare(&[client.clone(), of(Role::OrgSign)], &list);
        assert_eq!(found, [Difference::OnlyListed(list.rows[1].clone())]);
        // One line is one certificate.
        let both = compare(&[client, of(Role::OrgAuthCliDmp)], &list);
        assert!(matches!(both[0], Difference::OnlyHere { .. }), "{both:?}");
    }
}
