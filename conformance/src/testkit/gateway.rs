//! The gateway under test, as the process that an administrator would start.

use std::fmt::Display;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use toml::{Table, Value};

use super::metrics::Metrics;
use super::{
    Client, ClientBuilder, Identity, KitError, Pki, Process, Program, free_port, syscalls,
};

/// Path of the DICOMweb service below each listener.
const BASE_PATH: &str = "/dicom-web";
/// Bytes of memory that are looked at at once.
const LOOKED_AT: usize = 1 << 20;

/// The configuration file of a gateway, with free ports and everything below one folder.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    folder: PathBuf,
    root: Table,
    pacs: Vec<PacsConfig>,
}

impl GatewayConfig {
    /// Admin and local listeners on free ports, data below `folder`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn new(folder: &Path) -> Result<Self, KitError> {
        let config = Self {
            folder: folder.to_owned(),
            root: Table::new(),
            pacs: Vec::new(),
        };
        Ok(config
            .set("data_dir", folder.join("data").display().to_string())
            .set("admin.listen", loopback(free_port()?))
            .set("local.listen", loopback(free_port()?))
            .set("local.base_path", BASE_PATH)
            .set("dimse.ae_title", "DRIMBOX")
            .set("cache.min_free_bytes", 0))
    }

    /// Sets any key, by its dotted path: `set("limits.max_requests", 4)`.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        put(&mut self.root, path, value.into());
        self
    }

    /// Adds the peer listener on a free port, for all clients of this authority and without any
    /// other condition.
    ///
    /// # Errors
    /// When no port is free.
    pub fn peer(self, pki: &Pki) -> Result<Self, KitError> {
        Ok(self
            .set("peer.listen", loopback(free_port()?))
            .set("peer.base_path", BASE_PATH)
            .set("peer.gate", "none")
            .set("peer.healthcheck_without_certificate", false)
            .set("peer.client_ca_file", pki.ca_file().display().to_string()))
    }

    /// Adds the storage SCP that C-MOVE needs, on a free port.
    ///
    /// # Errors
    /// When no port is free.
    pub fn storage_scp(self) -> Result<Self, KitError> {
        Ok(self.set("dimse.listen", loopback(free_port()?)))
    }

    /// Adds a PACS.
    #[must_use]
    pub fn pacs(mut self, pacs: PacsConfig) -> Self {
        self.pacs.push(pacs);
        self
    }

    /// The address of a listener: `admin`, `local`, `peer` or `dimse`.
    #[must_use]
    pub fn address(&self, section: &str) -> Option<SocketAddr> {
        let listen = self.root.get(section)?.get("listen")?;
        listen.as_str()?.parse().ok()
    }

    /// The text of the file.
    ///
    /// # Errors
    /// When a value cannot be written as TOML.
    pub fn text(&self) -> Result<String, KitError> {
        let mut root = self.root.clone();
        let pacs = self.pacs.iter().map(|p| Value::Table(p.table.clone()));
        root.insert("pacs".into(), Value::Array(pacs.collect()));
        toml::to_string(&root).map_err(|error| KitError::Invalid {
            what: "gateway configuration".into(),
            reason: error.to_string(),
        })
    }

    /// Writes the file `drimbox.toml` into the folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> Result<PathBuf, KitError> {
        std::fs::create_dir_all(&self.folder).map_err(KitError::io("create", &self.folder))?;
        let file = self.folder.join("drimbox.toml");
        std::fs::write(&file, self.text()?).map_err(KitError::io("write", &file))?;
        Ok(file)
    }
}

/// One `[[pacs]]` of a gateway's configuration.
#[derive(Debug, Clone)]
pub struct PacsConfig {
    table: Table,
}

impl PacsConfig {
    /// A PACS on loopback, asked by C-GET.
    #[must_use]
    pub fn new(name: &str, ae_title: &str, port: u16) -> Self {
        Self {
            table: Table::new(),
        }
        .set("name", name)
        .set("dimse.host", "127.0.0.1")
        .set("dimse.port", i64::from(port))
        .set("dimse.ae_title", ae_title)
    }

