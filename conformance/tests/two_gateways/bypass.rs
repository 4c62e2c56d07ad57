//! A site whose revocation lists are missing or out of date, as callers and its administrator see it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::samples::kos::Kos;
use conformance::testkit::gateway::binary;
use conformance::testkit::igc::{CrlSpec, LeafSpec};
use conformance::testkit::network::addresses;
use conformance::testkit::psc::RADIOLOGIST;
use conformance::testkit::{
    Client, FaultyPacs, Gateway, GatewayConfig, Identity, Network, PacsConfig, free_port,
};
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::pair::{CLIENT, text};
use crate::support::{AS_STORED, exam, folder, metric, run, until};

const SITE: &str = "db1.alone.example";
const CALLER: &str = "db1.caller.example";
const REVOKED: &str = "db1.revoked.example";

/// A site that has a white list, and revocation lists as the story says.
struct Alone {
    home: PathBuf,
    network: Network,
    gateway: Gateway,
    caller: Identity,
    revoked: Identity,
    _pacs: FaultyPacs,
}

impl Alone {
    async fn start(name: &str) -> Self {
        let home = folder(name);
        let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let listed = [SITE, CALLER, REVOKED];
        let at = home.join("network");
        let network = Network::start(&at, build, &listed, &[CLIENT, SITE]).await;
        let network = network.unwrap();
        let identity = |host: &str, serial| {
            let spec = LeafSpec {
                serial,
                dns_names: vec![host.to_owned()],
                ..LeafSpec::peer(host)
            };
            network.identity(host, &spec).unwrap()
        };
        let served = identity(SITE, 0x51_5001);
        let (caller, revoked) = (identity(CALLER, 0x51_5002), identity(REVOKED, 0x51_5003));
        network.revoke(1, &[0x51_5003]).unwrap();
        let pacs = FaultyPacs::start("SIM", &[], &[]).await.unwrap();
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        let config = GatewayConfig::new(&home).unwrap();
        let config = network
            .join(config, SITE)
            .unwrap()
            .set("consumer.addresses", addresses(&[(SITE, listen.clone())]))
            .set("consumer.attempts", 1)
            .set("peer.listen", listen)
            .pacs(PacsConfig::new("sim", "SIM", pacs.port()).db_host(SITE, &served));
        let gateway = Gateway::start(config).await.unwrap();
        let alone = Self {
            home,
            network,
            gateway,
            caller,
            revoked,
            _pacs: pacs,
        };
        until("the site is ready", async || {
            alone.ask(&alone.caller).await == Some(404)
        })
        .await;
        alone
    }

    /// The status of a request of this peer for an exam that nobody published; `None`: the handshake
    /// fails.
    async fn ask(&self, peer: &Identity) -> Option<u16> {
        let issued = self.network.provider.issue(RADIOLOGIST, CLIENT);
        let token = issued.await.unwrap().0;
        let client = Client::builder()
            .ca(&self.network.root_file().unwrap())
            .identity(peer)
            .resolve(SITE, self.gateway.address("peer"))
            .build()
            .unwrap();
        let url = self.gateway.peer_url(SITE) + "/studies/1.2/series/1.3";
        let call = client
            .get(&url)
            .accept(AS_STORED)
            .header("authorization", &format!("Bearer {token}"))
            .header("kos-sopinstanceuid", "1.4");
        let answer = call.send().await.ok()?;
        Some(answer.status().as_u16())
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary().unwrap());
        command.args(arguments).arg("--config");
        command.arg(self.home.join("drimbox.toml"));
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// Asks its own `db` name for an exam that nobody published.
    async fn fetch_from_itself(&self) -> Output {
        let root = format!("https://{SITE}/dicom-web");
        let kos = self.home.join("kos.dcm");
        Kos::of(exam("ct300"), &root).write(&kos).unwrap();
        let token = self.home.join("token");
        let issued = self.network.provider.issue(RADIOLOGIST, CLIENT);
        std::fs::write(&token, issued.await.unwrap().0).unwrap();
        let paths = [&kos, &self.home.join("out"), &token];
        let [kos, out, token] = paths.map(|path| path.display().to_string());
        let arguments = [
            "fetch",
            "--kos",
            &kos,
            "--out",
            &out,
            "--token-file",
            &token,
        ];
        self.run(&arguments).await
    }

    /// Takes the revocation list of the issuing authority away, where it is kept and where it comes from.
    async fn lose_revocation_list(&mut self) {
        self.gateway.kill();
        let kept = self.home.join("data/trust/crl");
        std::fs::remove_dir_all(kept).unwrap();
        std::fs::remove_file(self.home.join("network/organisations.crl")).unwrap();
        self.gateway.restart().await.unwrap();
    }

    /// Waits until a refusal of this reason is in the trail.
    async fn on_record(&self, reason: &str) {
        until(reason, async || {
            let refusals = self.events("connection-refused");
            refusals
                .iter()
                .any(|event| event["outcome"]["reason"] == reason)
        })
        .await;
    }

    fn events(&self, kind: &str) -> Vec<Json> {
        let segments = std::fs::read_dir(self.home.join("data/audit")).unwrap();
        let segments = segments.map(|entry| entry.unwrap().path());
        let text: String = segments
            .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
        let records = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Json>(line).ok());
        let events = records.map(|record| record["event"].clone());
        events.filter(|event| event["kind"] == kind).collect()
    }
}

fn in_hours(hours: i64) -> String {
    let at = OffsetDateTime::now_utc() + time::Duration::hours(hours);
    at.format(&Rfc3339).unwrap()
}

