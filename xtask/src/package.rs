//! `cargo xtask package`: what would be uploaded, built alone.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{cargo, command, output, run, target, top};
use crate::{Done, Echo, Failure, ci, tools};

/// Packages every published crate and builds each from its package, so with its own features only.
///
/// # Errors
/// What cargo says.
pub fn package(echo: Echo) -> Done {
    forget_unpacked()?;
    // A directory of its own: what is built there is built of packages, and is built anew.
    let built = target().join("packages");
    for part in ["package", "debug/.fingerprint"] {
        for ours in entries(&built.join(part)).iter().filter(|path| begins(path, "xlsnap")) {
            remove(ours)?;
        }
    }
    let mut package =
        cargo("package --quiet --workspace --exclude xtask --exclude xlsnap-testkit --locked --allow-dirty");
    package.arg("--target-dir").arg(built);
    run(echo, package)
}

/// Removes what cargo unpacked of our packages before: it builds a crate against the packages of the others, and takes one that it has
/// unpacked once for the one of today, as long as that has the same version.
fn forget_unpacked() -> Done {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    // A registry of a package's own making has no host, with which the names of the others begin.
    let registries = entries(&home.unwrap_or_default().join("registry/src"));
    for registry in registries.iter().filter(|path| begins(path, "-")) {
        for ours in entries(registry).iter().filter(|path| begins(path, "xlsnap")) {
            remove(ours)?;
        }
    }
    Ok(())
}

/// What is in a directory; nothing where there is none.
fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn begins(path: &Path, with: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(with))
}

fn remove(older: &Path) -> Done {
    fs::remove_dir_all(older).map_err(|e| cannot("an older package cannot be removed", &e))
}

/// Installs the C library by cargo-c below `target/installed`, and builds and runs a C program against what is there, as
/// pkg-config tells it.
///
/// # Errors
/// What cargo-c, the compiler or the program says.
pub fn install(echo: Echo) -> Done {
    let root = target().join("installed");
    c_library(echo, &root, &["--debug"])?;

    let library = root.join("usr/lib");
    let mut ask = command("pkg-config", ["--cflags", "--libs", "xlsnap"]);
    ask.env("PKG_CONFIG_PATH", library.join("pkgconfig")).env("PKG_CONFIG_SYSROOT_DIR", &root);
    let flags = output(ask)?;
    let flags = String::from_utf8(flags).map_err(|e| cannot("pkg-config does not print text", &e))?;
    let program = root.join("example");
    let source = top().join("crates/capi/examples/domain.c");
    let mut compile = command("cc", ["-std=c99", "-Wall", "-Wextra", "-Werror", "-o"]);
    compile.args([program.as_path(), source.as_path()]).args(flags.split_whitespace());
    run(echo, compile)?;
    runs(&program, &library)
}

/// An unknown domain gives the status 3.
fn runs(program: &Path, library: &Path) -> Done {
    let mut example = command(program, ["list", "absent"]);
    example.env("LD_LIBRARY_PATH", library).env("XLSNAP_ROOT", library);
    let ended = example.output().map_err(|e| Failure(format!("the example does not start: {e}")))?;
    match ended.status.code() {
        Some(3) => Ok(()),
        _ => {
            Err(Failure(format!("the example: {}\n{}", ended.status, String::from_utf8_lossy(&ended.stderr))))
        }
    }
}

/// Installs the C library below `root`, which is emptied first.
fn c_library(echo: Echo, root: &Path, flags: &[&str]) -> Done {
    ci::setup(&["packaging"])?;
    if root.exists() {
        fs::remove_dir_all(root).map_err(|e| cannot("the last installation cannot be removed", &e))?;
    }
    let old = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools::cargo_c()?].into_iter().chain(env::split_paths(&old)))
        .map_err(|e| cannot("PATH cannot be extended", &e))?;
    let mut install =
        cargo("cinstall --locked --package xlsnap-capi --prefix /usr --libdir /usr/lib --destdir");
    install.arg(root).arg("--target-dir").arg(target().join("c")).args(flags).env("PATH", path);
    run(echo, install)
}

