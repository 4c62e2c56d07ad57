//! nginx over TLS: as a server of static files, the measure of what the machine can send; as the
//! reverse proxy that administrators put in front of a PACS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Identity, KitError, Process, Program, free_port};

const BINARY: &str = "/usr/sbin/nginx";

/// A running nginx; it ends when dropped.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    port: u16,
}

impl Nginx {
    /// Serves the files below `files` on a free port, with this certificate; its own files and its
    /// log are in `folder`. Set up as an administrator would for speed: one worker per core,
    /// `sendfile`, keep-alive, TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// When it is not installed, or does not start; then with the end of its log.
    pub async fn start(folder: &Path, files: &Path, identity: &Identity) -> Result<Self, KitError> {
        let files = std::path::absolute(files).map_err(KitError::io("find", files))?;
        Self::serve(folder, &format!("root \"{}\";", files.display()), identity).await
    }

    /// Passes every request on to `server` (scheme, host, port), from clients whose certificate
    /// chains to an authority of `client_ca` only.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn proxy(
        folder: &Path,
        server: &str,
        identity: &Identity,
        client_ca: &Path,
    ) -> Result<Self, KitError> {
        let client_ca = client_ca.display();
        let content = format!(
            r#"ssl_client_certificate "{client_ca}";
        ssl_verify_client on;
        location / {{
            proxy_pass {server};
            proxy_http_version 1.1;
            proxy_buffering off;
            client_max_body_size 0;
        }}"#
        );
        Self::serve(folder, &content, identity).await
    }

    /// Serves a web application and, below `/dicom-web/`, the DICOMweb service of `server` (scheme, host, port). Files
    /// that were compressed beforehand (`NAME.gz`) are sent so; a path that is none leads to `index.html`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn application(
        folder: &Path,
        files: &Path,
        server: &str,
        identity: &Identity,
    ) -> Result<Self, KitError> {
        let files = std::path::absolute(files).map_err(KitError::io("find", files))?;
        let files = files.display();
        let content = format!(
            r#"include /etc/nginx/mime.types;
        root "{files}";
        gzip_static on;
        location / {{ try_files $uri /index.html; }}
        location /dicom-web/ {{
            proxy_pass {server};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}"#
        );
        Self::serve(folder, &content, identity).await
    }

    async fn serve(folder: &Path, content: &str, identity: &Identity) -> Result<Self, KitError> {
        let port = free_port()?;
        let folder = std::path::absolute(folder).map_err(KitError::io("find", folder))?;
        std::fs::create_dir_all(&folder).map_err(KitError::io("create", &folder))?;
        let file = folder.join("nginx.conf");
        let text = configuration(&folder, content, identity, port);
        std::fs::write(&file, text).map_err(KitError::io("write", &file))?;
        let mut process = Program::new("nginx", PathBuf::from(BINARY), &folder)
            .arg("-c")
            .arg(file.display().to_string())
            .arg("-e")
            .arg("stderr")
            .ends_by_term()
            .start()?;
        process
            .ready(Duration::from_secs(30), async || {
                tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .is_ok()
            })
            .await?;
        Ok(Self { process, port })
    }

    /// Its port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL of a file, for a host name of its certificate; `path` starts with a slash.
    #[must_use]
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.port)
    }

    /// The process, to look at its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn configuration(folder: &Path, content: &str, identity: &Identity, port: u16) -> String {
    let folder = folder.display();
    let certificate = identity.certificate_file.display();
    let key = identity.key_file.display();
    // Workers read what the test wrote, whoever runs it.
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    format!(
        r#"{user}
daemon off;
worker_processes auto;
pid "{folder}/nginx.pid";
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 300;
    keepalive_requests 1000000;
    default_type application/octet-stream;
    client_body_temp_path "{folder}/tmp-body";
    proxy_temp_path "{folder}/tmp-proxy";
    fastcgi_temp_path "{folder}/tmp-fastcgi";
    uwsgi_temp_path "{folder}/tmp-uwsgi";
    scgi_temp_path "{folder}/tmp-scgi";
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate "{certificate}";
        ssl_certificate_key "{key}";
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_prefer_server_ciphers on;
        ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256;
        {content}
    }}
}}
"#
    )
}
