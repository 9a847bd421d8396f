//! Files that get other names.
//!
//! A new file takes the name by which others know a disk's image, and the file that has it gets another one. The name always has a file:
//! it is given by one rename(2) over the old name. The old file has its new name before that, by link(2); where the file system has no
//! hard links, both are exchanged by one renameat2(2). The new file waits under a third name meanwhile, so that its header never names
//! itself. Whatever was done of it is told from which file has which name, so that it goes on, or goes back, from there.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use xlsnap_orchestrator::{Can, Effect, FileIdentity, LayerFile, NameSwap, PortError, PortErrorKind};
use xlsnap_qemu_img::{Image, QemuImg};

use crate::images::inventory::identity;
use crate::{error, layers, revertible};

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    Nothing,
    /// The file that had the name that is kept.
    Old,
    /// Another one: the new file.
    New,
}

/// Which file has which name: the one that is kept, the other one, and the third.
type Names = (Has, Has, Has);

/// One act on the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// The header of the new file is made to name the old one by its next name.
    Reheader,
    /// A name is given up for another.
    Rename(At, At),
    /// A file gets a second name; where that cannot be, what stands in its place.
    Link(At, At, Instead),
    /// Two files exchange their names.
    Exchange(At, At),
    /// A second name is taken away.
    Unlink(At),
}

/// What is done where a file system has no hard links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instead {
    Exchange(At, At),
    Rename(At, At),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Kept,
    Other,
    Third,
}

/// Where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// The new file waits under the third name.
    Ready,
    /// The new file has the name that is kept.
    Swapped,
    /// The old file has it.
    Back,
}

/// The next act; `None` when it is done.
///
/// # Errors
/// When the files are not those of an exchange.
fn next(to: To, names: Names, is_named_right: bool) -> Result<Option<Act>, ()> {
    use At::{Kept, Other, Third};
    use Has::{New, Nothing, Old};
    Ok(Some(match (to, names) {
        (To::Ready | To::Swapped, (Old, New, Nothing)) => Act::Rename(Other, Third),
        (To::Ready | To::Swapped, (Old, Nothing, New)) if !is_named_right => Act::Reheader,
        (To::Ready, (Old, Nothing, New) | (New, Old, Nothing)) => return Ok(None),
        (To::Swapped, (Old, Nothing, New)) => Act::Link(Kept, Other, Instead::Exchange(Kept, Third)),
        (To::Swapped, (Old, Old, New)) => Act::Rename(Third, Kept),
        (To::Swapped, (New, Nothing, Old)) => Act::Rename(Third, Other),
        (To::Swapped, (New, Old, Nothing)) => return Ok(None),
        // Back again, cut short after its first act.
        (To::Swapped, (New, Old, New)) => Act::Unlink(Third),
        (To::Back, (New, Old, Nothing)) => Act::Link(Kept, Third, Instead::Rename(Other, Third)),
        (To::Back, (New, Old, New)) => Act::Rename(Other, Kept),
        (To::Back, (New, Nothing, Old)) => Act::Exchange(Kept, Third),
        (To::Back, (Old, Old, New)) => Act::Unlink(Other),
        (To::Back, (Old, Nothing, New)) if !is_named_right => Act::Reheader,
        (To::Back, (Old, Nothing, New)) => Act::Rename(Third, Other),
        (To::Back, (Old, New | Nothing, Nothing)) => return Ok(None),
        _ => return Err(()),
    }))
}

/// Whether something is to be done for the old file to have its name back, and whether the header of the new one is to be written.
pub(crate) fn goes_back(names: &NameSwap) -> Result<(bool, bool), PortError> {
    let has = |file: &str| Has::of(names, file);
    let now = (has(names.kept())?, has(&names.new.file)?, has(&third(names))?);
    let is_back = matches!(now, (Has::Old, Has::New | Has::Nothing, Has::Nothing));
    Ok((!is_back, !is_back && names.stands_on_old))
}

impl Act {
    /// Whether the name that is kept has another file after it, or the old file another name: no process may have that open.
    fn moves_old(self) -> bool {
        !matches!(
            self,
            Self::Reheader
                | Self::Unlink(_)
                | Self::Rename(At::Other, At::Third)
                | Self::Rename(At::Third, At::Other)
        )
    }
}

/// The name under which the new file waits.
pub(crate) fn third(names: &NameSwap) -> String {
    let directory = Path::new(names.kept()).parent().unwrap_or(Path::new("/"));
    directory.join(format!(".xls-{}.name", names.token)).to_string_lossy().into_owned()
}

