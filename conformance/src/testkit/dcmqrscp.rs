//! DCMTK's `dcmqrscp` as a PACS: another implementation, with other habits, than Orthanc's. Debian
//! builds it without TLS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{KitError, Process, Program, free_port};

const BINARY: &str = "/usr/bin/dcmqrscp";
const INDEXER: &str = "/usr/bin/dcmqridx";

/// How a `dcmqrscp` is to be set up.
#[derive(Debug)]
pub struct DcmqrscpBuilder {
    folder: PathBuf,
    ae_title: String,
    nodelay: bool,
    applications: Vec<(String, u16)>,
    arguments: Vec<String>,
}

impl DcmqrscpBuilder {
    /// Its AE title; `DCMQRSCP` unless said.
    #[must_use]
    pub fn ae_title(mut self, title: &str) -> Self {
        self.ae_title = title.to_owned();
        self
    }

    /// Whether its associations set `TCP_NODELAY`.
    #[must_use]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// Makes an application known to it, as the destination of a C-MOVE must be.
    #[must_use]
    pub fn application(mut self, ae_title: &str, port: u16) -> Self {
        self.applications.push((ae_title.to_owned(), port));
        self
    }

    /// An argument of the program, for example `--disable-get`, or `+xt` without which it takes
    /// no JPEG-LS from or to anyone.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Copies these DICOM files into its storage area, starts it and waits until it listens.
    ///
    /// # Errors
    /// When it is not installed, a file is refused, or it does not start; then with the end of its
    /// log.
    pub async fn start(self, files: &[PathBuf]) -> Result<Dcmqrscp, KitError> {
        let storage = self.folder.join("storage");
        std::fs::create_dir_all(&storage).map_err(KitError::io("create", &storage))?;
        self.register(&storage, files).await?;

        let port = free_port()?;
        let config = self.folder.join("dcmqrscp.cfg");
        std::fs::write(&config, self.configuration(&storage, port))
            .map_err(KitError::io("write", &config))?;
        let mut program = Program::new("dcmqrscp", BINARY, &self.folder)
            .arg("--verbose")
            .arg("--config")
            .arg(config.display().to_string());
        for argument in self.arguments {
            program = program.arg(argument);
        }
        program = if self.nodelay {
            program.env("TCP_NODELAY", "1")
        } else {
            program.without_env("TCP_NODELAY")
        };
        let mut pacs = Dcmqrscp {
            process: program.start()?,
            program: Box::new(program),
            ae_title: self.ae_title,
            port,
        };
        pacs.listens().await?;
        Ok(pacs)
    }

    /// Fills the storage area and its index, which names files by their path.
    async fn register(&self, storage: &Path, files: &[PathBuf]) -> Result<(), KitError> {
        // Many files are more than one command line holds.
        for (batch, chunk) in files.chunks(500).enumerate() {
            let mut program =
                Program::new("dcmqridx", INDEXER, &self.folder).arg(storage.display().to_string());
            for (number, file) in chunk.iter().enumerate() {
                let copy = storage.join(format!("{batch}-{number}.dcm"));
                std::fs::copy(file, &copy).map_err(KitError::io("copy", file))?;
                program = program.arg(copy.display().to_string());
            }
            let mut process = program.start()?;
            let status = process.wait(Duration::from_secs(120)).await?;
            let refusals = process.tail(50);
            if !status.success() || refusals.contains("E: ") {
                return Err(KitError::Invalid {
                    what: "files for dcmqridx".into(),
                    reason: refusals,
                });
            }
        }
        Ok(())
    }

    fn configuration(&self, storage: &Path, port: u16) -> String {
        use std::fmt::Write;
        let mut hosts = String::new();
        for (number, (title, port)) in self.applications.iter().enumerate() {
            let _ = writeln!(hosts, "app{number} = ({title}, localhost, {port})");
        }
        format!(
            "NetworkTCPPort = {port}\n\
             MaxPDUSize = 131072\n\
             MaxAssociations = 64\n\
             HostTable BEGIN\n{hosts}HostTable END\n\
             VendorTable BEGIN\nVendorTable END\n\
             AETable BEGIN\n\
             {title} {storage} RW (100000, 100gb) ANY\n\
             AETable END\n",
            title = self.ae_title,
            storage = storage.display(),
        )
    }
}

/// A running `dcmqrscp`; it ends when dropped.
#[derive(Debug)]
pub struct Dcmqrscp {
    process: Process,
    program: Box<Program>,
    ae_title: String,
    port: u16,
}

impl Dcmqrscp {
    /// Prepares one that keeps its files and its log in `folder`.
    #[must_use]
    pub fn builder(folder: &Path) -> DcmqrscpBuilder {
        DcmqrscpBuilder {
            folder: folder.to_owned(),
            ae_title: "DCMQRSCP".to_owned(),
            nodelay: true,
            applications: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Its AE title.
    #[must_use]
    pub fn ae_title(&self) -> &str {
        &self.ae_title
    }

    /// Its port. It listens on every address: it cannot do otherwise.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it and starts it again with what it holds.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart(&mut self) -> Result<(), KitError> {
        self.process.kill();
        self.process = self.program.start()?;
        self.listens().await
    }

    /// Waits until it takes connections.
    async fn listens(&mut self) -> Result<(), KitError> {
        let port = self.port;
        self.process
            .ready(Duration::from_secs(30), async || {
                tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .is_ok()
            })
            .await
    }

    /// The process, to look at its log or to kill it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
