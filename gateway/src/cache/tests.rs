#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;

use super::{Bounds, Cache, Key, Object, read_range};
use crate::dicom::uid::{InstanceUid, SeriesUid, SopClassUid, StudyUid, TransferSyntaxUid};

pub(super) const ROOMY: Bounds = Bounds {
    max_bytes: 1 << 30,
    min_free_bytes: 0,
};

#[test]
fn a_committed_bundle_is_found_again_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), ROOMY).unwrap();
    commit(&cache, "1", &[b"first", b"second"]);
    drop(cache);

    let cache = Cache::open(dir.path(), ROOMY).unwrap();
    let bundle = cache.get(&key("1")).unwrap();
    let contents: Vec<Bytes> = bundle
        .entries()
        .iter()
        .map(|entry| {
            let length = usize::try_from(entry.length).unwrap();
            read_range(&bundle.file(entry).unwrap(), entry.offset, length).unwrap()
        })
        .collect();
    assert_eq!(contents, [&b"first"[..], b"second"]);
    assert!(bundle.find(&instance(2)).is_some());
    assert_eq!(cache.size(), (1, 11));
}

#[test]
fn a_bundle_that_was_not_committed_is_gone_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), ROOMY).unwrap();
    let staging = cache.stage(key("1")).unwrap();
    staging
        .append(object(1), &[Bytes::from_static(b"half of it")])
        .unwrap();
    // What kill -9 does: nothing is dropped.
    std::mem::forget(staging);
    drop(cache);

    let cache = Cache::open(dir.path(), ROOMY).unwrap();
    assert!(cache.get(&key("1")).is_none());
    assert_eq!(folders(dir.path()), 0);
    assert_eq!(cache.size(), (0, 0));
}

#[test]
fn an_abandoned_bundle_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), ROOMY).unwrap();
    let staging = cache.stage(key("1")).unwrap();
    staging
        .append(object(1), &[Bytes::from_static(b"some")])
        .unwrap();
    drop(staging);
    assert_eq!(folders(dir.path()), 0);
    assert_eq!(cache.size(), (0, 0));
}

#[test]
fn every_damage_to_an_index_or_a_pack_is_seen() {
    let whole = {
        let dir = TempDir::new().unwrap();
        let cache = Cache::open(dir.path(), ROOMY).unwrap();
        commit(&cache, "1", &[b"content"]);
        fs::read(only_folder(dir.path()).join("index")).unwrap()
    };
    for at in 0..whole.len() {
        let dir = TempDir::new().unwrap();
        commit(&Cache::open(dir.path(), ROOMY).unwrap(), "1", &[b"content"]);
        let index = only_folder(dir.path()).join("index");
        let mut damaged = fs::read(&index).unwrap();
        damaged[at] ^= 0x01;
        fs::write(&index, damaged).unwrap();
        let cache = Cache::open(dir.path(), ROOMY).unwrap();
        assert!(
            cache.get(&key("1")).is_none(),
            "a flipped bit at {at} went unseen"
        );
    }
    for damage in [&b"cont"[..], b"c0ntent", b"\0\0\0\0\0\0\0"] {
        let dir = TempDir::new().unwrap();
        commit(&Cache::open(dir.path(), ROOMY).unwrap(), "1", &[b"content"]);
        fs::write(only_folder(dir.path()).join("pack"), damage).unwrap();
        let cache = Cache::open(dir.path(), ROOMY).unwrap();
        assert!(cache.get(&key("1")).is_none(), "{damage:?} went unseen");
    }
}