    /// A PACS asked by DICOMweb; `url` is the root of its service.
    #[must_use]
    pub fn dicomweb(name: &str, url: &str) -> Self {
        Self {
            table: Table::new(),
        }
        .set("name", name)
        .set("dicomweb.url", url)
    }

    /// Gives it a `db` host name with its certificate.
    #[must_use]
    pub fn db_host(self, host: &str, identity: &Identity) -> Self {
        self.set("db_host", host).identity("db_tls", identity)
    }

    /// Gives it a `vi` host name with its certificate.
    #[must_use]
    pub fn vi_host(self, host: &str, identity: &Identity) -> Self {
        self.set("vi_host", host).identity("vi_tls", identity)
    }

    /// Has images asked for by C-MOVE.
    #[must_use]
    pub fn by_move(self) -> Self {
        self.set("dimse.retrieve", "move")
    }

    /// TLS towards the PACS.
    #[must_use]
    pub fn tls(self, ca_file: &Path, server_name: &str, identity: &Identity) -> Self {
        self.set("dimse.tls.ca_file", ca_file.display().to_string())
            .set("dimse.tls.server_name", server_name)
            .identity("dimse.tls.identity", identity)
    }

    /// Client certificate towards a PACS asked by DICOMweb.
    #[must_use]
    pub fn client_identity(self, identity: &Identity) -> Self {
        self.identity("dicomweb.identity", identity)
    }

    /// Sets any key, by its dotted path: `set("quirks.related_counts", false)`.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        put(&mut self.table, path, value.into());
        self
    }

    fn identity(self, section: &str, identity: &Identity) -> Self {
        let path = |path: &Path| path.display().to_string();
        self.set(
            &format!("{section}.certificate_file"),
            path(&identity.certificate_file),
        )
        .set(&format!("{section}.key_file"), path(&identity.key_file))
    }
}

/// A running gateway; it ends when dropped.
#[derive(Debug)]
pub struct Gateway {
    config: GatewayConfig,
    program: Program,
    process: Process,
    admin: Client,
}

impl Gateway {
    /// Writes the configuration, starts `drimbox serve` and waits until it says that it lives.
    ///
    /// The binary is the one that `DRIMBOX_BIN` names, else the one of the build that this test
    /// belongs to.
    ///
    /// # Errors
    /// When there is no binary, or it does not start; then with the end of its log.
    pub async fn start(config: GatewayConfig) -> Result<Self, KitError> {
        let program = Program::new("drimbox", binary()?, &config.folder);
        Self::start_as(program, config).await
    }

    /// The same once with the word of the administrator that this machine alone has its certificates.
    ///
    /// # Errors
    /// Those of [`Self::start`].
    pub async fn start_as_the_only_one(config: GatewayConfig) -> Result<Self, KitError> {
        let program = Program::new("drimbox", binary()?, &config.folder);
        let file = config.write()?.display().to_string();
        let once = program
            .clone()
            .args(["serve", "--i-am-the-only-one", "--config", &file]);
        let always = program.args(["serve", "--config", &file]);
        Self::start_first(once.start()?, always, config).await
    }

    /// The same with the system calls that it makes on files written to `trace`.
    ///
    /// # Errors
    /// Those of [`Self::start`].
    pub async fn start_traced(config: GatewayConfig, trace: &Path) -> Result<Self, KitError> {
        let words = syscalls::traced(trace);
        let mut words = words.iter().map(|word| word.to_string_lossy());
        let strace = words.next().unwrap_or_default().into_owned();
        let program = Program::new("drimbox", strace, &config.folder);
        let program = words.fold(program, |program, word| program.arg(word));
        let program = program.arg(binary()?.display().to_string());
        Self::start_as(program, config).await
    }

    async fn start_as(program: Program, config: GatewayConfig) -> Result<Self, KitError> {
        let file = config.write()?;
        let program = program.args(["serve", "--config", &file.display().to_string()]);
        Self::start_first(program.start()?, program, config).await
    }

