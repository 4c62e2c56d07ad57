//! The inventory as text, JSON, CSV, metrics and a Nagios verdict.

use std::io::{self, Write};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::facts::Facts;
use super::follow_up::{Difference, FollowUp};
use super::inventory::{Entry, Finding, Severity};
use super::presented::Presented;
use crate::trust::Standing;

/// Gauge: end of the certificate at a place, Unix time in seconds.
pub const NOT_AFTER: &str = "drimbox_certificate_not_after_seconds";
/// Gauge: 1 for each place whose certificate has a finding of that severity, else 0.
pub const FINDINGS: &str = "drimbox_certificate_findings";

/// Gauge: 1 for each place of which it can be told whether its certificate is revoked, else 0.
pub const REVOCATION_KNOWN: &str = "drimbox_certificate_revocation_known";

/// Gauge: end of a certificate that another party presented, Unix time in seconds.
pub const PRESENTED_NOT_AFTER: &str = "drimbox_presented_certificate_not_after_seconds";
/// Parties in that gauge at most, the latest seen.
const MEASURED: usize = 500;

/// Exit codes of Nagios plugins.
pub mod nagios {
    /// All is well.
    pub const OK: u8 = 0;
    /// Something is to be done.
    pub const WARNING: u8 = 1;
    /// Something does not work, or will stop within days.
    pub const CRITICAL: u8 = 2;
    /// The check itself could not be made.
    pub const UNKNOWN: u8 = 3;
}

/// A line a place: name, role, holder, end, days left, what is wrong.
///
/// # Errors
/// Those of `out`.
pub fn table(entries: &[Entry], now: OffsetDateTime, out: &mut impl Write) -> io::Result<()> {
    if entries.is_empty() {
        return writeln!(out, "Aucun certificat n'est configuré.");
    }
    let mut rows = vec![["EMPLACEMENT", "RÔLE", "NOM", "FIN", "JOURS", "ÉTAT"].map(str::to_owned)];
    for entry in entries {
        let facts = entry.facts.as_ref();
        let name = entry.place.host.clone();
        let name = name.or_else(|| facts?.common_name.clone());
        let state = match entry.findings.first() {
            None => "en ordre".to_owned(),
            Some(finding) if entry.severity() == Some(Severity::Critical) => {
                format!("CRITIQUE : {}", finding.text())
            }
            Some(finding) => format!("attention : {}", finding.text()),
        };
        rows.push([
            entry.place.id.clone(),
            entry.place.role.to_string(),
            name.unwrap_or_else(|| "-".into()),
            facts.map_or_else(|| "-".into(), |facts| facts.not_after.date().to_string()),
            facts.map_or_else(|| "-".into(), |facts| facts.days_left(now).to_string()),
            state,
        ]);
    }
    columns(&rows, out)
}

/// What others presented: a line each.
///
/// # Errors
/// Those of `out`.
pub fn presented_table(
    presented: &[Presented],
    now: OffsetDateTime,
    out: &mut impl Write,
) -> io::Result<()> {
    if presented.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nPrésentés par d'autres :")?;
    let mut rows = vec![["PAR", "NOM", "FIN", "JOURS", "VU LE", "ÉMETTEUR"].map(str::to_owned)];
    for one in presented {
        rows.push([
            one.by.text().to_owned(),
            one.name().to_owned(),
            one.facts.not_after.date().to_string(),
            one.facts.days_left(now).to_string(),
            one.last_seen.date().to_string(),
            one.facts.issuer.clone(),
        ]);
    }
    columns(&rows, out)
}

