//! The processes of the codecs written in C and C++: what is lost when one of them is, and what they
//! may do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use conformance::samples::Instance;
use conformance::testkit::{Client, Gateway, GatewayConfig, Orthanc, PacsConfig, binary};
use dicom_dictionary_std::uids;
use drimbox::dicom::uid::TransferSyntaxUid;
use drimbox::pixels::worker::{Codecs, WorkerSettings, Workers};
use drimbox::pixels::{PixelError, PixelLimits, StoredImage, TranscodeOptions, transcode};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use support::{exam, exams, folder, metric, run, until};

const LOST: &str = "drimbox_codec_processes_lost_total";
const STARTED: &str = "drimbox_codec_processes_started_total";
const BUSY: &str = "drimbox_codec_processes_busy";
const JOBS: &str = "drimbox_codec_jobs_total";

/// An image in this transfer syntax, and its path below the root of the service.
fn stored_in(syntax: &str) -> (&'static Instance, String) {
    for exam in &exams().exams {
        for series in &exam.series {
            for (at, instance) in series.instances.iter().enumerate() {
                if instance.transfer_syntax_uid == syntax && instance.frames > 0 {
                    return (instance, support::instance_path(exam, series, at));
                }
            }
        }
    }
    panic!("no image in {syntax}")
}

struct Pair {
    gateway: Gateway,
    client: Client,
    url: String,
    _orthanc: Orthanc,
}

impl Pair {
    /// A gateway whose one frame is a JPEG-LS stream.
    async fn over(name: &str, key: &str, value: u32) -> Self {
        let (instance, path) = stored_in(uids::JPEGLS_LOSSLESS);
        let orthanc = Orthanc::builder(&folder(&format!("{name}-orthanc")))
            .start()
            .await
            .unwrap();
        orthanc.upload(vec![exams().path(instance)]).await.unwrap();
        let config = GatewayConfig::new(&folder(name)).unwrap().set(key, value);
        let entry = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
        let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
        Self {
            url: format!("{}{path}/frames/1", gateway.local_url()),
            gateway,
            client: Client::plain().unwrap(),
            _orthanc: orthanc,
        }
    }

    /// The status of the decoded frame.
    async fn frame(&self) -> u16 {
        let octets = "multipart/related; type=\"application/octet-stream\"";
        let request = self.client.get(&self.url).accept(octets);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        answer.bytes().await.unwrap();
        status.into()
    }

    /// The one codec process.
    fn worker(&self) -> u32 {
        let all = workers_of(self.gateway.pid());
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }
}

/// Codec processes among the children of a process.
fn workers_of(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|children| {
            let ids = children.split_whitespace().map(str::parse);
            ids.collect::<Result<Vec<u32>, _>>().unwrap()
        })
        .filter(|id| {
            fs::read_to_string(format!("/proc/{id}/cmdline"))
                .is_ok_and(|line| line.contains("codec-worker"))
        })
        .collect()
}

fn signal(id: u32, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    kill_process(id, signal).unwrap();
}

/// What a process has open.
fn open_by(id: u32) -> BTreeSet<String> {
    let open = fs::read_dir(format!("/proc/{id}/fd")).unwrap();
    open.flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|what| what.to_string_lossy().into_owned())
        .collect()
}

/// True when a process runs no more; one that nobody has waited for still has an entry.
fn is_gone(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(") ")?.1.starts_with('Z')))
        .unwrap_or(true)
}

#[test]
fn a_codec_that_crashes_costs_one_request_and_is_counted() {
    run(async {
        let pair = Pair::over("crash", "pixels.codec_timeout_seconds", 600).await;
        assert_eq!(pair.frame().await, 200);
        let worker = pair.worker();
        signal(worker, Signal::STOP);
        let asked = async { pair.frame().await };
        let crash = async {
            until("the frame is at the codec", async || {
                metric(&pair.gateway, BUSY, &[]).await == 1
            })
            .await;
            signal(worker, Signal::ABORT);
            signal(worker, Signal::CONT);
        };
        assert_eq!(futures_util::join!(asked, crash).0, 502);
        let ended = [("codec", "jpeg-ls"), ("cause", "ended")];
        assert_eq!(metric(&pair.gateway, LOST, &ended).await, 1);
        assert_eq!(pair.frame().await, 200);
        assert_ne!(pair.worker(), worker);
        assert_eq!(metric(&pair.gateway, STARTED, &[]).await, 2);
    });
}

