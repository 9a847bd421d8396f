//! The name of a backing file in an image's header: what it means, and what it is for another file.

use std::path::{Component, Path, PathBuf};

use crate::argument::quote;
use crate::header::named_file;
use crate::{Error, Kind};

/// The longest name that a qcow2 header takes, in bytes (docs/interop/qcow2.txt).
const MAX_NAME: usize = 1023;

/// The local file that `name`, in the header of the image at `above`, means; `None` for anything else.
///
/// A relative name starts at the directory of the file whose header has it, as for QEMU. Nothing is looked at.
pub fn backing_file(above: &Path, name: &str) -> Option<PathBuf> {
    named_file(above, name.as_bytes())
}

/// The name for the file `base` in the header of the image at `image`, which has the name `was` now: relative to the image's
/// directory if `was` is relative, so that images that are moved together stay together; else absolute. Both paths are absolute.
///
/// # Errors
/// [`Kind::Unsupported`] for a name that no header takes: one that is too long, or not UTF-8. [`Kind::NotFound`] when a directory
/// cannot be looked at: a relative name goes by what symbolic links lead to.
pub fn backing_name(image: &Path, was: &str, base: &Path) -> Result<String, Error> {
    let was = was.strip_prefix("file:").unwrap_or(was);
    let name = if was.is_empty() || was.starts_with('/') || backing_file(image, was).is_none() {
        base.to_owned()
    } else {
        relative(image, base)?
    };
    let refuse = |why: &str| {
        let message = format!(
            "the image {} can't have {} for its backing file: {why}",
            quote(image.as_os_str()),
            quote(name.as_os_str())
        );
        Err(Error::new(Kind::Unsupported, message))
    };
    match name.to_str() {
        None => refuse("the name is not UTF-8"),
        Some(text) if text.len() > MAX_NAME => {
            refuse(&format!("the name has {} bytes, and a header takes {MAX_NAME}", text.len()))
        }
        // A colon without a slash before it would make the rest a protocol's.
        Some(text) if text.split('/').next().is_some_and(|first| first.contains(':')) => {
            Ok(format!("./{text}"))
        }
        Some(text) => Ok(text.to_owned()),
    }
}

/// The way from the directory of `image` to `base`.
fn relative(image: &Path, base: &Path) -> Result<PathBuf, Error> {
    let parent = |file: &Path| file.parent().unwrap_or(Path::new("/")).to_owned();
    let file = base.file_name().unwrap_or(base.as_os_str());
    if parent(image) == parent(base) {
        return Ok(file.into());
    }
    let real = |directory: PathBuf| {
        directory.canonicalize().map_err(|source| {
            let message = format!("the directory {} can't be looked at", quote(directory.as_os_str()));
            Error::new(Kind::NotFound, message).with_source(source)
        })
    };
    let (from, to) = (real(parent(image))?, real(parent(base))?);
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    Ok(up.chain(to.components().skip(shared)).collect::<PathBuf>().join(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_as_qemu_does() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(
                backing_file(Path::new("/images/top.qcow2"), name),
                expected.map(PathBuf::from),
                "{name}"
            );
        };
        check("/base", Some("/base"));
        check("base", Some("/images/base"));
        check("../base", Some("/images/../base"));
        check("file:base", Some("/images/base"));
        check("./a:b", Some("/images/./a:b"));
        check("/a:b", Some("/a:b"));
        check("a:b", None);
        check("nbd://host/export", None);
        check("nbd:unix:/socket", None);
        check("json:{\"driver\":\"qcow2\"}", None);
        check("", None);
    }

    #[test]
    fn a_name_stays_relative_or_absolute() {
        let scratch = tempfile::tempdir().expect("a directory");
        let root = scratch.path().canonicalize().expect("its name");
        for directory in ["a/b", "c"] {
            std::fs::create_dir_all(root.join(directory)).expect("a directory");
        }
        std::os::unix::fs::symlink(root.join("a/b"), root.join("link")).expect("a link");
        let check = |image: &str, was: &str, base: &str, expected: &str| {
            let name = backing_name(&root.join(image), was, &root.join(base)).expect("a name");
            let expected = expected.replace("ROOT", root.to_str().expect("UTF-8"));
            assert_eq!(name, expected, "{image} {was} {base}");
            assert_eq!(
                backing_file(&root.join(image), &name).and_then(|file| file.parent()?.canonicalize().ok()),
                root.join(base).parent().and_then(|directory| directory.canonicalize().ok())
            );
        };
        check("top", "/elsewhere/base", "base", "ROOT/base");
        check("top", "", "base", "ROOT/base");
        check("top", "nbd://host/x", "base", "ROOT/base");
        check("top", "was", "base", "base");
        check("top", "was", "a:b", "./a:b");
        check("top", "file:was", "a/b/base", "a/b/base");
        check("a/b/top", "../was", "c/base", "../../c/base");
        check("a/b/top", "was", "base", "../../base");
        // From where the link leads, two directories up.
        check("link/top", "was", "base", "../../base");
    }

    #[test]
    fn what_no_header_takes_is_refused() {
        let long = format!("/{}", "x".repeat(MAX_NAME));
        let error = backing_name(Path::new("/top"), "/base", Path::new(&long)).expect_err("too long");
        assert_eq!(error.kind(), Kind::Unsupported);
    }
}