fn about(names: &NameSwap) -> String {
    let NameSwap { old, new, .. } = names;
    format!("disk {}: the names {} and {} were not exchanged", old.disk, old.file, new.file)
}

impl Has {
    fn of(names: &NameSwap, file: &str) -> Result<Self, PortError> {
        match std::fs::symlink_metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Nothing),
            Err(source) => {
                let message = format!("{}: {file} can't be looked at", about(names));
                Err(PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(source))
            }
            Ok(found) => {
                let found = FileIdentity { device: found.dev(), inode: found.ino() };
                Ok(if names.old.is(Some(found)) { Self::Old } else { Self::New })
            }
        }
    }
}

/// An exchange of names on its way.
struct Exchange<'a> {
    qemu_img: &'a dyn QemuImg,
    names: &'a NameSwap,
    key_file: Option<PathBuf>,
    third: String,
    /// Whether hard links are tried.
    links: bool,
    /// Whether no process has them open, as far as that was looked at.
    is_closed: bool,
    /// Whether it was made ready just now: then the guest does not stand still for what was looked at already.
    is_ready: bool,
    /// Whether an act was done.
    has_begun: bool,
}

/// Makes the new file ready, under a third name.
pub(crate) async fn ready(
    qemu_img: &dyn QemuImg,
    names: &NameSwap,
    key_file: Option<PathBuf>,
) -> Result<(), PortError> {
    Exchange::new(qemu_img, names, key_file).go(To::Ready).await
}

/// Gives the new file the name that is kept. `is_ready` is whether it was made ready just now, and no other process had the old one open.
pub(crate) async fn swap(
    qemu_img: &dyn QemuImg,
    names: &NameSwap,
    key_file: Option<PathBuf>,
    is_ready: bool,
) -> Result<(), PortError> {
    Exchange { is_ready, ..Exchange::new(qemu_img, names, key_file) }.go(To::Swapped).await
}

/// Refuses an old file that another process has open than `process`.
pub(crate) fn refuse_others(names: &NameSwap, process: u32) -> Result<(), PortError> {
    match revertible::users_but(names.kept(), Some(process)).first() {
        None => Ok(()),
        Some(user) => {
            let message = format!("{}: {user} has {} open", about(names), names.kept());
            Err(PortError::new(PortErrorKind::Busy, Effect::None, message))
        }
    }
}

/// Gives the old file its name back.
pub(crate) async fn back(
    qemu_img: &dyn QemuImg,
    names: &NameSwap,
    key_file: Option<PathBuf>,
) -> Result<(), PortError> {
    Exchange::new(qemu_img, names, key_file).go(To::Back).await
}

impl<'a> Exchange<'a> {
    fn new(qemu_img: &'a dyn QemuImg, names: &'a NameSwap, key_file: Option<PathBuf>) -> Self {
        let third = third(names);
        Self {
            qemu_img,
            names,
            key_file,
            third,
            links: true,
            is_closed: false,
            is_ready: false,
            has_begun: false,
        }
    }

    fn at(&self, at: At) -> &str {
        match at {
            At::Kept => self.names.kept(),
            At::Other => &self.names.new.file,
            At::Third => &self.third,
        }
    }

    fn about(&self) -> String {
        about(self.names)
    }

    fn has(&self, at: At) -> Result<Has, PortError> {
        Has::of(self.names, self.at(at))
    }

    async fn go(&mut self, to: To) -> Result<(), PortError> {
        // Few acts lead from one end to the other.
        for _ in 0..16 {
            if !self.advance(to).await? {
                return Ok(());
            }
        }
        let message = format!("{}: another program renames them too", self.about());
        Err(PortError::new(PortErrorKind::Failed, Effect::Unknown, message))
    }

    /// Does the next act, if there is one.
    async fn advance(&mut self, to: To) -> Result<bool, PortError> {
        let begun = self.has_begun;
        self.do_next(to).await.map_err(|mut error| {
            // Whatever failed, an act was done before.
            if begun {
                error.effect = Effect::Unknown;
            }
            error
        })
    }

    async fn do_next(&mut self, to: To) -> Result<bool, PortError> {
        let names = (self.has(At::Kept)?, self.has(At::Other)?, self.has(At::Third)?);
        let is_named_right = self.is_named_right(to, names).await?;
        let act = next(to, names, is_named_right).map_err(|()| {
            let message = format!("{}: they are of other files than when this was planned", self.about());
            PortError::new(PortErrorKind::Refused, Effect::None, message)
        })?;
        let Some(act) = act else { return Ok(false) };
        self.has_begun = true;
        self.act_closed(to, act).await.map(|()| true)
    }

