#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
use proptest::prelude::*;

use super::super::charset::CharacterSet;
use super::super::reader::Elements;
use super::super::testdata::{Writer, image, pixel_offset, tag};
use super::*;

const OTHER_PATIENT_IDS: Tag = Tag(0x0010, 0x1002);

fn explicit() -> Writer {
    Writer::new(Encoding::ExplicitLittle)
}

/// An identifier as an item of Other Patient IDs Sequence (PS3.3 §C.2.3).
fn identifier(id: &str) -> Vec<u8> {
    let mut qualifiers = Vec::new();
    put_element(
        &mut qualifiers,
        Tag(0x0040, 0x0032),
        VR::UT,
        b"1.2.250.1.213.1.4.8",
    );
    put_element(&mut qualifiers, Tag(0x0040, 0x0033), VR::CS, b"ISO");
    let mut item = Vec::new();
    put_element(&mut item, Tag(0x0010, 0x0020), VR::LO, id.as_bytes());
    put_element(&mut item, Tag(0x0010, 0x0022), VR::CS, b"TEXT");
    let mut items = Vec::new();
    put_item(&mut items, &qualifiers);
    put_element(&mut item, Tag(0x0010, 0x0024), VR::SQ, &items);
    item
}

fn append(id: &str) -> Edit {
    Edit::AppendItem {
        sequence: OTHER_PATIENT_IDS,
        item: identifier(id),
    }
}

fn edited(head: &[u8], edits: &[Edit]) -> Vec<u8> {
    edit_head(head, edits, Limits::default()).unwrap()
}

fn identifiers(head: &[u8]) -> Vec<String> {
    let set = DataSet::parse(head, Encoding::ExplicitLittle, Limits::default()).unwrap();
    let id = |item: Elements<'_>| {
        item.text(tag(0x0010_0020), &CharacterSet::default())
            .unwrap_or_default()
    };
    set.elements().items(OTHER_PATIENT_IDS).map(id).collect()
}

#[test]
fn an_identifier_is_added_and_those_that_exist_are_kept() {
    for defined in [true, false] {
        let head = explicit()
            .put((0x0010, 0x0010), VR::PN, b"Buc^J\xe9r\xf4me")
            .sequence(
                (0x0010, 0x1002),
                defined,
                &[identifier("FIRST"), identifier("SECOND")],
            )
            .put((0x0020, 0x000D), VR::UI, b"1.2.3")
            .bytes;
        let out = edited(&head, &[append("279035121518989")]);
        assert_eq!(
            identifiers(&out),
            ["FIRST", "SECOND", "279035121518989"],
            "defined: {defined}"
        );
        let set = DataSet::parse(&out, Encoding::ExplicitLittle, Limits::default()).unwrap();
        let last = set.elements().items(OTHER_PATIENT_IDS).last().unwrap();
        let qualifier = last.items(tag(0x0010_0024)).next().unwrap();
        let oid = qualifier.text(tag(0x0040_0032), &CharacterSet::default());
        assert_eq!(oid.as_deref(), Some("1.2.250.1.213.1.4.8"));
        // The rest is there byte for byte.
        assert!(out.starts_with(&head[..20]));
        assert!(out.ends_with(&head[head.len() - 14..]));
    }
}

#[test]
fn the_sequence_is_made_in_its_place_where_it_does_not_exist() {
    let before = explicit().put((0x0010, 0x0040), VR::CS, b"F").bytes;
    let after = explicit()
        .put((0x0010, 0x2160), VR::SH, b"")
        .put((0x0020, 0x000D), VR::UI, b"1.2.3")
        .bytes;
    let head = [before.clone(), after.clone()].concat();
    let out = edited(&head, &[append("ID")]);
    assert_eq!(identifiers(&out), ["ID"]);
    assert!(out.starts_with(&before) && out.ends_with(&after));
    assert_eq!(identifiers(&edited(&[], &[append("ID")])), ["ID"]);
    assert_eq!(
        identifiers(&edited(&before, &[append("ONE"), append("TWO")])),
        ["ONE", "TWO"]
    );
    let empty = explicit().sequence((0x0010, 0x1002), true, &[]).bytes;
    assert_eq!(identifiers(&edited(&empty, &[append("ID")])), ["ID"]);
}

