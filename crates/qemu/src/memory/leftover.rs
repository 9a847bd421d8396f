//! Files that only a save or a load needed.

use std::io;
use std::path::Path;

/// Removes one, if it is there. One that stays does no harm, and is told.
pub(crate) fn remove(file: &Path) {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let file = file.display();
            tracing::warn!(
                "{file} is of no use any more, and cannot be removed: {error}. Remove it when it can be: rm '{file}'"
            );
        }
        _ => {}
    }
}
