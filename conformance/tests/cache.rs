//! The cache: never a part for the whole, whatever happens to the process, the files or the room.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::testkit::pacs::Asked;
use conformance::testkit::{Client, Gateway, GatewayConfig};
use support::compare::assert_study;
use support::objects::{self, Made};
use support::pair::is_web;
use support::steered::Steered;
use support::{SINGLE, ask, exam, files, folder, metric, retrieve, run, study_path, until};

const STUDY: &str = "ct300";

/// More than any disk has free.
const NO_DISK: i64 = 1 << 49;

struct Pair {
    pacs: Steered,
    gateway: Gateway,
    cache: PathBuf,
    parts: PathBuf,
}

async fn pair(
    name: &str,
    files: &[PathBuf],
    change: impl FnOnce(GatewayConfig) -> GatewayConfig,
) -> Pair {
    let home = folder(name);
    let cache = home.join("data/cache");
    let pacs = Steered::start(name, files, &[]).await;
    let config = change(GatewayConfig::new(&home).unwrap());
    let config = config.pacs(pacs.entry());
    let gateway = Gateway::start(config).await.unwrap();
    Pair {
        pacs,
        gateway,
        cache,
        parts: folder(&format!("{name}-parts")),
    }
}

impl Pair {
    fn url(&self, path: &str) -> String {
        self.gateway.local_url() + path
    }

    fn retrievals(&self) -> usize {
        self.pacs.retrievals()
    }

    async fn assert_exam(&self, name: &str) {
        let exam = exam(name);
        let client = Client::plain().unwrap();
        let body = retrieve(&client, &self.url(&study_path(exam)), &self.parts).await;
        assert_study(exam, &body, &self.parts);
    }

    async fn assert_made(&self, made: &Made) {
        let client = Client::plain().unwrap();
        let body = retrieve(&client, &self.url(&made.path()), &self.parts).await;
        assert!(body.is_complete(), "{:?}", body.broken);
        made.assert_pixels(&self.parts, body.parts.len());
    }

    async fn metric(&self, name: &str) -> u64 {
        metric(&self.gateway, name, &[]).await
    }

    /// Waits until this many bundles are kept: keeping one goes on after its last byte was sent.
    async fn kept(&self, count: u64) {
        until("bundles in the cache", async || {
            self.metric("drimbox_cache_series").await == count
        })
        .await;
    }

    /// Folders of the bundles.
    fn bundles(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.cache).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect()
    }

    /// Bytes of the images on disk.
    fn size(&self) -> u64 {
        let files = self
            .bundles()
            .into_iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap());
        files
            .map(|file| file.unwrap())
            .filter(|file| file.file_name() != "index")
            .map(|file| file.metadata().unwrap().len())
            .sum()
    }
}

#[test]
fn after_a_kill_in_the_middle_of_a_retrieval_no_part_is_taken_for_the_whole() {
    run(async {
        let mut pair = pair("kill", &files(&[STUDY]), |config| config).await;
        pair.pacs.hold_before(4);
        let exam = exam(STUDY);
        let mut client = ask(&Client::plain().unwrap(), &pair.url(&study_path(exam))).await;
        client.next().await.unwrap();
        pair.pacs.until_held(3, &pair.gateway).await;
        assert!(
            pair.size() > 0,
            "nothing was on disk yet: the story proves nothing"
        );
        pair.gateway.kill();
        assert!(client.drain().await.broken.is_some());

        pair.pacs.recover();
        pair.gateway.restart().await.unwrap();
        assert_eq!(
            pair.bundles(),
            Vec::<PathBuf>::new(),
            "what was not whole is still there"
        );
        assert_eq!(pair.metric("drimbox_cache_series").await, 0);
        pair.assert_exam(STUDY).await;
        assert_eq!(pair.retrievals(), 2);
        pair.kept(1).await;
        pair.gateway.kill();
        pair.gateway.restart().await.unwrap();
        pair.assert_exam(STUDY).await;
        assert_eq!(pair.retrievals(), 2, "what was whole did not survive");
    });
}