#[test]
fn the_bytes_after_the_pixels_are_found_again_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let shape = |head_length, tail_length| Object {
        meta_length: 2,
        head_length,
        tail_length,
        ..object(1)
    };
    let kept = |shape: Object| {
        let cache = Cache::open(dir.path(), ROOMY).unwrap();
        let staging = cache.stage(key("1")).unwrap();
        let entry = staging.append(shape, &[Bytes::from_static(b"mmhhpptt")]);
        staging.commit(vec![Arc::new(entry.unwrap())]).unwrap();
        drop(cache);
        let bundle = Cache::open(dir.path(), ROOMY).unwrap().get(&key("1"))?;
        Some(bundle.entries()[0].tail_length)
    };
    assert_eq!(kept(shape(2, 2)), Some(2));
    assert_eq!(kept(shape(2, 4)), Some(4));
    // Longer than the instance: no entry that was written whole says so.
    assert_eq!(kept(shape(2, 5)), None);
    assert_eq!(kept(shape(2, u64::MAX)), None);
}

#[test]
fn a_bundle_of_an_older_version_is_dropped_and_can_be_fetched_again() {
    let dir = TempDir::new().unwrap();
    commit(&Cache::open(dir.path(), ROOMY).unwrap(), "1", &[b"content"]);
    // What the version before wrote: no length of the tail, and its own number.
    let index = only_folder(dir.path()).join("index");
    let text = fs::read_to_string(&index).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut header: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    let mut entries: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
    entries[0]
        .as_object_mut()
        .unwrap()
        .remove("tail_length")
        .unwrap();
    let body = entries.to_string();
    header["version"] = 2.into();
    header["entries_length"] = body.len().into();
    header["entries_crc32"] = crc32fast::hash(body.as_bytes()).into();
    let header = header.to_string();
    let checksum = crc32fast::hash(header.as_bytes());
    fs::write(&index, format!("{checksum:08x}\n{header}\n{body}")).unwrap();

    let cache = Cache::open(dir.path(), ROOMY).unwrap();
    assert!(cache.get(&key("1")).is_none());
    assert_eq!((folders(dir.path()), cache.size()), (0, (0, 0)));
    commit(&cache, "1", &[b"content"]);
    assert!(cache.get(&key("1")).is_some());
}

#[test]
fn what_was_used_least_recently_goes_first() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(
        dir.path(),
        Bounds {
            max_bytes: 30,
            min_free_bytes: 0,
        },
    )
    .unwrap();
    commit(&cache, "1", &[b"0123456789"]);
    commit(&cache, "2", &[b"0123456789"]);
    commit(&cache, "3", &[b"0123456789"]);
    cache.get(&key("1")).unwrap();
    commit(&cache, "4", &[b"0123456789"]);
    assert!(cache.get(&key("2")).is_none());
    assert!(cache.get(&key("1")).is_some());
    assert!(cache.size().1 <= 30);
    assert_eq!(folders(dir.path()), 3);
}

#[test]
fn a_bundle_larger_than_the_cache_is_refused_and_evicts_nothing_for_good() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(
        dir.path(),
        Bounds {
            max_bytes: 16,
            min_free_bytes: 0,
        },
    )
    .unwrap();
    let staging = cache.stage(key("1")).unwrap();
    staging
        .append(object(1), &[Bytes::from_static(b"0123456789")])
        .unwrap();
    let refused = staging
        .append(object(2), &[Bytes::from_static(b"0123456789")])
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
    drop(staging);
    assert_eq!(cache.size(), (0, 0));
}

#[test]
fn a_file_system_without_room_refuses_new_bundles() {
    let dir = TempDir::new().unwrap();
    let bounds = Bounds {
        max_bytes: 1 << 30,
        min_free_bytes: u64::MAX,
    };
    let cache = Cache::open(dir.path(), bounds).unwrap();
    let refused = cache.stage(key("1")).map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::StorageFull);
}

#[test]
fn an_evicted_bundle_stays_readable_for_who_reads_it() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), ROOMY).unwrap();
    commit(&cache, "1", &[b"content"]);
    let bundle = cache.get(&key("1")).unwrap();
    cache.remove(&key("1"));
    assert!(cache.get(&key("1")).is_none());
    let entry = &bundle.entries()[0];
    assert_eq!(
        read_range(&bundle.file(entry).unwrap(), 0, 7).unwrap(),
        &b"content"[..]
    );
    drop(bundle);
    assert_eq!(folders(dir.path()), 0);
}

