//! The files: those that are built in, and those of the user.

use std::path::Path;
use std::sync::Arc;

use millrace_service::config::ConfigErrors;

use super::compile::Compiled;

/// The files of the folder `catalog`, in the order of their names.
pub(super) const CATALOG: &[(&str, &str)] = &[
    ("posthog.yaml", include_str!("../../catalog/posthog.yaml")),
    ("segment.yaml", include_str!("../../catalog/segment.yaml")),
];

/// More files in one folder are a mistake: somebody pointed at the wrong one.
const MAX_FILES: usize = 1000;

/// A file longer than this is no connector.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The destinations that are built in. A file that is wrong is left out; a test reads them all.
#[must_use]
pub fn built_in() -> Vec<Arc<Compiled>> {
    CATALOG.iter().filter_map(|(name, text)| Compiled::read(name, text).ok()).map(Arc::new).collect()
}

/// Why a user's connectors cannot be had.
#[derive(Debug)]
pub enum FolderError {
    /// The folder or a file in it cannot be read.
    Io(String),
    /// A file is wrong.
    Wrong(Box<ConfigErrors>),
}

/// Reads all `.yaml` files of a folder, in the order of their names.
///
/// # Errors
/// All files that cannot be read or are wrong.
pub fn read_folder(folder: &Path) -> Result<Vec<Arc<Compiled>>, Vec<FolderError>> {
    let mut paths = Vec::new();
    let listed = std::fs::read_dir(folder).and_then(|entries| {
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
                paths.push(path);
            }
        }
        Ok(())
    });
    if let Err(error) = listed {
        return Err(vec![FolderError::Io(format!("cannot read the folder {}: {error}", folder.display()))]);
    }
    if paths.len() > MAX_FILES {
        let told = format!("{} has more than {MAX_FILES} YAML files", folder.display());
        return Err(vec![FolderError::Io(told)]);
    }
    paths.sort_unstable();
    let mut compiled = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        match read_file(&path) {
            Ok(one) => compiled.push(one),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(compiled) } else { Err(errors) }
}

/// Reads one file.
///
/// # Errors
/// It cannot be read, or is wrong.
pub fn read_file(path: &Path) -> Result<Arc<Compiled>, FolderError> {
    let name = path.display().to_string();
    let unreadable = |problem: String| FolderError::Io(format!("cannot read {name}: {problem}"));
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(unreadable(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    Compiled::read(&name, &text).map(Arc::new).map_err(|errors| FolderError::Wrong(Box::new(errors)))
}
