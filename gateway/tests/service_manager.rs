//! The service as its manager sees it: started, ready, told to stop, ended.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Far beyond what a start takes: only so that a broken service fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

fn heard(socket: &UnixDatagram) -> String {
    let mut message = [0; 1024];
    let length = socket.recv(&mut message).unwrap();
    String::from_utf8_lossy(message.get(..length).unwrap()).into_owned()
}

#[test]
fn the_service_says_when_it_is_ready_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let socket_path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&socket_path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = folder.path().join("drimbox.toml");
    let text = "data_dir = \"data\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
                [local]\nlisten = \"127.0.0.1:0\"\n\
                [[pacs]]\nname = \"absent\"\n\
                [pacs.dimse]\nhost = \"127.0.0.1\"\nport = 1\nae_title = \"ABSENT\"\n";
    std::fs::write(&config, text).unwrap();
    let mut service = Command::new(env!("CARGO_BIN_EXE_drimbox"))
        .args(["serve", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", &socket_path)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();

    while !heard(&socket).contains("READY=1") {}
    kill_process(Pid::from_child(&service), Signal::TERM).unwrap();
    while !heard(&socket).contains("STOPPING=1") {}
    assert!(service.wait().unwrap().success());
}