#[test]
fn a_newer_bundle_takes_the_place_of_the_older() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), ROOMY).unwrap();
    commit(&cache, "1", &[b"old"]);
    commit(&cache, "1", &[b"new", b"and more"]);
    assert_eq!(cache.get(&key("1")).unwrap().entries().len(), 2);
    assert_eq!(folders(dir.path()), 1);
    assert_eq!(cache.size(), (1, 11));
}

#[test]
fn a_large_instance_has_a_file_of_its_own() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), ROOMY).unwrap();
    let staging = cache.stage(key("1")).unwrap();
    let mut large = staging.begin_large().unwrap();
    staging
        .append_large(&mut large, &[Bytes::from_static(b"piece by ")])
        .unwrap();
    staging
        .append_large(&mut large, &[Bytes::from_static(b"piece")])
        .unwrap();
    let entry = Arc::new(staging.finish_large(large, object(1)).unwrap());
    let gone = staging.begin_large().unwrap();
    staging.discard_large(gone);
    let bundle = staging.commit(vec![entry]).unwrap();
    let entry = &bundle.entries()[0];
    let file = bundle.file(entry).unwrap();
    assert_eq!(
        read_range(&file, entry.offset, 14).unwrap(),
        &b"piece by piece"[..]
    );
}

#[test]
fn a_bundle_whose_file_is_gone_or_cut_after_the_look_at_it_leaves_the_cache() {
    type Damage = fn(&Path);
    let damages: [Damage; 2] = [
        |pack| fs::remove_file(pack).unwrap(),
        |pack| fs::write(pack, "cont").unwrap(),
    ];
    for damage in damages {
        let dir = TempDir::new().unwrap();
        let cache = Cache::open(dir.path(), ROOMY).unwrap();
        commit(&cache, "1", &[b"content"]);
        let bundle = cache.get(&key("1")).unwrap();
        damage(&only_folder(dir.path()).join("pack"));
        let error = bundle.open(bundle.entries()).unwrap_err();
        bundle.is_unreadable(&error);
        assert!(!cache.contains(&key("1")));
        assert_eq!(cache.size(), (0, 0));
    }
}

#[test]
fn a_bundle_that_cannot_be_read_takes_neither_its_successor_nor_a_sound_one_with_it() {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open(dir.path(), ROOMY).unwrap();
    commit(&cache, "1", &[b"content"]);
    let bundle = cache.get(&key("1")).unwrap();
    // Too many open files are no damage.
    bundle.is_unreadable(&rustix::io::Errno::MFILE.into());
    assert!(cache.contains(&key("1")));
    commit(&cache, "1", &[b"content"]);
    bundle.is_unreadable(&ErrorKind::UnexpectedEof.into());
    assert!(cache.contains(&key("1")));
}

fn commit(cache: &Arc<Cache>, series: &str, contents: &[&'static [u8]]) {
    let staging = cache.stage(key(series)).unwrap();
    let entries = contents.iter().enumerate().map(|(at, content)| {
        Arc::new(
            staging
                .append(object(at + 1), &[Bytes::from_static(content)])
                .unwrap(),
        )
    });
    let entries = entries.collect();
    staging.commit(entries).unwrap();
}

pub(super) fn key(series: &str) -> Key {
    Key {
        pacs: "pacs".into(),
        study: StudyUid::parse("1.2").unwrap(),
        series: SeriesUid::parse(series).unwrap(),
        instance: None,
    }
}

pub(super) fn instance(number: usize) -> InstanceUid {
    InstanceUid::parse(&format!("1.2.{number}")).unwrap()
}

pub(super) fn object(number: usize) -> Object {
    Object {
        instance: instance(number),
        sop_class: SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
        transfer_syntax: TransferSyntaxUid::parse("1.2.840.10008.1.2.1").unwrap(),
        meta_length: 0,
        head_length: 0,
        tail_length: 0,
    }
}

fn folders(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

fn only_folder(dir: &Path) -> std::path::PathBuf {
    fs::read_dir(dir).unwrap().next().unwrap().unwrap().path()
}
