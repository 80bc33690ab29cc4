//! The connectors that there are: those that are built in, and the YAML files of a folder.

use std::path::{Path, PathBuf};

use millrace_connector::Registry;
use millrace_connectors::declarative::{FolderError, read_folder};
use millrace_service::config::Config;

use crate::exit::Failure;

/// The folder that is looked for where none is named.
pub(crate) const FOLDER: &str = "connectors";

/// The connectors of a config: its `connectors:`, else the folder of that name beside the file.
///
/// # Errors
/// A file is wrong, or takes the name of a connector that is built in.
pub(crate) fn of_config(config: &Config) -> Result<Registry, Failure> {
    with_folder(config.connectors.as_deref())
}

/// The connectors with those of a folder; without one, of `./connectors`, if there is one.
///
/// # Errors
/// As [`of_config`].
pub(crate) fn of_folder(folder: Option<&Path>) -> Result<Registry, Failure> {
    with_folder(folder.map(Path::to_owned).or_else(default_folder).as_deref())
}

/// `./connectors`, if there is one.
pub(crate) fn default_folder() -> Option<PathBuf> {
    Some(PathBuf::from(FOLDER)).filter(|folder| folder.is_dir())
}

fn with_folder(folder: Option<&Path>) -> Result<Registry, Failure> {
    let mut registry = millrace_connectors::registry();
    let Some(folder) = folder else { return Ok(registry) };
    let mut taken = Vec::new();
    for file in read_folder(folder).map_err(|errors| told(&errors))? {
        let entry = file.entry();
        match registry.destination_entry(&entry.kind) {
            Some(known) => taken.push(format!(
                "{}: there is a destination {:?} already ({}): give it another name",
                file.name, known.kind, known.summary
            )),
            None => registry.destinations.push(entry),
        }
    }
    if taken.is_empty() { Ok(registry) } else { Err(Failure::Usage(taken.join("\n"))) }
}

/// All that is wrong with the files, for people.
pub(crate) fn told(errors: &[FolderError]) -> Failure {
    let texts: Vec<String> = errors
        .iter()
        .map(|error| match error {
            FolderError::Io(text) => text.clone(),
            FolderError::Wrong(errors) => format!("{errors:?}"),
        })
        .collect();
    Failure::Usage(texts.join("\n"))
}