#[test]
fn a_kill_at_any_moment_is_survived() {
    run(async {
        let made = objects::make(&folder("moments-files"), "2.25.8001", 24, 256 << 10);
        let mut pair = pair("moments", &made.files, |config| config).await;
        let whole = 24 * (256_u64 << 10);
        for step in 0..8 {
            let mut body = ask(&Client::plain().unwrap(), &pair.url(&made.path())).await;
            let mut seen = 0;
            while seen < whole * step / 7
                && let Some(bytes) = body.next().await.unwrap()
            {
                seen += bytes.len() as u64;
            }
            pair.gateway.kill();
            pair.gateway.restart().await.unwrap();
            pair.assert_made(&made).await;
            // The next step starts without it again.
            pair.kept(1).await;
            pair.gateway.kill();
            fs::remove_dir_all(&pair.cache).unwrap();
            pair.gateway.restart().await.unwrap();
        }
    });
}

#[test]
fn an_association_opened_ahead_is_the_one_that_is_used() {
    if is_web() {
        return;
    }
    run(async {
        let mut pair = pair("ahead", &files(&[STUDY]), |config| config).await;
        pair.assert_exam(STUDY).await;
        pair.kept(1).await;
        pair.gateway.stop(Duration::from_secs(60)).await.unwrap();
        fs::remove_dir_all(&pair.cache).unwrap();
        pair.gateway.restart().await.unwrap();
        // What the study held is known, its images are not here: the association of the C-GET is
        // opened while the C-FIND runs.
        pair.pacs.forget();
        pair.assert_exam(STUDY).await;
        let opened =
            |asked: &Asked| matches!(asked, Asked::Association { contexts, .. } if *contexts > 3);
        assert_eq!(pair.pacs.dimse().count(opened), 1);
        assert_eq!(pair.retrievals(), 1);
    });
}

/// What may happen to the folder of a bundle.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 10] = [
    ("index gone", |bundle| {
        fs::remove_file(bundle.join("index")).unwrap()
    }),
    ("index empty", |bundle| cut(&bundle.join("index"), |_| 0)),
    ("index cut", |bundle| {
        cut(&bundle.join("index"), |length| length - 10)
    }),
    ("index cut in its header", |bundle| {
        cut(&bundle.join("index"), |_| 40)
    }),
    ("index spoiled at its start", |bundle| {
        spoil(&bundle.join("index"), |_| 12)
    }),
    ("index spoiled at its end", |bundle| {
        spoil(&bundle.join("index"), |length| length - 30)
    }),
    ("index of zeros", |bundle| zero(&bundle.join("index"))),
    ("pack gone", |bundle| {
        fs::remove_file(bundle.join("pack")).unwrap()
    }),
    ("pack cut", |bundle| {
        cut(&bundle.join("pack"), |length| length - 1)
    }),
    ("pack empty", |bundle| cut(&bundle.join("pack"), |_| 0)),
];

fn cut(file: &Path, length: fn(u64) -> u64) {
    let file = fs::File::options().write(true).open(file).unwrap();
    file.set_len(length(file.metadata().unwrap().len()))
        .unwrap();
}

fn spoil(file: &Path, at: fn(usize) -> usize) {
    let mut bytes = fs::read(file).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x20;
    fs::write(file, bytes).unwrap();
}

fn zero(file: &Path) {
    let length = fs::metadata(file).unwrap().len();
    fs::write(file, vec![0; length as usize]).unwrap();
}

#[test]
fn a_bundle_damaged_while_the_service_is_down_is_dropped() {
    run(async {
        let mut pair = pair("damage", &files(&[STUDY]), |config| config).await;
        for (what, damage) in DAMAGES {
            pair.pacs.forget();
            pair.assert_exam(STUDY).await;
            pair.kept(1).await;
            pair.gateway.stop(Duration::from_secs(60)).await.unwrap();
            let bundles = pair.bundles();
            assert_eq!(bundles.len(), 1);
            damage(&bundles[0]);
            pair.gateway.restart().await.unwrap();
            pair.assert_exam(STUDY).await;
            assert_eq!(pair.retrievals(), 2, "{what}: the PACS was not asked again");
            pair.kept(1).await;
            assert_eq!(pair.bundles().len(), 1, "{what}: its folder is still there");
            // The next damage starts with an empty cache.
            pair.gateway.stop(Duration::from_secs(60)).await.unwrap();
            fs::remove_dir_all(&pair.cache).unwrap();
            pair.gateway.restart().await.unwrap();
        }
    });
}

