//! rsyslog as the server of syslog over TLS (RFC 5425) that hospitals have.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Identity, KitError, Process, Program};

const BINARY: &str = "/usr/sbin/rsyslogd";

/// A running rsyslog; it ends when dropped.
#[derive(Debug)]
pub struct Rsyslog {
    process: Process,
    received: PathBuf,
}

impl Rsyslog {
    /// Takes messages on this port of loopback, with this certificate, from clients whose certificate
    /// chains to an authority of `client_ca`; its files are in `folder`, where what an earlier one
    /// received stays.
    ///
    /// # Errors
    /// When it is not installed, or does not start; then with the end of its log.
    pub async fn start(
        folder: &Path,
        port: u16,
        identity: &Identity,
        client_ca: &Path,
    ) -> Result<Self, KitError> {
        let folder = std::path::absolute(folder).map_err(KitError::io("find", folder))?;
        std::fs::create_dir_all(&folder).map_err(KitError::io("create", &folder))?;
        let received = folder.join("received");
        let file = folder.join("rsyslog.conf");
        let text = format!(
            r#"global(
    workDirectory="{folder}"
    maxMessageSize="64k"
    defaultNetstreamDriver="gtls"
    defaultNetstreamDriverCAFile="{ca}"
    defaultNetstreamDriverCertFile="{certificate}"
    defaultNetstreamDriverKeyFile="{key}"
)
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="raw" type="string" string="%rawmsg%\n")
action(type="omfile" file="{received}" template="raw")
"#,
            folder = folder.display(),
            ca = client_ca.display(),
            certificate = identity.certificate_file.display(),
            key = identity.key_file.display(),
            received = received.display(),
        );
        std::fs::write(&file, text).map_err(KitError::io("write", &file))?;
        let mut process = Program::new("rsyslog", PathBuf::from(BINARY), &folder)
            .arg("-n")
            .arg("-f")
            .arg(file.display().to_string())
            .arg("-i")
            .arg(folder.join("pid").display().to_string())
            .ends_by_term()
            .start()?;
        process
            .ready(Duration::from_secs(30), async || {
                tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .is_ok()
            })
            .await?;
        Ok(Self { process, received })
    }

    /// What was received so far, one message a line.
    #[must_use]
    pub fn received(&self) -> String {
        std::fs::read_to_string(&self.received).unwrap_or_default()
    }

    /// The process, to look at its log or to end it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