#[test]
fn without_a_revocation_list_nobody_comes_in_but_by_a_bypass_that_is_on_record() {
    run(async {
        let mut alone = Alone::start("missing-list").await;
        assert_eq!(alone.ask(&alone.revoked).await, None);
        alone.lose_revocation_list().await;
        assert_eq!(alone.ask(&alone.caller).await, None);
        alone.on_record("crl_missing").await;
        let failed = alone.run(&["trust", "refresh"]).await;
        assert_eq!(failed.status.code(), Some(1));
        assert!(text(&failed.stderr).contains("organisations.crl : ÉCHEC"));

        // Too long, then without a reason, then as it should be.
        let long = in_hours(24 * 30);
        let bypass = |until: &str| {
            let until = until.to_owned();
            let alone = &alone;
            async move {
                let reason = "panne de publication";
                alone
                    .run(&["trust", "bypass", "--until", &until, "--reason", reason])
                    .await
            }
        };
        assert_eq!(bypass(&long).await.status.code(), Some(1));
        assert!(alone.events("bypass-started").is_empty());
        let unexplained = ["trust", "bypass", "--until", &in_hours(2)];
        assert_eq!(alone.run(&unexplained).await.status.code(), Some(2));
        let opened = bypass(&in_hours(2)).await;
        assert!(opened.status.success(), "{}", text(&opened.stderr));

        // Loud: a gauge to watch, and a line in the log that comes again while it lasts.
        let gauge = async || metric(&alone.gateway, "drimbox_trust_bypass_open", &[]).await;
        assert_eq!(gauge().await, 1);
        let log = std::fs::read_to_string(alone.gateway.log_file()).unwrap();
        assert!(log.contains("revocation bypass OPEN"));

        let started = alone.events("bypass-started");
        assert_eq!(started.len(), 1);
        assert_eq!(started[0]["actor"]["account"], "admin-token");
        let subject = started[0]["object"]["subject"].as_str().unwrap();
        assert!(subject.contains("panne de publication"), "{subject}");
        assert_eq!(alone.ask(&alone.caller).await, Some(404));
        until("its use is on record", async || {
            alone.events("bypass-used").iter().any(|event| {
                let subject = event["actor"]["peer"]["subject"].as_str();
                subject.is_some_and(|subject| subject.contains(CALLER))
            })
        })
        .await;
        let shown = alone.run(&["trust", "show"]).await;
        assert!(text(&shown.stdout).contains("DÉROGATION OUVERTE"));

        // A source that is asked is believed by it too, also by a command beside the service.
        let by_fetch = || {
            let mut used = alone.events("bypass-used");
            used.retain(|event| event["actor"]["account"] == "drimbox fetch");
            used
        };
        assert!(by_fetch().is_empty());
        let fetched = alone.fetch_from_itself().await;
        let said = text(&fetched.stderr);
        assert!(said.contains("n'est plus publié"), "{said}");
        let used = by_fetch();
        assert_eq!(used.len(), 1);
        let subject = used[0]["actor"]["peer"]["subject"].as_str().unwrap();
        assert!(subject.contains(SITE), "{subject}");

        let ended = alone.run(&["trust", "bypass", "--end"]).await;
        assert!(ended.status.success(), "{}", text(&ended.stderr));
        assert_eq!(gauge().await, 0);
        assert_eq!(alone.ask(&alone.caller).await, None);
        until("its end is on record", async || {
            alone.events("bypass-ended").len() == 1
        })
        .await;

        // The list is back: everything is as it was.
        alone.network.revoke(2, &[0x51_5003]).unwrap();
        let refreshed = alone.run(&["trust", "refresh"]).await;
        assert!(refreshed.status.success(), "{}", text(&refreshed.stderr));
        assert_eq!(alone.ask(&alone.caller).await, Some(404));
        assert_eq!(alone.ask(&alone.revoked).await, None);
        let verified = alone.run(&["audit", "verify"]).await;
        assert!(verified.status.success(), "{}", text(&verified.stdout));
    });
}

#[test]
fn a_revocation_list_past_its_date_lets_nobody_in_until_the_next_one_comes() {
    run(async {
        let alone = Alone::start("stale-list").await;
        let stale = CrlSpec {
            number: 12,
            hours: (-48, -1),
            revoked: vec![0x51_5003],
            ..CrlSpec::default()
        };
        alone.network.revocation_list(&stale).unwrap();
        // It is taken, and proves nothing any more about the signer of the white list either.
        let refreshed = alone.run(&["trust", "refresh"]).await;
        let said = text(&refreshed.stderr);
        assert!(said.contains("organisations.crl : à jour"), "{said}");
        assert!(said.contains("Liste blanche : ÉCHEC"), "{said}");
        assert_eq!(alone.ask(&alone.caller).await, None);
        alone.on_record("crl_expired").await;
        // What it revokes stays revoked, whatever its date.
        assert_eq!(alone.ask(&alone.revoked).await, None);
        alone.on_record("revoked").await;
        let shown = alone.run(&["trust", "show"]).await;
        assert!(text(&shown.stdout).contains("NE COMPTE PAS"));

        alone.network.revoke(3, &[0x51_5003]).unwrap();
        let refreshed = alone.run(&["trust", "refresh"]).await;
        assert!(refreshed.status.success(), "{}", text(&refreshed.stderr));
        assert_eq!(alone.ask(&alone.caller).await, Some(404));
    });
}
