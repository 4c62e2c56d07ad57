//! The demonstration, as `make demo` starts it, with few images.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use conformance::testkit::psc::left_out;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value as Json;

/// Members of `demo.json` that other programs count on.
const MEMBERS: [&str; 13] = [
    "/pacs/host",
    "/pacs/port",
    "/pacs/ae_title",
    "/pacs/dicomweb_url",
    "/gateway/ae_title",
    "/gateway/dimse_port",
    "/gateway/local_url",
    "/gateway/peer_url",
    "/gateway/admin_url",
    "/gateway/pid",
    "/tls/ca_file",
    "/tls/client_cert_file",
    "/tls/client_key_file",
];

#[test]
fn the_demonstration_plays_its_tour_and_stops_all_that_it_started() {
    if left_out() {
        return;
    }
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo");
    let played = start(&state, &["--once"]).wait_with_output().unwrap();
    let said = text(&played);
    assert!(played.status.success(), "{said}");
    for shown in [
        "under the certificate of Pebble",
        "EMPLACEMENT",
        "Every step succeeded.",
    ] {
        assert!(said.contains(shown), "{shown}: {said}");
    }

    // Once more, until Ctrl-C.
    let mut running = start(&state, &[]);
    let mut said = BufReader::new(running.stdout.take().unwrap()).lines();
    let ready = |line: &String| line.contains("Running until Ctrl-C");
    assert!(said.any(|line| ready(&line.unwrap())), "it ended");
    let told = std::fs::read(state.join("demo.json")).unwrap();
    let told: Json = serde_json::from_slice(&told).unwrap();
    let address = told["tls"]["addresses"]["db.demo.example"]
        .as_str()
        .unwrap();
    TcpStream::connect(address).unwrap();
    for member in MEMBERS {
        let value = told.pointer(member);
        assert!(
            value.is_some_and(|value| !value.is_null()),
            "{member} in {told}"
        );
    }
    assert_eq!(
        told["state_dir"],
        state.canonicalize().unwrap().to_str().unwrap()
    );
    let pids = [
        &told["gateway"]["pid"],
        &told["neighbour"]["pid"],
        &told["neighbour"]["door"]["pid"],
    ];
    let pids = pids.map(|pid| Pid::from_raw(pid.as_i64().unwrap() as i32).unwrap());
    for pid in pids {
        test_kill_process(pid).unwrap();
    }
    let own = Pid::from_raw(running.id() as i32).unwrap();
    kill_process(own, Signal::INT).unwrap();
    said.for_each(drop);
    let ended = running.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", text(&ended));
    for pid in pids {
        assert!(
            test_kill_process(pid).is_err(),
            "{pid:?} still runs: {}",
            text(&ended)
        );
    }

    // What is in a folder that is not its own is left alone.
    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("notes"), "").unwrap();
    let refused = start(foreign.path(), &["--once"])
        .wait_with_output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused).contains("choose another with STATE="),
        "{}",
        text(&refused)
    );
    assert!(foreign.path().join("notes").exists());
}

fn start(state: &Path, arguments: &[&str]) -> Child {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.arg("--state").arg(state).args(["--samples", "small"]);
    demo.args(arguments);
    demo.stdout(Stdio::piped()).stderr(Stdio::piped());
    demo.spawn().unwrap()
}

fn text(output: &Output) -> String {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}