#[test]
fn a_bundle_damaged_while_the_service_runs_is_dropped_and_counted() {
    run(async {
        let pair = pair("damage-running", &files(&[STUDY]), |config| config).await;
        pair.assert_exam(STUDY).await;
        pair.kept(1).await;
        for (number, (what, damage)) in DAMAGES.into_iter().enumerate() {
            damage(&pair.bundles()[0]);
            pair.assert_exam(STUDY).await;
            assert_eq!(
                pair.retrievals(),
                number + 2,
                "{what}: the PACS was not asked again"
            );
            let damaged = pair.metric("drimbox_cache_damaged_total").await;
            assert_eq!(damaged, number as u64 + 1, "{what}");
            pair.kept(1).await;
        }
    });
}

#[test]
fn a_file_cut_behind_its_name_is_found_before_the_first_byte_of_the_answer() {
    run(async {
        let pair = pair("cut-open", &files(&[STUDY]), |config| config).await;
        pair.assert_exam(STUDY).await;
        pair.kept(1).await;
        // From the cache: the gateway has the file open from here on.
        pair.assert_exam(STUDY).await;
        assert_eq!(pair.retrievals(), 1);
        let bundle = pair.bundles().remove(0);
        let (pack, aside) = (bundle.join("pack"), bundle.join("aside"));
        let changed = fs::metadata(&pack).unwrap().modified().unwrap();
        fs::rename(&pack, &aside).unwrap();
        fs::copy(&aside, &pack).unwrap();
        let twin = fs::File::options().write(true).open(&pack).unwrap();
        twin.set_modified(changed).unwrap();
        cut(&aside, |length| length / 2);
        // What a look at the names shows is as it was.
        pair.assert_exam(STUDY).await;
        assert_eq!(pair.retrievals(), 2, "the PACS was not asked again");
        assert_eq!(pair.metric("drimbox_cache_damaged_total").await, 1);
        pair.kept(1).await;
    });
}

#[test]
fn a_file_cut_while_it_is_sent_cuts_the_answer_and_leaves_the_cache() {
    run(async {
        let made = objects::make(&folder("cut-sent-files"), "2.25.8151", 32, 1 << 20);
        let pair = pair("cut-sent", &made.files, |config| config).await;
        pair.assert_made(&made).await;
        pair.kept(1).await;
        let slow = Client::builder().receive_buffer(8192).build().unwrap();
        let mut slow = ask(&slow, &pair.url(&made.path())).await;
        slow.next().await.unwrap();
        cut(&pair.bundles()[0].join("pack"), |_| 1);
        assert!(slow.drain().await.broken.is_some());
        // Known without another request.
        pair.kept(0).await;
        assert_eq!(pair.metric("drimbox_cache_damaged_total").await, 1);
        pair.assert_made(&made).await;
        assert_eq!(pair.retrievals(), 2);
    });
}

#[test]
fn images_whose_bytes_changed_on_disk_are_not_served() {
    run(async {
        let mut pair = pair("rot", &files(&[STUDY]), |config| config).await;
        pair.assert_exam(STUDY).await;
        pair.kept(1).await;
        pair.gateway.stop(Duration::from_secs(60)).await.unwrap();
        zero(&pair.bundles()[0].join("pack"));
        pair.gateway.restart().await.unwrap();
        pair.assert_exam(STUDY).await;
    });
}

#[test]
fn an_index_in_the_folder_of_another_series_is_not_believed() {
    run(async {
        let mut pair = pair("swap", &files(&[STUDY, "mr"]), |config| config).await;
        pair.assert_exam(STUDY).await;
        pair.kept(1).await;
        let first = pair.bundles().remove(0);
        pair.assert_exam("mr").await;
        pair.kept(3).await;
        let others: Vec<PathBuf> = pair.bundles().into_iter().filter(|b| *b != first).collect();
        pair.gateway.stop(Duration::from_secs(60)).await.unwrap();
        fs::copy(others[0].join("index"), first.join("index")).unwrap();
        fs::write(pair.cache.join("stray"), "not a bundle").unwrap();
        fs::create_dir(pair.cache.join("stray-folder")).unwrap();
        pair.gateway.restart().await.unwrap();
        pair.assert_exam(STUDY).await;
        pair.assert_exam("mr").await;
        assert!(!pair.cache.join("stray-folder").exists());
    });
}