#[test]
fn an_identifier_is_added_to_a_sequence_that_is_written_as_un() {
    let item = Writer::new(Encoding::ImplicitLittle)
        .put((0x0010, 0x0020), VR::LO, b"FIRST")
        .bytes;
    for defined in [true, false] {
        let sequence = Writer::new(Encoding::ImplicitLittle)
            .sequence((0x0010, 0x1002), defined, std::slice::from_ref(&item))
            .bytes;
        let mut head = explicit();
        let length = if defined {
            u32::try_from(sequence.len() - 8).unwrap()
        } else {
            u32::MAX
        };
        head.header((0x0010, 0x1002), VR::UN, length);
        head.bytes.extend_from_slice(&sequence[8..]);
        assert_eq!(
            identifiers(&edited(&head.bytes, &[append("ID")])),
            ["FIRST", "ID"],
            "defined: {defined}"
        );
    }
    let head = explicit().put((0x0010, 0x1002), VR::UN, b"no items").bytes;
    let error = edit_head(&head, &[append("ID")], Limits::default()).unwrap_err();
    assert_eq!(error, EditError::NotASequence(OTHER_PATIENT_IDS));
}

#[test]
fn elements_are_set_and_removed_and_group_lengths_go_with_their_group() {
    let head = explicit()
        .put((0x0008, 0x0000), VR::UL, &[10, 0, 0, 0])
        .put((0x0008, 0x0060), VR::CS, b"CT")
        .put((0x0010, 0x0000), VR::UL, &[99, 0, 0, 0])
        .put((0x0010, 0x0020), VR::LO, b"OLD")
        .put((0x0010, 0x0030), VR::DA, b"19700101")
        .bytes;
    let out = edited(
        &head,
        &[
            Edit::Set {
                tag: tag(0x0010_0020),
                vr: VR::LO,
                value: b"NEW".to_vec(),
            },
            Edit::Set {
                tag: tag(0x0010_0021),
                vr: VR::LO,
                value: b"ISSUER".to_vec(),
            },
            Edit::Remove(tag(0x0010_0030)),
            Edit::Remove(tag(0x0010_4000)),
        ],
    );
    let expected = explicit()
        .put((0x0008, 0x0000), VR::UL, &[10, 0, 0, 0])
        .put((0x0008, 0x0060), VR::CS, b"CT")
        .put((0x0010, 0x0020), VR::LO, b"NEW")
        .put((0x0010, 0x0021), VR::LO, b"ISSUER")
        .bytes;
    assert_eq!(out, expected);
}

#[test]
fn the_head_of_an_image_is_edited_and_the_image_is_whole_again() {
    let image = image(Encoding::ExplicitLittle);
    let at = pixel_offset(&image, Encoding::ExplicitLittle);
    let mut out = edited(&image[..at], &[append("ID")]);
    out.extend_from_slice(&image[at..]);
    let set = DataSet::parse(&out, Encoding::ExplicitLittle, Limits::default()).unwrap();
    assert_eq!(set.elements().items(OTHER_PATIENT_IDS).count(), 2);
    assert_eq!(set.elements().iter().count(), 15);
    assert!(out.ends_with(&image[at..]));
}

#[test]
fn no_edit_changes_no_byte() {
    let image = image(Encoding::ExplicitLittle);
    assert_eq!(edited(&image, &[]), image);
}

#[test]
fn what_is_in_a_sequence_that_says_its_length_is_copied_whatever_it_is() {
    let head = explicit()
        .sequence((0x0008, 0x1140), true, &[b"no item".to_vec()])
        .put((0x0020, 0x000D), VR::UI, b"1.2.3")
        .bytes;
    let split = head.len() - 14;
    let out = edited(&head, &[append("ID")]);
    assert!(out.starts_with(&head[..split]) && out.ends_with(&head[split..]));
    assert_eq!(out.len(), head.len() + edited(&[], &[append("ID")]).len());
}

#[test]
fn a_head_of_defined_lengths_is_not_walked() {
    let head = explicit()
        .sequence((0x0008, 0x1140), true, &[identifier("A")])
        .put((0x0010, 0x0020), VR::LO, b"ID")
        .put((0x0020, 0x000D), VR::UI, b"1.2.3");
    let edit = append("ID");
    assert!(cuts_among_leading(&head.bytes, &[&edit]).is_some());
    let open = explicit().sequence((0x0008, 0x1140), false, &[identifier("A")]);
    let open = [open.bytes, head.bytes].concat();
    assert!(cuts_among_leading(&open, &[&edit]).is_none());
}