/// Makes Debian packages in `target/debian`: `xlsnap` with manual pages and completions, `libxlsnap0`, `libxlsnap-dev`.
///
/// # Errors
/// What cargo, cargo-c or cargo-deb says.
pub fn deb(echo: Echo) -> Done {
    // cargo-deb finds it from the packages' directories, wherever cargo builds.
    let root = top().join("target/deb");
    c_library(echo, &root, &[])?;
    run(echo, cargo("build --release --locked --package xlsnap-cli"))?;
    let built = target().join("release/xlsnap");
    let share = root.join("usr/share");
    for directory in [root.join("usr/bin"), share.join("man/man1")] {
        fs::create_dir_all(directory).map_err(|e| cannot("a directory cannot be made", &e))?;
    }
    fs::copy(&built, root.join("usr/bin/xlsnap")).map_err(|e| cannot("the command cannot be copied", &e))?;
    let mut pages = command(&built, ["man", "--out"]);
    pages.arg(share.join("man/man1"));
    run(echo, pages)?;
    for (shell, file) in [
        ("bash", "bash-completion/completions/xlsnap"),
        ("zsh", "zsh/vendor-completions/_xlsnap"),
        ("fish", "fish/vendor_completions.d/xlsnap.fish"),
    ] {
        let words = output(command(&built, ["completions", shell]))?;
        let file = share.join(file);
        let made = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, words));
        made.map_err(|e| cannot("completions cannot be written", &e))?;
    }
    fs::write(root.join("changelog"), changelog()?)
        .map_err(|e| cannot("the changelog cannot be written", &e))?;
    let deb = tools::cargo_deb()?;
    for package in [&["xlsnap-cli"][..], &["xlsnap-capi"], &["xlsnap-capi", "--variant", "dev"]] {
        let mut make = command(&deb, ["--no-build", "--package"]);
        make.args(package).arg("--output").arg(target().join("debian/"));
        run(echo, make)?;
    }
    let library = |path: &PathBuf| begins(path, "libxlsnap0_");
    entries(&target().join("debian"))
        .iter()
        .filter(|path| library(path))
        .try_for_each(|deb| as_library(echo, deb))
}

/// What Debian's policy asks for (12.7), dated like the last commit. What has changed stands in CHANGELOG.md.
fn changelog() -> Result<String, Failure> {
    let date = output(command("git", ["log", "-1", "--format=%aD"]))?;
    let date = String::from_utf8_lossy(&date).trim().to_owned();
    Ok(format!(
        "xlsnap ({}-1) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- {MAINTAINER}  {date}\n",
        env!("CARGO_PKG_VERSION")
    ))
}

/// As in the packages' manifests.
const MAINTAINER: &str = "The xlsnap developers <xlsnap@users.noreply.github.com>";

/// Adds what Debian's policy asks of a shared library and cargo-deb cannot write: which package a program depends on that is linked
/// with it (8.6), and that the linker's cache is made anew (8.1).
fn as_library(echo: Echo, deb: &Path) -> Done {
    let unpacked = target().join("deb-unpacked");
    if unpacked.exists() {
        remove(&unpacked)?;
    }
    let mut unpack = command("dpkg-deb", ["--raw-extract"]);
    unpack.args([deb, &unpacked]);
    run(echo, unpack)?;
    let shlibs = format!("libxlsnap 0 libxlsnap0 (>= {})\n", env!("CARGO_PKG_VERSION"));
    for (file, content) in [("shlibs", shlibs.as_str()), ("triggers", "activate-noawait ldconfig\n")] {
        let file = unpacked.join("DEBIAN").join(file);
        fs::write(file, content).map_err(|e| cannot("a library's package cannot be completed", &e))?;
    }
    let mut pack = command("dpkg-deb", ["--root-owner-group", "--build"]);
    pack.args([unpacked.as_path(), deb]);
    run(echo, pack)?;
    remove(&unpacked)
}

fn cannot(what: &str, e: &dyn std::fmt::Display) -> Failure {
    Failure(format!("{what}: {e}"))
}