#[test]
fn what_was_used_least_recently_gives_way() {
    run(async {
        let home = folder("evict-files");
        let size = 1 << 20;
        let made: Vec<Made> = (0..3)
            .map(|number| objects::make(&home, &format!("2.25.810{number}"), 4, size / 4))
            .collect();
        let files: Vec<PathBuf> = made.iter().flat_map(|made| made.files.clone()).collect();
        let most = 2 * size as i64 + size as i64 / 2;
        let pair = pair("evict", &files, |config| {
            config.set("cache.max_bytes", most)
        })
        .await;
        let [a, b, c] = made.as_slice() else {
            panic!("three series")
        };
        pair.assert_made(a).await;
        pair.kept(1).await;
        pair.assert_made(b).await;
        pair.kept(2).await;
        pair.assert_made(a).await;
        assert_eq!(pair.retrievals(), 2);
        pair.assert_made(c).await;
        until("room made", async || {
            pair.metric("drimbox_cache_evictions_total").await == 1
        })
        .await;
        pair.kept(2).await;
        pair.assert_made(a).await;
        pair.assert_made(c).await;
        assert_eq!(pair.retrievals(), 3, "the wrong one gave way");
        assert!(pair.size() <= most as u64, "{} bytes on disk", pair.size());
        assert!(pair.metric("drimbox_cache_bytes").await <= most as u64);
        assert_eq!(pair.bundles().len(), 2);
        pair.assert_made(b).await;
        assert_eq!(pair.retrievals(), 4);
        assert_eq!(pair.metric("drimbox_cache_degraded").await, 0);
    });
}

#[test]
fn a_reader_of_what_gives_way_still_gets_all_of_it() {
    run(async {
        let home = folder("evict-read-files");
        let one = objects::make(&home, "2.25.8201", 24, 1 << 20);
        let two = objects::make(&home, "2.25.8202", 24, 1 << 20);
        let files = [one.files.clone(), two.files.clone()].concat();
        let pair = pair("evict-read", &files, |config| {
            config.set("cache.max_bytes", 30_i64 << 20)
        })
        .await;
        pair.assert_made(&one).await;
        pair.kept(1).await;
        let slow = Client::builder().receive_buffer(8192).build().unwrap();
        let slow = ask(&slow, &pair.url(&one.path())).await;
        pair.assert_made(&two).await;
        until("room made", async || {
            pair.metric("drimbox_cache_evictions_total").await == 1
        })
        .await;
        let into = folder("evict-read-slow");
        let body = slow.multipart_to(&into).await.unwrap();
        assert!(body.is_complete());
        one.assert_pixels(&into, body.parts.len());
        assert_eq!(pair.retrievals(), 2);
        until("its folder to go", async || pair.bundles().len() == 1).await;
    });
}

#[test]
fn a_series_larger_than_the_cache_passes_through_whole() {
    run(async {
        let large = objects::make(&folder("larger-files"), "2.25.8301", 32, 1 << 20);
        let all = [large.files.clone(), files(&[STUDY])].concat();
        let pair = pair("larger", &all, |config| {
            config.set("cache.max_bytes", 4_i64 << 20)
        })
        .await;
        pair.assert_made(&large).await;
        assert_eq!(pair.metric("drimbox_cache_degraded").await, 1);
        assert_eq!(pair.metric("drimbox_cache_passed_through_total").await, 1);
        assert_eq!(pair.metric("drimbox_cache_series").await, 0);
        assert!(pair.size() <= 4 << 20, "{} bytes on disk", pair.size());
        pair.assert_made(&large).await;
        assert_eq!(pair.retrievals(), 2);
        // What has room is kept, and the alert ends.
        pair.assert_exam(STUDY).await;
        pair.kept(1).await;
        assert_eq!(pair.metric("drimbox_cache_degraded").await, 0);
    });
}