#[test]
fn a_codec_that_gives_no_result_is_ended_and_replaced() {
    run(async {
        let pair = Pair::over("hang", "pixels.codec_timeout_seconds", 2).await;
        assert_eq!(pair.frame().await, 200);
        let worker = pair.worker();
        signal(worker, Signal::STOP);
        assert_eq!(pair.frame().await, 502);
        assert!(is_gone(worker));
        assert_eq!(
            metric(&pair.gateway, LOST, &[("cause", "timeout")]).await,
            1
        );
        assert_eq!(pair.frame().await, 200);
    });
}

#[test]
fn a_codec_that_meets_its_memory_limit_costs_one_request() {
    run(async {
        let pair = Pair::over("memory", "pixels.codec_timeout_seconds", 600).await;
        assert_eq!(pair.frame().await, 200);
        let worker = pair.worker();
        // As for an image that takes more than the limit: whatever it asks for is too much.
        let id = Pid::from_raw(i32::try_from(worker).unwrap());
        let nothing = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        prlimit(id, Resource::As, nothing).unwrap();
        assert_eq!(pair.frame().await, 502);
        let ended = [("codec", "jpeg-ls"), ("cause", "ended")];
        assert_eq!(metric(&pair.gateway, LOST, &ended).await, 1);
        assert_eq!(pair.frame().await, 200);
        assert_ne!(pair.worker(), worker);
        assert_eq!(metric(&pair.gateway, LOST, &[]).await, 1);
    });
}

#[test]
fn one_frame_of_many_is_one_job_for_the_codec() {
    run(async {
        let exam = exam("enhanced-ct");
        let instance = exam.instances().next().unwrap();
        assert_eq!(instance.transfer_syntax_uid, uids::JPEGLS_LOSSLESS);
        let pair = support::pair::Pair::over("one-job", support::files(&["enhanced-ct"])).await;
        let mut jobs = 0;
        for (below, accept, more) in [
            ("/frames/3", "application/octet-stream", 1),
            ("/frames/3/rendered", "image/png", 1),
            ("/frames/2,4", "multipart/related", 2),
            ("/frames/1", "image/jls", 0),
        ] {
            let answer = pair.get(instance, below, accept).await;
            assert_eq!(answer.status(), 200, "{below}");
            answer.bytes().await.unwrap();
            jobs += more;
            assert_eq!(metric(&pair.gateway, JOBS, &[]).await, jobs, "{below}");
        }
        assert!(instance.frames > 3);
    });
}

#[test]
fn a_codec_process_that_dies_while_it_waits_costs_nothing() {
    run(async {
        let pair = Pair::over("idle", "pixels.codec_timeout_seconds", 600).await;
        assert_eq!(pair.frame().await, 200);
        let worker = pair.worker();
        signal(worker, Signal::KILL);
        until("the process is gone", async || is_gone(worker)).await;
        assert_eq!(pair.frame().await, 200);
        assert_eq!(metric(&pair.gateway, LOST, &[]).await, 0);
    });
}