    async fn act_closed(&mut self, to: To, act: Act) -> Result<(), PortError> {
        if act.moves_old() && !self.is_closed {
            self.refuse_open()?;
            self.is_closed = true;
        }
        self.act(to, act).await
    }

    /// Whether the header of the new file, where it waits, names the old one as it is called at the end.
    async fn is_named_right(&self, to: To, names: Names) -> Result<bool, PortError> {
        let is_told = self.is_ready && to == To::Swapped;
        if is_told || !self.names.stands_on_old || names != (Has::Old, Has::Nothing, Has::New) {
            return Ok(true);
        }
        let info = self.qemu_img.info(&self.new_image()).await;
        let info = info
            .map_err(|e| error::of_qemu_img(format!("{}: {} can't be read", self.about(), self.third), e))?;
        let named = info
            .backing
            .and_then(|backing| xlsnap_qemu_img::backing_file(Path::new(&self.third), &backing.name));
        Ok(named.as_deref() == Some(Path::new(self.base(to))))
    }

    /// The name of the old file at the end.
    fn base(&self, to: To) -> &str {
        match to {
            To::Ready | To::Swapped => &self.names.new.file,
            To::Back => self.names.kept(),
        }
    }

    fn new_image(&self) -> Image {
        Image::new(&self.third, self.names.new.format.driver())
    }

    /// A file that a process has open keeps its name.
    fn refuse_open(&self) -> Result<(), PortError> {
        for at in [At::Kept, At::Other, At::Third] {
            let file = self.at(at);
            let used = || Some(format!("{} has {file} open", revertible::users(file).first()?));
            let open = revertible::locked(file).or_else(|| if self.is_ready { None } else { used() });
            if let Some(why) = open {
                let message = format!("{}: {why}", self.about());
                return Err(PortError::new(PortErrorKind::Busy, Effect::None, message));
            }
        }
        Ok(())
    }

    async fn act(&mut self, to: To, act: Act) -> Result<(), PortError> {
        let failed = |this: &Self, source: io::Error| {
            PortError::new(PortErrorKind::Failed, Effect::None, this.about()).with_source(source)
        };
        match act {
            Act::Reheader => {
                let base = Image::new(self.base(to), self.names.old.format.driver());
                let image = self.new_image().with_key_file(self.key_file.clone());
                let named = self.qemu_img.rebase_unsafe(&image, &base).await;
                return named.map_err(|e| error::of_qemu_img(self.about(), e));
            }
            Act::Rename(from, into) => {
                std::fs::rename(self.at(from), self.at(into)).map_err(|e| failed(self, e))?;
            }
            Act::Exchange(a, b) => {
                let flags = RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, self.at(a), CWD, self.at(b), flags).map_err(|errno| {
                    match errno {
                        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => {
                            let message = format!(
                                "{}: the file system has neither hard links nor an exchange of names",
                                self.about()
                            );
                            PortError::new(PortErrorKind::Refused, Effect::None, message)
                        }
                        errno => failed(self, errno.into()),
                    }
                })?;
            }
            Act::Link(from, into, instead) => {
                let linked = match self.links {
                    true => std::fs::hard_link(self.at(from), self.at(into)),
                    false => Err(Errno::OPNOTSUPP.into()),
                };
                match linked.map_err(|error| (Errno::from_io_error(&error), error)) {
                    Ok(()) => {}
                    Err((Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK), _)) => {
                        self.links = false;
                        let instead = match instead {
                            Instead::Exchange(a, b) => Act::Exchange(a, b),
                            Instead::Rename(a, b) => Act::Rename(a, b),
                        };
                        return Box::pin(self.act(to, instead)).await;
                    }
                    Err((_, error)) => return Err(failed(self, error)),
                }
            }
            Act::Unlink(at) => std::fs::remove_file(self.at(at)).map_err(|e| failed(self, e))?,
        }
        // A file that gives its only name up must have the next one on the disk. The act is done by now.
        durable(self.names.kept()).map_err(|e| {
            let mut error = failed(self, e);
            error.effect = Effect::Unknown;
            error
        })
    }
}