fn columns(rows: &[[String; 6]], out: &mut impl Write) -> io::Result<()> {
    let mut widths = [0; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

/// All that is known of one place.
///
/// # Errors
/// Those of `out`.
pub fn details(entry: &Entry, now: OffsetDateTime, out: &mut impl Write) -> io::Result<()> {
    let place = &entry.place;
    let mut line = lines(out);
    line("Emplacement", &place.id)?;
    line("Rôle", place.role.code())?;
    line("Utilisé par", &place.user)?;
    if let Some(host) = &place.host {
        line("FQDN attendu", host)?;
    }
    line(
        "Fichier",
        &place.identity.certificate_file.to_string_lossy(),
    )?;
    if !place.is_elsewhere() {
        line("Clé", &place.identity.key_file.to_string_lossy())?;
    }
    if let Some(facts) = &entry.facts {
        said(facts, now, &mut line)?;
        let chain: Vec<&str> = entry
            .chain
            .iter()
            .map(|facts| facts.common_name.as_deref().unwrap_or(&facts.subject))
            .collect();
        let chain = chain.join(" → ");
        line("Chaîne", if chain.is_empty() { "seul" } else { &chain })?;
    }
    if let Some(standing) = &entry.standing {
        line("Révocation", &revocation(standing))?;
    }
    line("S'il expire", place.role.effect())?;
    if entry.findings.is_empty() {
        line("État", "en ordre")?;
    }
    for finding in &entry.findings {
        line("État", &finding.text())?;
        line("  Remède", &finding.remedy(place.role))?;
    }
    Ok(())
}

/// All that is known of what somebody presented.
///
/// # Errors
/// Those of `out`.
pub fn presented_details(
    one: &Presented,
    now: OffsetDateTime,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut line = lines(out);
    line("Présenté par", one.by.text())?;
    said(&one.facts, now, &mut line)?;
    let seen = format!("du {} au {}", one.first_seen.date(), one.last_seen.date());
    line("Vu", &seen)?;
    if let Some(standing) = &one.standing {
        line("Révocation", &revocation(standing))?;
    }
    let findings = one.findings(now);
    if findings.is_empty() {
        line("État", "rien à signaler")?;
    }
    for finding in &findings {
        line("État", &finding.text())?;
        line("  Remède", NOT_OURS)?;
    }
    Ok(())
}

/// What can be done about a certificate of somebody else.
pub(super) const NOT_OURS: &str =
    "prévenir son titulaire : la passerelle en dépend et ne peut pas le renouveler";

fn lines(out: &mut impl Write) -> impl FnMut(&str, &str) -> io::Result<()> {
    |name, value| {
        let padding = " ".repeat(14usize.saturating_sub(name.chars().count()));
        writeln!(out, "{name}{padding}: {value}")
    }
}

fn said(
    facts: &Facts,
    now: OffsetDateTime,
    line: &mut impl FnMut(&str, &str) -> io::Result<()>,
) -> io::Result<()> {
    line("Sujet", &facts.subject)?;
    if let Some(structure) = facts.structure() {
        line("Structure", &structure.to_string())?;
    }
    if !facts.dns_names.is_empty() {
        line("Noms", &facts.dns_names.join(", "))?;
    }
    line("Émetteur", &facts.issuer)?;
    line("N° de série", &facts.serial)?;
    line("SHA-256", &facts.fingerprint)?;
    line("Type de clé", &facts.key)?;
    let usages = facts.usages.join(", ");
    line("Usages", if usages.is_empty() { "tous" } else { &usages })?;
    let left = facts.days_left(now);
    let validity = format!(
        "du {} au {} ({left} jours restants)",
        facts.not_before.date(),
        facts.not_after.date()
    );
    line("Validité", &validity)?;
    Ok(())
}

fn revocation(standing: &Standing) -> String {
    match standing {
        Standing::Good => "non révoqué".to_owned(),
        Standing::Revoked => "RÉVOQUÉ".to_owned(),
        Standing::Unknown(why) => format!("inconnue ({why})"),
        Standing::Refused(why) => format!("inconnue ({})", why.in_french()),
    }
}

/// The inventory as one JSON array.
#[must_use]
pub fn json(entries: &[Entry], now: OffsetDateTime) -> Value {
    entries.iter().map(|entry| object(entry, now)).collect()
}

/// What others presented, as one JSON array.
#[must_use]
pub fn presented_json(presented: &[Presented], now: OffsetDateTime) -> Value {
    let object = |one: &Presented| {
        json!({
            "presented_by": one.by.code(),
            "name": one.name(),
            "certificate": certificate(&one.facts, now),
            "first_seen": instant(one.first_seen),
            "last_seen": instant(one.last_seen),
            "revocation": one.standing.as_ref().map(standing),
            "status": severity(one.findings(now).iter().map(Finding::severity).max()),
            "findings": one.findings(now).iter().map(|finding| json!({
                "severity": severity(Some(finding.severity())),
                "text": finding.text(),
                "remedy": NOT_OURS,
            })).collect::<Value>(),
        })
    };
    presented.iter().map(object).collect()
}

fn standing(standing: &Standing) -> &'static str {
    match standing {
        Standing::Good => "good",
        Standing::Revoked => "revoked",
        Standing::Unknown(_) => "unknown",
        Standing::Refused(_) => "not_of_authority",
    }
}

fn object(entry: &Entry, now: OffsetDateTime) -> Value {
    let findings: Vec<Value> = entry
        .findings
        .iter()
        .map(|finding| {
            json!({
                "severity": severity(Some(finding.severity())),
                "text": finding.text(),
                "remedy": finding.remedy(entry.place.role),
            })
        })
        .collect();
    json!({
        "place": entry.place.id,
        "role": entry.place.role.code(),
        "used_by": entry.place.user,
        "host": entry.place.host,
        "certificate_file": entry.place.identity.certificate_file,
        "certificate": entry.facts.as_ref().map(|facts| certificate(facts, now)),
        "chain": entry.chain.iter().map(|facts| certificate(facts, now)).collect::<Value>(),
        "revocation": entry.standing.as_ref().map(standing),
        "status": severity(entry.severity()),
        "findings": findings,
    })
}

fn certificate(facts: &Facts, now: OffsetDateTime) -> Value {
    let structure = facts.structure();
    json!({
        "subject": facts.subject,
        "common_name": facts.common_name,
        "structure": structure.as_ref().map(|id| json!({
            "kind": id.kind().name(),
            "number": id.number(),
        })),
        "dns_names": facts.dns_names,
        "issuer": facts.issuer,
        "serial": facts.serial,
        "sha256": facts.fingerprint,
        "not_before": instant(facts.not_before),
        "not_after": instant(facts.not_after),
        "days_left": facts.days_left(now),
        "key": facts.key,
        "usages": facts.usages,
    })
}

fn instant(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}

fn severity(severity: Option<Severity>) -> &'static str {
    match severity {
        None => "ok",
        Some(Severity::Warning) => "warning",
        Some(Severity::Critical) => "critical",
    }
}