    /// `process` is the first run, `program` what a restart starts.
    async fn start_first(
        process: Process,
        program: Program,
        config: GatewayConfig,
    ) -> Result<Self, KitError> {
        let mut gateway = Self {
            process,
            program,
            config,
            admin: Client::plain()?,
        };
        gateway.alive().await?;
        Ok(gateway)
    }

    /// Waits until `/health/live` answers 200.
    async fn alive(&mut self) -> Result<(), KitError> {
        let url = format!("{}/health/live", self.admin_url());
        let admin = self.admin.clone();
        self.process
            .ready(Duration::from_secs(30), async || {
                let answer = admin.get(&url).send().await;
                answer.is_ok_and(|answer| answer.status().is_success())
            })
            .await
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &GatewayConfig {
        &self.config
    }

    /// The process, to look at its log or to wait for its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The file that everything it prints goes to.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        self.process.log_file()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Root of the admin API, without a slash at the end.
    #[must_use]
    pub fn admin_url(&self) -> String {
        url("http", self.address("admin"))
    }

    /// Root of the DICOMweb service of the default PACS on the local listener.
    #[must_use]
    pub fn local_url(&self) -> String {
        url("http", self.address("local")) + BASE_PATH
    }

    /// Root of the DICOMweb service of a PACS, by name, on the local listener.
    #[must_use]
    pub fn local_pacs_url(&self, pacs: &str) -> String {
        format!(
            "{}/pacs/{pacs}{BASE_PATH}",
            url("http", self.address("local"))
        )
    }

    /// Root of the DICOMweb service on a `db` host name.
    #[must_use]
    pub fn peer_url(&self, host: &str) -> String {
        format!("https://{host}:{}{BASE_PATH}", self.address("peer").port())
    }

    /// The address of a listener: `admin`, `local`, `peer` or `dimse`; port 0 when it has none.
    #[must_use]
    pub fn address(&self, section: &str) -> SocketAddr {
        let none = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        self.config.address(section).unwrap_or(none)
    }

    /// A client that reaches these `db` host names at the peer listener.
    #[must_use]
    pub fn peer_client(&self, pki: &Pki, identity: &Identity, hosts: &[&str]) -> ClientBuilder {
        let client = Client::builder().ca(pki.ca_file()).identity(identity);
        hosts.iter().fold(client, |client, host| {
            client.resolve(host, self.address("peer"))
        })
    }

    /// Kills it as a power cut would, without any notice.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with the same configuration and data, after it ended.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> Result<(), KitError> {
        self.process.kill();
        self.process = self.program.start()?;
        self.alive().await
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus, KitError> {
        self.process.stop(limit).await
    }

    /// Scrapes its metrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<Metrics, KitError> {
        let url = format!("{}/metrics", self.admin_url());
        let text = self.admin.get(&url).send().await?.text().await?;
        Ok(Metrics::parse(&text))
    }