#[test]
fn with_a_full_disk_images_pass_through_to_everyone() {
    run(async {
        let large = objects::make(&folder("full-files"), "2.25.8401", 6, 6 << 20);
        let all = [large.files.clone(), files(&[STUDY])].concat();
        let pair = pair("full", &all, |config| {
            config.set("cache.min_free_bytes", NO_DISK)
        })
        .await;
        pair.assert_exam(STUDY).await;
        assert_eq!(pair.metric("drimbox_cache_degraded").await, 1);
        // More than a retrieval may hold in memory, in images that are not small either.
        let path = large.path();
        let (one, two) = tokio::join!(
            async {
                let into = folder("full-one");
                let client = Client::plain().unwrap();
                let body = retrieve(&client, &pair.url(&path), &into).await;
                assert!(body.is_complete());
                large.assert_pixels(&into, body.parts.len());
                body.bytes
            },
            async {
                let into = folder("full-two");
                let client = Client::plain().unwrap();
                let body = retrieve(&client, &pair.url(&path), &into).await;
                assert!(body.is_complete());
                large.assert_pixels(&into, body.parts.len());
                body.bytes
            }
        );
        assert_eq!(one, two);
        assert_eq!(pair.size(), 0);
        assert!(pair.metric("drimbox_cache_passed_through_total").await >= 2);
    });
}

#[test]
fn with_a_full_disk_an_instance_larger_than_memory_passes_through_too() {
    run(async {
        let large = objects::make(&folder("huge-files"), "2.25.8501", 2, 40 << 20);
        let pair = pair("huge", &large.files, |config| {
            config.set("cache.min_free_bytes", NO_DISK)
        })
        .await;
        pair.assert_made(&large).await;
        let client = Client::plain().unwrap();
        let url = pair.url(&large.instance_path(1));
        let answer = client.get(&url).accept(SINGLE).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(large.position(&answer.bytes().await.unwrap()), 1);
        let url = pair.url(&format!("{}/metadata", large.series_path()));
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.json().await.unwrap().as_array().unwrap().len(), 2);
        assert_eq!(pair.retrievals(), 3);
        assert_eq!(pair.metric("drimbox_cache_degraded").await, 1);
        assert_eq!(pair.size(), 0);
    });
}

#[test]
fn an_instance_in_the_middle_of_which_the_disk_becomes_full_passes_through_whole() {
    run(async {
        let large = objects::make(&folder("fills-files"), "2.25.8551", 2, 40 << 20);
        let pair = pair("fills", &large.files, |config| {
            config.set("cache.max_bytes", 60_i64 << 20)
        })
        .await;
        pair.assert_made(&large).await;
        assert_eq!(pair.metric("drimbox_cache_degraded").await, 1);
        assert_eq!(pair.metric("drimbox_cache_series").await, 0);
    });
}

#[test]
fn instances_larger_than_memory_allows_are_kept_and_served() {
    run(async {
        let large = objects::make(&folder("large-files"), "2.25.8601", 2, 36 << 20);
        let medium = objects::make(&folder("medium-files"), "2.25.8602", 2, 6 << 20);
        let all = [large.files.clone(), medium.files.clone()].concat();
        let mut pair = pair("large", &all, |config| config).await;
        pair.gateway.reset_peak_memory().unwrap();
        let before = pair.gateway.memory().unwrap().now;
        for made in [&large, &medium] {
            pair.assert_made(made).await;
            pair.assert_made(made).await;
        }
        let grown = pair.gateway.memory().unwrap().peak - before;
        assert!(
            grown < 64 << 20,
            "{grown} bytes of memory for images of 36 MiB"
        );
        pair.kept(2).await;
        assert_eq!(pair.retrievals(), 2);
        pair.gateway.stop(Duration::from_secs(60)).await.unwrap();
        pair.gateway.restart().await.unwrap();
        let client = Client::plain().unwrap();
        let url = pair.url(&large.instance_path(1));
        let answer = client.get(&url).accept(SINGLE).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(large.position(&answer.bytes().await.unwrap()), 1);
        assert_eq!(pair.retrievals(), 2);
    });
}
