//! The memory files of a directory.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Error, MemoryFile, worker};

impl MemoryFile {
    /// The regular files in `directory` that have the name of a memory file (`NAME.save`), or of one that is being written
    /// (`.NAME.TOKEN.part`), by name. A directory that is not there has none. No file is opened.
    ///
    /// # Errors
    /// When the directory cannot be read.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn all_in(directory: &Path) -> Result<Vec<PathBuf>, Error> {
        let directory = directory.to_owned();
        let shown = directory.clone();
        worker::run(&shown, move |_| {
            let failed = |e| Error::io(&directory, "cannot be read", e);
            let entries = match std::fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(failed(e)),
            };
            let mut files = Vec::new();
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let is_named = name.to_str().is_some_and(|name| {
                    name.ends_with(".save") || (name.starts_with('.') && name.ends_with(".part"))
                });
                if is_named && entry.file_type().map_err(failed)?.is_file() {
                    files.push(entry.path());
                }
            }
            files.sort_unstable();
            Ok(files)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryFile;

    #[tokio::test]
    async fn only_files_of_such_names() {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path();
        assert!(MemoryFile::all_in(&at.join("none")).await.unwrap().is_empty());
        for name in ["b.save", "a.save", ".a.0123.part", "a.qcow2", "part"] {
            std::fs::write(at.join(name), "").unwrap();
        }
        std::fs::create_dir(at.join("d.save")).unwrap();
        std::os::unix::fs::symlink(at.join("a.save"), at.join("l.save")).unwrap();
        let found = MemoryFile::all_in(at).await.unwrap();
        assert_eq!(found, [at.join(".a.0123.part"), at.join("a.save"), at.join("b.save")]);
    }
}