/// The inventory as CSV (RFC 4180), titles first, then what others presented.
///
/// # Errors
/// Those of `out`.
pub fn csv(
    entries: &[Entry],
    presented: &[Presented],
    now: OffsetDateTime,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(out);
    table.write_record([
        "place",
        "role",
        "used_by",
        "host",
        "subject",
        "structure",
        "issuer",
        "serial",
        "sha256",
        "not_before",
        "not_after",
        "days_left",
        "status",
        "findings",
        "revocation",
        "last_seen",
    ])?;
    for entry in entries {
        let facts = entry.facts.as_ref();
        let of = |text: fn(&Facts) -> String| facts.map(text).unwrap_or_default();
        table.write_record([
            entry.place.id.clone(),
            entry.place.role.code().to_owned(),
            entry.place.user.clone(),
            entry.place.host.clone().unwrap_or_default(),
            of(|facts| facts.subject.clone()),
            of(|facts| {
                facts
                    .structure()
                    .map(|id| id.to_string())
                    .unwrap_or_default()
            }),
            of(|facts| facts.issuer.clone()),
            of(|facts| facts.serial.clone()),
            of(|facts| facts.fingerprint.clone()),
            of(|facts| instant(facts.not_before).unwrap_or_default()),
            of(|facts| instant(facts.not_after).unwrap_or_default()),
            facts
                .map(|facts| facts.days_left(now).to_string())
                .unwrap_or_default(),
            severity(entry.severity()).to_owned(),
            texts(&entry.findings),
            revocation_code(entry.standing.as_ref()),
            String::new(),
        ])?;
    }
    for one in presented {
        let facts = &one.facts;
        let structure = facts.structure().map(|id| id.to_string());
        table.write_record([
            String::new(),
            one.by.code().to_owned(),
            one.by.text().to_owned(),
            one.name().to_owned(),
            facts.subject.clone(),
            structure.unwrap_or_default(),
            facts.issuer.clone(),
            facts.serial.clone(),
            facts.fingerprint.clone(),
            instant(facts.not_before).unwrap_or_default(),
            instant(facts.not_after).unwrap_or_default(),
            facts.days_left(now).to_string(),
            severity(one.findings(now).iter().map(Finding::severity).max()).to_owned(),
            texts(&one.findings(now)),
            revocation_code(one.standing.as_ref()),
            instant(one.last_seen).unwrap_or_default(),
        ])?;
    }
    table.flush()
}

fn texts(findings: &[Finding]) -> String {
    let texts: Vec<String> = findings.iter().map(Finding::text).collect();
    texts.join(" ; ")
}

fn revocation_code(of: Option<&Standing>) -> String {
    of.map(standing).unwrap_or_default().to_owned()
}