#[test]
fn a_codec_process_has_nothing_of_the_gateway_and_ends_with_it() {
    run(async {
        let mut pair = Pair::over("alone", "pixels.max_memory_bytes", 64 << 20).await;
        assert_eq!(pair.frame().await, 200);
        let worker = pair.worker();
        let of = |file: &str| fs::read(format!("/proc/{worker}/{file}")).unwrap();
        assert_eq!(of("environ"), b"");
        let limits = String::from_utf8(of("limits")).unwrap();
        let limit = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..]
                .split_whitespace()
                .nth(1)
                .unwrap()
                .to_owned()
        };
        assert_eq!(limit("Max address space"), (320_u64 << 20).to_string());
        for name in ["Max open files", "Max processes", "Max core file size"] {
            assert_eq!(limit(name), "0", "{name}");
        }
        // One socket that the gateway has no end of under the same name, and where its errors go. What
        // this program itself was left by whoever started it, it left the gateway.
        let ours = open_by(std::process::id());
        let mut theirs = open_by(worker);
        theirs.retain(|what| what != "/dev/null" && !ours.contains(what));
        let gateway = open_by(pair.gateway.pid());
        assert_eq!(theirs.len(), 1, "{theirs:?}");
        assert!(theirs.is_disjoint(&gateway), "{theirs:?}");
        pair.gateway.process().kill();
        until("the process is gone", async || is_gone(worker)).await;
    });
}

fn workers(program: PathBuf) -> Arc<Workers> {
    Arc::new(Workers::new(WorkerSettings {
        program,
        ..WorkerSettings::of_this_program(1, 512 << 20, Duration::from_secs(600))
    }))
}

#[test]
fn images_are_the_same_in_a_process_of_their_own() {
    let workers = workers(binary().unwrap());
    let codecs = Codecs::Workers(Arc::clone(&workers));
    for syntax in [
        uids::JPEGLS_LOSSLESS,
        uids::JPEGLS_NEAR_LOSSLESS,
        uids::JPEG2000_LOSSLESS,
        uids::JPEG2000,
    ] {
        let path = exams().path(stored_in(syntax).0);
        let open = || StoredImage::open(File::open(&path).unwrap(), PixelLimits::default());
        let here = open().unwrap().frame(0).unwrap();
        let there = open()
            .unwrap()
            .with_codecs(codecs.clone())
            .frame(0)
            .unwrap();
        assert_eq!(here, there, "{syntax}");
        let written = |codecs: Codecs| {
            let mut out = Vec::new();
            let options = TranscodeOptions {
                codecs,
                ..TranscodeOptions::default()
            };
            let target = TransferSyntaxUid::parse(uids::JPEGLS_LOSSLESS).unwrap();
            transcode(File::open(&path).unwrap(), &target, &options, &mut out).unwrap();
            out
        };
        assert!(
            written(codecs.clone()) == written(Codecs::InProcess),
            "{syntax}"
        );
    }
    assert_eq!(
        workers.idle().len(),
        1,
        "one process does one job after the other"
    );
}

#[test]
fn a_damaged_image_is_told_by_the_codec_and_the_process_goes_on() {
    let workers = workers(binary().unwrap());
    let path = exams().path(stored_in(uids::JPEGLS_LOSSLESS).0);
    let whole = fs::read(&path).unwrap();
    let image = StoredImage::open(File::open(&path).unwrap(), PixelLimits::default()).unwrap();
    let stored = image.stored_frame(0).unwrap();
    let at = whole
        .windows(stored.len())
        .position(|window| window == stored)
        .unwrap();
    let mut damaged = whole.clone();
    // A scan of zeros: the header stays.
    damaged[at + 64..at + stored.len()].fill(0);
    let open = |file: Vec<u8>| {
        let image = StoredImage::open(file, PixelLimits::default()).unwrap();
        image.with_codecs(Codecs::Workers(Arc::clone(&workers)))
    };
    let error = open(damaged).frame(0).unwrap_err();
    assert!(matches!(error, PixelError::Damaged { .. }), "{error}");
    let process = workers.idle();
    open(whole).frame(0).unwrap();
    assert_eq!(workers.idle(), process);
}

#[test]
fn a_program_that_is_no_codec_is_an_error() {
    let path = exams().path(stored_in(uids::JPEG2000).0);
    let frame = |program: &str| {
        let image = StoredImage::open(File::open(&path).unwrap(), PixelLimits::default()).unwrap();
        let codecs = Codecs::Workers(workers(PathBuf::from(program)));
        image.with_codecs(codecs).frame(0).unwrap_err()
    };
    assert!(matches!(frame("/nonexistent"), PixelError::NoWorker(_)));
    assert!(matches!(frame("/bin/false"), PixelError::CodecEnded(_)));
}
