//! DCMTK's command line tools as peers: what a well-kept DICOM client takes for the same job.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::testkit::KitError;

/// One run of a tool.
#[derive(Debug, Clone)]
pub struct Tool {
    name: &'static str,
    args: Vec<String>,
    nodelay: bool,
    may_fail: bool,
}

impl Tool {
    /// `getscu` in the study root model, throwing away what it receives. `+xt` proposes JPEG-LS
    /// first: with a PACS that takes no other syntax for these classes, images come as stored.
    #[must_use]
    pub fn getscu(pacs: &Pacs, keys: &[(&str, &str)]) -> Self {
        Self::new("getscu", &["-S", "+xt", "--ignore"], pacs, keys)
    }

    /// As [`Self::getscu`], writing what it receives below `folder` as it comes.
    #[must_use]
    pub fn getscu_to(pacs: &Pacs, keys: &[(&str, &str)], folder: &Path) -> Self {
        let folder = folder.display().to_string();
        Self::new("getscu", &["-S", "+xt", "+B", "-od", &folder], pacs, keys)
    }

    /// `findscu` in the study root model.
    #[must_use]
    pub fn findscu(pacs: &Pacs, keys: &[(&str, &str)]) -> Self {
        Self::new("findscu", &["-S"], pacs, keys)
    }

    /// `echoscu`: a start of the program, an association, a C-ECHO.
    #[must_use]
    pub fn echoscu(pacs: &Pacs) -> Self {
        Self::new("echoscu", &[], pacs, &[])
    }

    fn new(name: &'static str, options: &[&str], pacs: &Pacs, keys: &[(&str, &str)]) -> Self {
        let mut args: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        args.extend(["-aec".to_owned(), pacs.ae_title.clone()]);
        for (key, value) in keys {
            let key = if value.is_empty() {
                (*key).to_owned()
            } else {
                format!("{key}={value}")
            };
            args.extend(["-k".to_owned(), key]);
        }
        args.extend(["127.0.0.1".to_owned(), pacs.port.to_string()]);
        Self {
            name,
            args,
            nodelay: true,
            may_fail: false,
        }
    }

    /// One more option.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.args.insert(0, option.to_owned());
        self
    }

    /// One more option with its value.
    #[must_use]
    pub fn option_with(self, option: &str, value: &str) -> Self {
        self.option(value).option(option)
    }

    /// Without `TCP_NODELAY=1` in its environment: as the tool is shipped.
    #[must_use]
    pub fn with_nagle(mut self) -> Self {
        self.nodelay = false;
        self
    }

    /// Timed although it ends with an error.
    #[must_use]
    pub fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// The command as one would type it.
    #[must_use]
    pub fn command(&self) -> String {
        let nodelay = if self.nodelay { "TCP_NODELAY=1 " } else { "" };
        let mut text = format!("{nodelay}{}", self.name);
        for arg in &self.args {
            // UIDs and ports say nothing to a reader.
            let shown = match arg.split_once('=') {
                Some((key, value)) if value.starts_with("2.25.") => format!("{key}=UID"),
                _ => arg.clone(),
            };
            text.push(' ');
            text.push_str(&shown);
        }
        text
    }

    /// Runs it; the time from its start to its end.
    ///
    /// # Errors
    /// When it is not installed or reports an error.
    pub fn time(&self) -> Result<Duration, KitError> {
        let started = Instant::now();
        let output = self.output()?;
        let elapsed = started.elapsed();
        self.check(&output)?;
        Ok(elapsed)
    }

    /// Runs it with `-v`; the number of lines that hold `text`.
    ///
    /// # Errors
    /// As [`Self::time`].
    pub fn count(self, text: &str) -> Result<usize, KitError> {
        let tool = self.option("-v");
        let output = tool.output()?;
        tool.check(&output)?;
        let lines = [output.stdout, output.stderr].concat();
        let lines = String::from_utf8_lossy(&lines).into_owned();
        Ok(lines.lines().filter(|line| line.contains(text)).count())
    }

    fn output(&self) -> Result<Output, KitError> {
        let mut command = Command::new(self.name);
        command.args(&self.args).env_remove("TCP_NODELAY");
        if self.nodelay {
            command.env("TCP_NODELAY", "1");
        }
        command.output().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => KitError::Missing {
                program: format!("{} (package dcmtk)", self.name),
            },
            _ => KitError::Io {
                what: format!("run {}", self.name),
                source,
            },
        })
    }

    fn check(&self, output: &Output) -> Result<(), KitError> {
        let text = String::from_utf8_lossy(&output.stderr);
        // An error of the PACS leaves the exit status at 0.
        let error = text
            .lines()
            .find(|line| line.starts_with("E:") || line.starts_with("F:"));
        match error {
            None if output.status.success() => Ok(()),
            _ if self.may_fail => Ok(()),
            _ => Err(KitError::Http {
                what: self.command(),
                reason: format!("{} {}", output.status, error.unwrap_or_default()),
            }),
        }
    }
}

/// A PACS as these tools address it.
#[derive(Debug, Clone)]
pub struct Pacs {
    /// AE title.
    pub ae_title: String,
    /// Port on loopback.
    pub port: u16,
}