#[test]
fn what_must_not_be_edited_is_refused() {
    let head = image(Encoding::ExplicitLittle);
    for forbidden in [0x7FE0_0010, 0x0008_0000, 0x0002_0010, 0xFFFE_E000] {
        let error =
            edit_head(&head, &[Edit::Remove(tag(forbidden))], Limits::default()).unwrap_err();
        assert_eq!(error, EditError::NotEditable(tag(forbidden)));
    }
    let long = Edit::Set {
        tag: tag(0x0010_0020),
        vr: VR::LO,
        value: vec![b'1'; 65_535],
    };
    assert!(matches!(
        edit_head(&head, &[long], Limits::default()),
        Err(EditError::TooLong { length: 65_535, .. })
    ));
    let bad = Edit::AppendItem {
        sequence: OTHER_PATIENT_IDS,
        item: b"garbage".to_vec(),
    };
    assert!(matches!(
        edit_head(&head, &[bad], Limits::default()),
        Err(EditError::Item(..))
    ));
    let text = Edit::AppendItem {
        sequence: tag(0x0010_0010),
        item: Vec::new(),
    };
    let error = edit_head(&head, &[text], Limits::default()).unwrap_err();
    assert_eq!(error, EditError::NotASequence(tag(0x0010_0010)));
    assert!(matches!(
        edit_head(b"garbage", &[append("ID")], Limits::default()),
        Err(EditError::Head(_))
    ));
}

#[test]
fn what_follows_the_last_change_is_copied_whatever_it_is() {
    let before = explicit().put((0x0010, 0x0020), VR::LO, b"ID").bytes;
    let after = explicit()
        .put((0x0010, 0x2160), VR::SH, &[b'x'; 2 * WALKED])
        .bytes;
    let head = [&before[..], &after, b"garbage"].concat();
    let out = edited(&head, &[append("NEW")]);
    assert!(out.starts_with(&before) && out.ends_with(&[&after[..], b"garbage"].concat()));
    let read = &out[..out.len() - b"garbage".len()];
    assert_eq!(identifiers(read), ["NEW"]);
}

/// Elements of group 0010 around Other Patient IDs Sequence.
const ELEMENTS: [u16; 7] = [0, 0x10, 0x20, 0x1001, 0x1002, 0x1003, 0x1010];

proptest! {
    #[test]
    fn the_short_way_to_the_changes_is_that_of_the_walker(
        kinds in prop::collection::vec((0_usize..ELEMENTS.len(), 0_u8..5), 0..6),
        open in prop::option::weighted(0.2, 0_usize..ELEMENTS.len()),
        change in 1_usize..ELEMENTS.len(),
    ) {
        let mut kinds = kinds;
        kinds.extend(open.map(|at| (at, 5)));
        kinds.sort_unstable();
        kinds.dedup_by_key(|(at, _)| *at);
        let mut head = explicit();
        for (at, kind) in &kinds {
            let at = (0x0010, ELEMENTS[*at]);
            head = match kind {
                _ if at.1 == 0 => head.put(at, VR::UL, &[4, 0, 0, 0]),
                0 => head.put(at, VR::LO, b"VALUE "),
                1 => head.put(at, VR::OB, &[7; 40]),
                2 => head.put(at, VR::UN, b""),
                3 => head.sequence(at, true, &[identifier("A"), identifier("B")]),
                4 => head.sequence(at, true, &[]),
                _ => head.sequence(at, false, &[identifier("C")]),
            };
        }
        let head = head.put((0x0020, 0x000D), VR::UI, b"1.2.3").bytes;
        let edits = [Edit::Remove(Tag(0x0010, ELEMENTS[change])), append("ID")];
        let mut ordered: Vec<&Edit> = edits.iter().collect();
        ordered.sort_by_key(|edit| edit.tag());
        let walked = cuts_by_walk(&head, &ordered, Limits::default()).unwrap();
        let short = cuts_among_leading(&head, &ordered);
        let is_open = |(at, kind): &(usize, u8)| *kind == 5 && ELEMENTS[*at] != 0;
        prop_assert!(short.is_some() || kinds.iter().any(is_open));
        if let Some(cuts) = short {
            prop_assert_eq!(walked, (cuts, head.len()));
        }
    }

    #[test]
    fn the_edited_head_of_what_can_be_read_can_be_read(at in 0_usize..500, byte in any::<u8>()) {
        let mut head = image(Encoding::ExplicitLittle);
        let at = at % head.len();
        head[at] = byte;
        let readable = DataSet::parse(&head, Encoding::ExplicitLittle, Limits::default()).is_ok();
        if let Ok(out) = edit_head(&head, &[append("ID")], Limits::default()) && readable {
            let set = DataSet::parse(&out, Encoding::ExplicitLittle, Limits::default());
            prop_assert!(set.is_ok(), "{:?}", set.err());
            prop_assert_eq!(identifiers(&out).pop(), Some("ID".to_owned()));
        }
    }
}
