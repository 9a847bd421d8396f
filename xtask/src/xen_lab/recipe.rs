//! The lab as files: built once for each recipe, and kept outside the checkout.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Release;
use super::all::tell;
use crate::command::{command, run, top};
use crate::{Echo, Failure, ci};

/// A file in each complete lab, from the time of its last use.
const USED: &str = "used";

const RECIPE: &str = "ci/xen-lab";

/// What is there is carried into a lab each time, or is for people.
const NO_PART: [&str; 2] = ["scenarios", "README.md"];

/// A lab of another recipe is kept for so long after its last use: another branch may want it.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// A complete lab.
#[derive(Debug)]
pub(super) struct Lab {
    release: Release,
    directory: PathBuf,
}

impl Lab {
    pub(super) fn release(&self) -> Release {
        self.release
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Notes that it is complete and wanted.
    fn used(self) -> Result<Self, Failure> {
        File::create(self.file(USED)).map_err(|e| cannot("note the use of the lab", &e))?;
        Ok(self)
    }
}

/// The lab of this release by this recipe, built if there is none.
pub(super) fn lab(release: Release, echo: Echo) -> Result<Lab, Failure> {
    ci::setup(&["xen-lab"])?;
    let cache = cache()?;
    fs::create_dir_all(&cache).map_err(|e| cannot("make the cache", &e))?;
    let lock = File::create(cache.join("lock")).map_err(|e| cannot("make the cache's lock", &e))?;
    // A process that builds now may build what we want.
    lock.lock().map_err(|e| cannot("lock the cache", &e))?;
    let directory = cache.join(key(release)?);
    let lab = Lab { release, directory };
    if lab.file(USED).exists() {
        return lab.used();
    }
    let start = Instant::now();
    if lab.directory.exists() {
        fs::remove_dir_all(&lab.directory).map_err(|e| cannot("remove a lab that was not finished", &e))?;
    }
    let mut build = command(top().join(RECIPE).join("build"), [release.to_string()]);
    build.arg(&lab.directory);
    run(echo, build)?;
    tell(echo, "built", start);
    remove_unused(&cache);
    lab.used()
}

/// Where labs are kept.
pub(super) fn cache() -> Result<PathBuf, Failure> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let chosen = set("XLSNAP_XEN_LAB").or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        cache.map(|cache| cache.join("xlsnap-xen-lab"))
    });
    let chosen = chosen.ok_or_else(|| Failure("set XLSNAP_XEN_LAB to where the lab may be kept".into()))?;
    Ok(top().join(chosen))
}

/// A name for what the recipe says now of this release.
fn key(release: Release) -> Result<String, Failure> {
    let mut files = Vec::new();
    collect(&top().join(RECIPE), &mut files).map_err(|e| cannot("read ci/xen-lab", &e))?;
    files.sort();
    // Another Rust may hash otherwise: then the lab is built once more.
    let mut hasher = DefaultHasher::new();
    (release, files).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if NO_PART.iter().any(|name| path.ends_with(Path::new(RECIPE).join(name))) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            let content = fs::read(&path)?;
            files.push((path.strip_prefix(top()).unwrap_or(&path).to_owned(), content));
        }
    }
    Ok(())
}

/// Removes labs that were not used for long. That is housekeeping: it may fail.
fn remove_unused(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let age =
            fs::metadata(entry.path().join(USED)).and_then(|used| used.modified()).map(|at| at.elapsed());
        if matches!(age, Ok(Ok(age)) if age > KEPT) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn cannot(what: &str, e: &std::io::Error) -> Failure {
    Failure(format!("cannot {what}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_of_the_recipe_alone() {
        let mut files = Vec::new();
        collect(&top().join(RECIPE), &mut files).unwrap();
        let names: Vec<_> = files.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert!(
            names.contains(&"ci/xen-lab/build") && names.contains(&"ci/xen-lab/guest/init.c"),
            "{names:?}"
        );
        assert!(!names.iter().any(|name| name.contains("scenarios") || name.contains("README")), "{names:?}");
    }

    #[test]
    fn each_release_has_a_lab_of_its_own() {
        let [old, new] = Release::ALL.map(|release| key(release).unwrap());
        assert_ne!(old, new);
        assert_eq!(old, key(Release::V4_17).unwrap());
    }
}