    /// The memory it uses.
    ///
    /// # Errors
    /// When it does not run.
    pub fn memory(&self) -> Result<Memory, KitError> {
        let file = PathBuf::from(format!("/proc/{}/status", self.pid()));
        let text = std::fs::read_to_string(&file).map_err(KitError::io("read", &file))?;
        let bytes = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
                .map(|kib| kib * 1024)
                .ok_or_else(|| KitError::Invalid {
                    what: file.display().to_string(),
                    reason: format!("no line {key}"),
                })
        };
        Ok(Memory {
            peak: bytes("VmHWM:")?,
            now: bytes("VmRSS:")?,
        })
    }

    /// Which of these bytes stand anywhere in the memory that it can write to.
    ///
    /// # Errors
    /// When it does not run, or the kernel does not let this process look.
    pub fn remembers(&self, secrets: &[Vec<u8>]) -> Result<Vec<bool>, KitError> {
        let maps = PathBuf::from(format!("/proc/{}/maps", self.pid()));
        let text = std::fs::read_to_string(&maps).map_err(KitError::io("read", &maps))?;
        let file = PathBuf::from(format!("/proc/{}/mem", self.pid()));
        let memory = File::open(&file).map_err(KitError::io("open", &file))?;
        let mut found = vec![false; secrets.len()];
        let longest = secrets.iter().map(Vec::len).max().unwrap_or_default();
        let mut buffer = vec![0; LOOKED_AT + longest];
        let mut seen = 0;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let range = words.next().and_then(|range| range.split_once('-'));
            let writable = words.next().is_some_and(|rights| rights.starts_with("rw"));
            let address = |text| u64::from_str_radix(text, 16).ok();
            let Some((start, end)) = range.filter(|_| writable) else {
                continue;
            };
            let (Some(start), Some(end)) = (address(start), address(end)) else {
                continue;
            };
            // What lies across two looks is seen by the first.
            for at in (start..end).step_by(LOOKED_AT) {
                let length = usize::try_from(end - at).unwrap_or(usize::MAX);
                let piece = buffer.get_mut(..length.min(LOOKED_AT + longest));
                // What was given back meanwhile cannot be read.
                let read = memory.read_at(piece.unwrap_or_default(), at).unwrap_or(0);
                let piece = buffer.get(..read).unwrap_or_default();
                seen += read;
                for (secret, found) in secrets.iter().zip(&mut found) {
                    *found = *found || memchr::memmem::find(piece, secret).is_some();
                }
            }
        }
        if seen == 0 {
            return Err(KitError::Invalid {
                what: file.display().to_string(),
                reason: "nothing of it can be read".into(),
            });
        }
        Ok(found)
    }

    /// Sets its peak of memory back to what it uses now.
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn reset_peak_memory(&self) -> Result<(), KitError> {
        let file = PathBuf::from(format!("/proc/{}/clear_refs", self.pid()));
        std::fs::write(&file, "5").map_err(KitError::io("write", &file))
    }
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Most so far.
    pub peak: u64,
    /// Now.
    pub now: u64,
}

/// Where the gateway's binary is: `DRIMBOX_BIN`, else beside this program (`target/debug`) or one
/// folder up from a test of the same build (`target/debug/deps`).
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf, KitError> {
    if let Some(path) = std::env::var_os("DRIMBOX_BIN") {
        let path = PathBuf::from(path);
        return std::path::absolute(&path).map_err(KitError::io("find", &path));
    }
    let this = std::env::current_exe().map_err(KitError::io("find", Path::new("this program")))?;
    let mut folder = this.parent().unwrap_or(Path::new("/"));
    if folder.ends_with("deps") {
        folder = folder.parent().unwrap_or(folder);
    }
    let path = folder.join("drimbox");
    if path.exists() {
        Ok(path)
    } else {
        Err(KitError::NoGateway { path })
    }
}

/// Sets a value at a dotted path, making the tables on the way.
fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((section, rest)) => {
            let entry = table
                .entry(section)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = entry {
                put(inner, rest, value);
            }
        }
    }
}

fn loopback(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

fn url(scheme: &str, address: impl Display) -> String {
    format!("{scheme}://{address}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_file_has_one_pacs_section_per_pacs_and_the_keys_that_were_set() {
        let folder = tempfile::tempdir().unwrap();
        let config = GatewayConfig::new(folder.path())
            .unwrap()
            .set("limits.max_requests", 4)
            .pacs(PacsConfig::new("one", "PACS1", 104).by_move())
            .pacs(PacsConfig::new("two", "PACS2", 105).set("quirks.related_counts", false));
        let parsed: Table = toml::from_str(&config.text().unwrap()).unwrap();
        assert_eq!(parsed["limits"]["max_requests"].as_integer(), Some(4));
        assert_eq!(
            parsed["pacs"][0]["dimse"]["retrieve"].as_str(),
            Some("move")
        );
        assert_eq!(
            parsed["pacs"][1]["quirks"]["related_counts"].as_bool(),
            Some(false)
        );
        assert_eq!(parsed["pacs"].as_array().unwrap().len(), 2);
    }
}
