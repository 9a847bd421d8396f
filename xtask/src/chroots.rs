//! `cargo xtask chroots`: what people do first, tried in a minimal Debian of each release (`ci/chroot`).

use std::fmt;
use std::fs;
use std::time::Instant;

use clap::ValueEnum;

use crate::command::{command, run, target};
use crate::{Done, Echo, Failure, ci, package};

/// A release of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Release {
    /// Debian 12.
    #[value(alias = "12")]
    Bookworm,
    /// Debian 13.
    #[value(alias = "13")]
    Trixie,
}

/// As Debian and `ci/chroot/run` name it.
impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        })
    }
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The Debian packages: install, use, upgrade, purge.
    Packages,
    /// The checkout: set-up, the README's commands, `cargo install`.
    Checkout,
}

/// What is asked of [`chroots`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// In this release alone.
    pub release: Option<Release>,
    /// Nothing but this.
    pub only: Option<Part>,
    /// The README's second command as it is, and not a few of its tests.
    pub tests: bool,
}

impl Options {
    fn releases(&self) -> impl Iterator<Item = &'static Release> {
        let only = self.release;
        Release::value_variants().iter().filter(move |release| only.is_none_or(|only| only == **release))
    }

    fn is_asked(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

/// Tries the Debian packages, which are made first, and this checkout in a minimal Debian of each release.
///
/// # Errors
/// What building says, or a script of `ci/chroot`, which names its line.
pub fn chroots(options: &Options, echo: Echo) -> Done {
    ci::setup(&["chroot"])?;
    let packages = target().join("debian");
    if options.is_asked(Part::Packages) {
        // Those of an older version would be tried too.
        if packages.exists() {
            fs::remove_dir_all(&packages)
                .map_err(|e| Failure(format!("older packages cannot be removed: {e}")))?;
        }
        let start = Instant::now();
        package::deb(echo)?;
        eprintln!("== making the packages took {} s", start.elapsed().as_secs());
    }
    for release in options.releases() {
        let enter = |part: &str| {
            let mut enter = command("ci/chroot/run", [&release.to_string()]);
            enter.arg(target().join("chroots")).arg(part);
            enter
        };
        if options.is_asked(Part::Packages) {
            let mut tried = enter("packages");
            tried.arg(&packages);
            run(echo, tried)?;
        }
        if options.is_asked(Part::Checkout) {
            let mut tried = enter("checkout");
            tried.args(options.tests.then_some("--tests"));
            run(echo, tried)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_tried_in_each_release_unless_one_is_asked_for() {
        let all = Options::default();
        assert_eq!(all.releases().map(Release::to_string).collect::<Vec<_>>(), ["bookworm", "trixie"]);
        assert!(all.is_asked(Part::Packages) && all.is_asked(Part::Checkout));
        let some =
            Options { release: Some(Release::Trixie), only: Some(Part::Checkout), ..Options::default() };
        assert_eq!(some.releases().map(Release::to_string).collect::<Vec<_>>(), ["trixie"]);
        assert!(!some.is_asked(Part::Packages) && some.is_asked(Part::Checkout));
    }
}
