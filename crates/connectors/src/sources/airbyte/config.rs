//! Settings of an Airbyte source: those of the source itself, handed on as they are.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use millrace_connector::{ConnectorError, Context};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use tempfile::TempDir;

/// An Airbyte source as a program: `command` in the config is the program with its first arguments, such as
/// `[source-faker]` from `pip install airbyte-source-faker`.
///
/// The settings are the source's own; `<command> spec` prints their schema. It sees them in a file, and of
/// the environment only what a program needs to run (`PATH`, `HOME`, language, proxies, certificates).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct AirbyteSettings(Map<String, Value>);

/// The settings with the program.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// Instance, for messages.
    pub(super) id: String,
    /// The program.
    pub(super) program: String,
    /// Its first arguments.
    pub(super) arguments: Vec<OsString>,
    settings: Map<String, Value>,
    work_dir: std::path::PathBuf,
}

impl Config {
    /// # Errors
    /// `Pause`: no command, or settings that are no object.
    pub(super) fn parse(
        settings: &Value,
        command: &[String],
        context: &Context,
    ) -> Result<Self, ConnectorError> {
        let id = context.id.clone();
        let settings = match settings {
            Value::Null => AirbyteSettings::default(),
            settings => AirbyteSettings::deserialize(settings).map_err(|error| {
                ConnectorError::pause("settings", format!("settings of source {id:?} are not right"))
                    .caused_by(error)
            })?,
        };
        let [program, arguments @ ..] = command else {
            let context = format!("source {id:?} has no command: name the program, such as [source-faker]");
            return Err(ConnectorError::pause("settings", context));
        };
        Ok(Self {
            id,
            program: program.clone(),
            arguments: arguments.iter().map(OsString::from).collect(),
            settings: settings.0,
            work_dir: context.work_dir.clone(),
        })
    }

    /// A folder for one run, with the settings in it.
    ///
    /// # Errors
    /// `Retry`: the folder cannot be written.
    pub(super) fn files(&self) -> Result<RunFiles, ConnectorError> {
        let make = || {
            fs::create_dir_all(&self.work_dir)?;
            // Only we may enter.
            tempfile::Builder::new().prefix(&format!("airbyte-{}-", self.id)).tempdir_in(&self.work_dir)
        };
        let folder = make().map_err(|error| write_error(&self.work_dir, error))?;
        let mut files = RunFiles { folder, arguments: Vec::new() };
        files.add("config", &Value::Object(self.settings.clone()))?;
        Ok(files)
    }
}

/// Files for one run of the source, removed with it: the settings hold secrets.
pub(super) struct RunFiles {
    folder: TempDir,
    /// `--config <file>` and so on.
    pub(super) arguments: Vec<OsString>,
}

impl RunFiles {
    /// Writes `<name>.json`, for our user alone, and adds `--<name> <file>` to the arguments.
    ///
    /// # Errors
    /// `Retry`: it cannot be written.
    pub(super) fn add(&mut self, name: &str, content: &Value) -> Result<(), ConnectorError> {
        let path = self.folder.path().join(format!("{name}.json"));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(content.to_string().as_bytes())
        };
        write().map_err(|error| write_error(&path, error))?;
        self.arguments.extend([OsString::from(format!("--{name}")), path.into_os_string()]);
        Ok(())
    }
}

fn write_error(path: &Path, error: io::Error) -> ConnectorError {
    ConnectorError::retry("work_dir", format!("cannot write {}", path.display())).caused_by(error)
}
