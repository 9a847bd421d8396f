//! The overlays in a directory, by their headers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_qemu_img::{FileId, HeaderFiles, header_files};

use crate::on_thread::on_thread;

/// The qcow2 files in the directories of these files whose headers name one of them.
///
/// The few bytes are read here: a directory may have thousands of files, and each would be a process of qemu-img's.
pub(crate) async fn beside(files: &[String]) -> Result<Vec<(String, String)>, PortError> {
    let theirs = files.to_vec();
    match on_thread("xlsnap-beside", move || look_beside(&theirs)).await {
        Some(looked) => looked,
        // The caller's other tasks wait.
        None => look_beside(files),
    }
}

fn look_beside(files: &[String]) -> Result<Vec<(String, String)>, PortError> {
    let directories: BTreeSet<PathBuf> =
        files.iter().filter_map(|file| Path::new(file).parent().map(Path::to_owned)).collect();
    // Links and mounts give a file no second identity.
    let known: BTreeMap<FileId, String> =
        files.iter().filter_map(|file| Some((FileId::of(Path::new(file)).ok()?, file.clone()))).collect();
    let mut found = Vec::new();
    for directory in directories {
        overlays_in(&directory, &known, &mut found).map_err(|source| {
            let message = format!("the files in {} can't be looked through", directory.display());
            PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(source)
        })?;
    }
    Ok(found)
}

fn overlays_in(
    directory: &Path,
    known: &BTreeMap<FileId, String>,
    found: &mut Vec<(String, String)>,
) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A link leads to a file that has another name of its own.
        if entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    for path in paths {
        // What is gone, or closed to us, in the meantime stands on nothing that could be told.
        let Ok(HeaderFiles { backing: Some(base), .. }) = header_files(&path) else { continue };
        let (Ok(own), Ok(below)) = (FileId::of(&path), FileId::of(&base)) else { continue };
        // A name that is not UTF-8 cannot be named in a record either.
        if let (false, Some(below), Some(path)) = (known.contains_key(&own), known.get(&below), path.to_str())
        {
            found.push((path.to_owned(), below.clone()));
        }
    }
    Ok(())
}