/// Gives a file the name of another one, which is gone with that.
pub(crate) fn rename(file: &LayerFile, over: &LayerFile) -> Result<(), PortError> {
    let about = format!("disk {}: {} was not renamed to {}", file.disk, file.file, over.file);
    let failed =
        |effect, source| PortError::new(PortErrorKind::Failed, effect, about.clone()).with_source(source);
    if is_renamed(file, over) {
        return durable(&over.file).map_err(|e| failed(Effect::None, e));
    }
    layers::as_planned(file)?;
    if !layers::is_gone(over)? {
        layers::as_planned(over)?;
    }
    for name in [&file.file, &over.file] {
        let open = revertible::locked(name)
            .or_else(|| Some(format!("{} has {name} open", revertible::users(name).first()?)));
        if let Some(why) = open {
            return Err(PortError::new(PortErrorKind::Busy, Effect::None, format!("{about}: {why}")));
        }
    }
    let done = std::fs::rename(&file.file, &over.file);
    done.map_err(|e| failed(Effect::None, e))?;
    durable(&over.file).map_err(|e| failed(Effect::Unknown, e))
}

/// Whether a file has the name already: a process may have it open under that.
pub(crate) fn is_renamed(file: &LayerFile, over: &LayerFile) -> bool {
    file.is(identity(&over.file))
}

/// Whether a file can get another name, and others that know it by this one find what takes it.
pub(crate) fn movable(file: &str) -> Result<Can, PortError> {
    let found = match std::fs::symlink_metadata(file) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Can::No(format!("{file} is not there").into()));
        }
        Err(source) => {
            let message = format!("{file} can't be looked at");
            return Err(PortError::new(PortErrorKind::Failed, Effect::None, message).with_source(source));
        }
    };
    Ok(Can::unless(if found.file_type().is_symlink() {
        Some(format!("{file} is a symbolic link, and what it leads to has another name too"))
    } else if !found.is_file() {
        Some(format!("{file} is no regular file"))
    } else if found.nlink() > 1 {
        Some(format!(
            "{file} has {} names (hard links), and the others would lead to what it is now",
            found.nlink()
        ))
    } else {
        None
    }))
}

