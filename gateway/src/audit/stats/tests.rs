#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::super::event::{Object, Outcome};
use super::super::record::{self, Anchor};
use super::*;

fn row(mapping: &Mapping, event: &Event) -> String {
    let json = serde_json::to_string(event).unwrap();
    let (line, _) = record::encode(Anchor::EMPTY, &json).unwrap();
    let record = Record::parse(line.as_bytes()).unwrap();
    let mut out = Vec::new();
    mapping
        .row(&mut out, &record, event, Some("Centre Nord"))
        .unwrap();
    String::from_utf8(out).unwrap()
}

fn event(kind: Kind) -> Event {
    Event::new(time::macros::datetime!(2026-11-21 09:30:05.7 UTC), kind)
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_end().split(';').collect()
}

#[test]
fn the_known_columns_are_ai_and_aj() {
    let mapping = Mapping::default();
    let mut head = Vec::new();
    mapping.head(&mut head).unwrap();
    let head = String::from_utf8(head).unwrap();
    let names = cells(head.trim_start_matches('\u{FEFF}'));
    // A to Z are 26 columns, AI is the ninth after them.
    assert_eq!(names[26 + 8], "Nombre_Appel");
    assert_eq!(names[26 + 9], "Statut_Appel");
    assert_eq!(names.len(), 36);
}

#[test]
fn a_contextual_call_is_one_call_with_its_status() {
    let mapping = Mapping::default();
    let call = row(&mapping, &event(Kind::ContextCall));
    assert_eq!(cells(&call)[34..], ["1", "succes"]);
    let refused = event(Kind::ContextCall).ending(Outcome::refused(400, "parameters"));
    let refused = row(&mapping, &refused);
    assert_eq!(cells(&refused)[34..], ["1", "erreur"]);
    assert_eq!(
        cells(&refused)[..8],
        [
            "2026-11-21",
            "09:30:05",
            "Centre Nord",
            "consommateur",
            "context-call",
            "erreur",
            "400",
            "parameters"
        ]
    );
    let transfer = row(&mapping, &event(Kind::RequestEnded));
    assert_eq!(cells(&transfer)[34..], ["", ""]);
}

#[test]
fn a_mapping_file_chooses_columns_events_and_separator() {
    let mapping = Mapping::parse(
        "separator = \",\"\nevents = [\"request-ended\"]\n\
         [[column]]\nnom = \"Version\"\ntexte = \"1,0\"\n\
         [[column]]\nnom = \"Octets\"\nvaleur = \"octets\"\n\
         [[column]]\nnom = \"Vide\"\n",
    )
    .unwrap();
    assert_eq!(mapping.events(), [Kind::RequestEnded]);
    let event = event(Kind::RequestEnded).ending(Outcome {
        bytes: Some(12),
        ..Outcome::default()
    });
    assert_eq!(row(&mapping, &event), "\"1,0\",12,\r\n");
    assert!(Mapping::parse("[[column]]\nnom = \"A\"\nvaleur = \"patient\"\n").is_err());
    assert!(matches!(
        Mapping::parse("column = []"),
        Err(MappingError::Columns)
    ));
    let odd = "separator = \"x\"\n[[column]]\nnom = \"A\"\n";
    assert!(matches!(Mapping::parse(odd), Err(MappingError::Separator)));
}

#[test]
fn no_value_becomes_a_formula_or_breaks_its_row() {
    let mapping = Mapping::parse("[[column]]\nnom = \"P\"\nvaleur = \"pacs\"\n").unwrap();
    for (pacs, expected) in [
        ("=1+1", "\"'=1+1\"\r\n"),
        ("a;b\"c", "\"a;b\"\"c\"\r\n"),
        ("scanner", "scanner\r\n"),
    ] {
        let event = event(Kind::RequestEnded).on(Object {
            pacs: Some(pacs.into()),
            ..Object::default()
        });
        assert_eq!(row(&mapping, &event), expected);
    }
}