/// One line for a Nagios-compatible supervisor, with the days left as performance data, and the exit
/// code.
///
/// # Errors
/// Those of `out`.
pub fn nagios(
    entries: &[Entry],
    presented: &[Presented],
    now: OffsetDateTime,
    out: &mut impl Write,
) -> io::Result<u8> {
    let own = entries.iter().flat_map(|entry| {
        let of = |finding: &Finding| {
            let remedy = finding.remedy(entry.place.role);
            (
                finding.severity(),
                entry.place.id.clone(),
                finding.text(),
                remedy,
            )
        };
        entry.findings.iter().map(of).collect::<Vec<_>>()
    });
    let of_others = presented.iter().flat_map(|one| {
        let of = |finding: Finding| {
            let who = format!("{} ({})", one.name(), one.by.text());
            (finding.severity(), who, finding.text(), NOT_OURS.to_owned())
        };
        one.findings(now).into_iter().map(of).collect::<Vec<_>>()
    });
    let all: Vec<_> = own.chain(of_others).collect();
    let worst = all.iter().map(|(severity, ..)| *severity).max();
    let (word, code) = match worst {
        None => ("OK", nagios::OK),
        Some(Severity::Warning) => ("WARNING", nagios::WARNING),
        Some(Severity::Critical) => ("CRITICAL", nagios::CRITICAL),
    };
    let mut wrong: Vec<String> = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    for (severity, who, text, _) in &all {
        // Of each the gravest, which comes first.
        if Some(*severity) == worst && !named.contains(&who.as_str()) {
            named.push(who);
            wrong.push(format!("{who} {text}"));
        }
    }
    let said = if wrong.is_empty() {
        format!("{} certificats en ordre", entries.len())
    } else {
        wrong.join(" ; ")
    };
    let days = entries.iter().filter_map(|entry| {
        let facts = entry.facts.as_ref()?;
        Some(format!("'{}'={}", entry.place.id, facts.days_left(now)))
    });
    let days: Vec<String> = days.collect();
    // A vertical bar would start the performance data.
    let said = said.replace('|', "/");
    writeln!(out, "CERTIFICATS {word} - {said} | {}", days.join(" "))?;
    for (_, who, text, remedy) in &all {
        writeln!(out, "{who} : {text} ; {remedy}")?;
    }
    Ok(code)
}

/// What the list of IGC Santé and the box do not agree on.
///
/// # Errors
/// Those of `out`.
pub fn comparison(
    differences: &[Difference],
    list: &FollowUp,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{} certificats dans la liste.", list.rows.len())?;
    for (line, reason) in &list.unread {
        writeln!(out, "  ligne {line} : {reason}")?;
    }
    for difference in differences {
        match difference {
            Difference::OnlyHere { place, name } => writeln!(
                out,
                "  {place} : {name} n'est pas dans la liste ; vérifier qu'elle est celle de ce \
                 centre, et que ce certificat n'a pas été révoqué"
            )?,
            Difference::OnlyListed(row) => writeln!(
                out,
                "  ligne {} : {} {} jusqu'au {} n'est pas sur cette machine ; le retirer de l'autre \
                 serveur, ou l'installer",
                row.line, row.usage, row.name, row.not_after
            )?,
            Difference::OtherState { place, listed } => writeln!(
                out,
                "  {place} : dans la liste comme « {} » (ligne {}) alors qu'il est en service ici ; le \
                 remplacer s'il est révoqué",
                listed.state.as_deref().unwrap_or("-"),
                listed.line
            )?,
            Difference::OtherDate {
                place,
                here: (begins, ends),
                listed,
            } => {
                let listed_dates = match listed.not_before {
                    Some(begins) => format!("du {begins} au {}", listed.not_after),
                    None => format!("jusqu'au {}", listed.not_after),
                };
                writeln!(
                    out,
                    "  {place} : valable ici du {begins} au {ends}, dans la liste {} (ligne {}) ; le certificat \
                     renouvelé n'est peut-être pas installé",
                    listed_dates, listed.line
                )?;
            }
        }
    }
    if differences.is_empty() && list.unread.is_empty() {
        writeln!(out, "La liste et la machine concordent.")?;
    }
    Ok(())
}

/// Sets the gauges.
pub fn record(entries: &[Entry]) {
    for entry in entries {
        let labels = [
            ("place", entry.place.id.clone()),
            ("role", entry.place.role.code().to_owned()),
        ];
        if let Some(facts) = &entry.facts {
            #[expect(clippy::cast_precision_loss, reason = "seconds, far below 2^52")]
            let end = facts.not_after.unix_timestamp() as f64;
            metrics::gauge!(NOT_AFTER, &labels).set(end);
        }
        if let Some(standing) = &entry.standing {
            let is_known = !matches!(standing, Standing::Unknown(_));
            let place = entry.place.id.clone();
            metrics::gauge!(REVOCATION_KNOWN, "place" => place).set(f64::from(u8::from(is_known)));
        }
        for wanted in [Severity::Warning, Severity::Critical] {
            let has = entry.severity() == Some(wanted);
            let place = entry.place.id.clone();
            metrics::gauge!(FINDINGS, "place" => place, "severity" => severity(Some(wanted)))
                .set(f64::from(u8::from(has)));
        }
    }
}

/// Sets the gauges of what others presented.
pub fn record_presented(presented: &[Presented]) {
    for one in presented.iter().take(MEASURED) {
        let labels = [
            ("by", one.by.code().to_owned()),
            ("name", one.name().to_owned()),
        ];
        #[expect(clippy::cast_precision_loss, reason = "seconds, far below 2^52")]
        let end = one.facts.not_after.unix_timestamp() as f64;
        metrics::gauge!(PRESENTED_NOT_AFTER, &labels).set(end);
    }
}

#[cfg(test)]
mod tests;