/// Brings the names in the directory of a file to the disk.
fn durable(file: &str) -> io::Result<()> {
    File::open(Path::new(file).parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use xlsnap_qemu_img::Program;
    use xlsnap_testkit::real::{Data, Scratch, holds_offline, qemu_img, write_offline};
    use xlsnap_types::model::ImageFormat;

    use super::*;

    const MIB: u64 = 1 << 20;

    struct Files {
        scratch: Scratch,
        names: NameSwap,
        program: Program,
    }

    impl Files {
        fn new(stands_on_old: bool) -> Self {
            let scratch = Scratch::new();
            let old = scratch.qcow2_with("a", MIB, 1);
            let below = scratch.qcow2_with("below", MIB, 1);
            let new = scratch.qcow2_on("new", if stands_on_old { &old } else { &below });
            let file = |path: &Path, identity| LayerFile {
                disk: "vda".parse().unwrap(),
                file: path.to_str().unwrap().to_owned(),
                format: ImageFormat::Qcow2,
                identity,
            };
            let names = NameSwap {
                old: file(&old, identity(old.to_str().unwrap())),
                new: file(&new, None),
                stands_on_old,
                token: "abc".to_owned(),
            };
            Self { scratch, names, program: Program::default() }
        }

        fn exchange(&self, links: bool) -> Exchange<'_> {
            Exchange { links, ..Exchange::new(&self.program, &self.names, None) }
        }

        /// What has the name is whole at any time.
        fn assert_named(&self, about: &str) {
            let kept = Path::new(self.names.kept());
            assert!(kept.exists(), "{about}: the name has no file");
            let third = self.scratch.path(".xls-abc.name");
            for file in [kept, Path::new(&self.names.new.file), &third] {
                let Ok(text) = std::fs::canonicalize(file) else { continue };
                let info = qemu_img(&["info", "--output=json", text.to_str().unwrap()]);
                let own = format!("\"full-backing-filename\": \"{}\"", file.display());
                assert!(!info.contains(&own), "{about}: {} is its own base", file.display());
            }
        }

        fn assert_at(&self, to: To, about: &str) {
            let is_swapped = identity(self.names.kept()) != self.names.old.identity;
            assert_eq!(is_swapped, to == To::Swapped, "{about}");
            for file in [self.names.kept(), &self.names.new.file] {
                assert!(holds_offline(Path::new(file), "qcow2", Data::of(1)), "{about}: {file}");
            }
            let files = std::fs::read_dir(self.scratch.dir()).unwrap().count();
            assert_eq!(files, 3, "{about}");
            assert_eq!(std::fs::metadata(self.names.kept()).unwrap().nlink(), 1);
        }
    }

    /// Forward and back, cut short after each act, and from there forward or back: by hard links and without.
    #[tokio::test]
    async fn an_exchange_goes_on_or_back_from_wherever_it_was_cut_short() {
        let mut cuts = 0;
        for (stands_on_old, links) in [(true, true), (true, false), (false, true), (false, false)] {
            for (way, end) in [
                (To::Swapped, To::Swapped),
                (To::Swapped, To::Back),
                (To::Back, To::Back),
                (To::Back, To::Swapped),
            ] {
                for cut in 0.. {
                    let about =
                        format!("on old: {stands_on_old}, links: {links}, {way:?} {cut} then {end:?}");
                    let files = Files::new(stands_on_old);
                    if way == To::Back {
                        files.exchange(links).go(To::Swapped).await.unwrap();
                    }
                    let mut exchange = files.exchange(links);
                    let mut went = true;
                    for _ in 0..cut {
                        went = exchange.advance(way).await.unwrap_or_else(|e| panic!("{about}: {e}"));
                        files.assert_named(&about);
                    }
                    let mut exchange = files.exchange(links);
                    while exchange.advance(end).await.unwrap_or_else(|e| panic!("{about}: {e}")) {
                        files.assert_named(&about);
                    }
                    files.exchange(links).go(end).await.unwrap();
                    files.assert_at(end, &about);
                    cuts += 1;
                    if !went {
                        break;
                    }
                }
            }
        }
        assert!(cuts > 40, "{cuts}");
    }

    #[tokio::test]
    async fn what_waits_ready_goes_either_way() {
        for end in [To::Swapped, To::Back] {
            let files = Files::new(true);
            ready(&files.program, &files.names, None).await.unwrap();
            assert!(!Path::new(&files.names.new.file).exists());
            ready(&files.program, &files.names, None).await.unwrap();
            files.exchange(true).go(end).await.unwrap();
            files.assert_at(end, &format!("{end:?}"));
        }
    }

    #[tokio::test]
    async fn what_fails_after_an_act_has_an_effect() {
        let files = Files::new(true);
        let error = ready(&Program::new("no-such-program"), &files.names, None).await.unwrap_err();
        assert!(!Path::new(&files.names.new.file).exists(), "it waits under the third name");
        assert_eq!(error.effect, Effect::Unknown, "{error}");
        back(&files.program, &files.names, None).await.unwrap();
        files.assert_at(To::Back, "undone");
    }

    #[tokio::test]
    async fn another_file_is_neither_renamed_nor_replaced() {
        let files = Files::new(true);
        let kept = Path::new(files.names.kept());
        std::fs::rename(kept, files.scratch.path("away")).unwrap();
        write_offline(&files.scratch.qcow2("a", MIB), "qcow2", Data::of(9));
        let error = swap(&files.program, &files.names, None, false).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None), "{error}");
        assert!(holds_offline(kept, "qcow2", Data::of(9)));
    }

    #[tokio::test]
    async fn a_file_that_a_process_has_open_keeps_its_name() {
        let files = Files::new(true);
        let mut held = std::process::Command::new("sleep");
        held.arg("60").stdin(File::open(files.names.kept()).unwrap());
        let mut held = held.spawn().unwrap();
        let error = swap(&files.program, &files.names, None, false).await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Busy, "{error}");
        assert!(error.to_string().contains("sleep"), "{error}");
        held.kill().unwrap();
        held.wait().unwrap();
        swap(&files.program, &files.names, None, false).await.unwrap();
        files.assert_at(To::Swapped, "closed");
    }

    #[test]
    fn a_file_with_more_names_is_not_movable() {
        let scratch = Scratch::new();
        let file = scratch.qcow2("a", MIB);
        let can = |file: &Path| movable(file.to_str().unwrap()).unwrap();
        assert_eq!(can(&file), Can::Yes);
        std::os::unix::fs::symlink(&file, scratch.path("link")).unwrap();
        assert!(can(&scratch.path("link")).why().unwrap().contains("symbolic link"));
        std::fs::hard_link(&file, scratch.path("second")).unwrap();
        assert!(can(&file).why().unwrap().contains("2 names"));
        assert!(can(&scratch.path("nothing")).why().unwrap().contains("not there"));
        assert!(can(scratch.dir()).why().unwrap().contains("no regular file"));
    }
}
