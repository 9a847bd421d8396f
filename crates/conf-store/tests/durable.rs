//! Files in a private directory.

#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use xlsnap_conf_store::durable::Dir;
use xlsnap_conf_store::{Effect, Kind};

fn names(dir: &Dir) -> Vec<String> {
    let mut names = Vec::new();
    dir.names(&mut |name| names.push(name.to_owned())).unwrap();
    names.sort();
    names
}

#[test]
fn files_come_back() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a/b/c");
    assert_eq!(Dir::open(&path).unwrap_err().kind(), Kind::NotFound);
    let dir = Dir::create(&path).unwrap();
    for made in ["a", "a/b", "a/b/c"] {
        assert_eq!(fs::metadata(scratch.path().join(made)).unwrap().permissions().mode() & 0o777, 0o700);
    }
    assert_eq!(dir.read("x.toml", 10).unwrap_err().kind(), Kind::NotFound);
    dir.create_new("x.toml", b"one").unwrap();
    assert_eq!(fs::metadata(path.join("x.toml")).unwrap().permissions().mode() & 0o777, 0o600);
    let error = dir.create_new("x.toml", b"two").unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::AlreadyExists, Effect::None));
    assert_eq!(dir.read("x.toml", 3).unwrap(), b"one");
    assert_eq!(dir.read("x.toml", 2).unwrap_err().kind(), Kind::Malformed);
    dir.replace("x.toml", b"three").unwrap();
    assert_eq!(Dir::create(&path).unwrap().read("x.toml", 5).unwrap(), b"three");
    dir.replace("y", b"").unwrap();
    assert_eq!(dir.read("y", 0).unwrap(), b"");
    assert_eq!(names(&dir), ["x.toml", "y"]);
    dir.remove("y").unwrap();
    assert_eq!(dir.remove("y").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(names(&dir), ["x.toml"]);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn names_are_names() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = Dir::create(&scratch.path().join("d")).unwrap();
    for bad in ["", ".", "..", "a/b", "../d", "/etc/passwd", "a\0b"] {
        assert_eq!(dir.read(bad, 10).unwrap_err().kind(), Kind::Malformed, "{bad:?}");
        assert_eq!(dir.replace(bad, b"").unwrap_err().kind(), Kind::Malformed, "{bad:?}");
        assert_eq!(dir.create_new(bad, b"").unwrap_err().kind(), Kind::Malformed, "{bad:?}");
        assert_eq!(dir.remove(bad).unwrap_err().kind(), Kind::Malformed, "{bad:?}");
        assert_eq!(dir.open_dir(bad).unwrap_err().kind(), Kind::Malformed, "{bad:?}");
        assert_eq!(dir.create_dir(bad).unwrap_err().kind(), Kind::Malformed, "{bad:?}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    assert_eq!(names(&dir), [] as [String; 0]);
}

#[test]
fn links_are_not_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = Dir::create(&scratch.path().join("d")).unwrap();
    let outside = scratch.path().join("outside");
    fs::write(&outside, "secret").unwrap();
    symlink(&outside, dir.path().join("link")).unwrap();
    symlink(scratch.path(), dir.path().join("up")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(dir.read("link", 10).unwrap_err().kind(), Kind::Denied);
    assert_eq!(dir.open_dir("up").unwrap_err().kind(), Kind::Denied);
    assert_eq!(dir.create_dir("up").unwrap_err().kind(), Kind::Denied);
    assert_eq!(dir.open_dir("file").unwrap_err().kind(), Kind::Denied);
    assert_eq!(dir.read("up", 10).unwrap_err().kind(), Kind::Denied);
    assert_eq!(dir.create_new("link", b"").unwrap_err().kind(), Kind::AlreadyExists);
    dir.replace("link", b"mine").unwrap();
    symlink(&outside, dir.path().join("link2")).unwrap();
    dir.remove("link2").unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"secret");
    assert_eq!(dir.read("link", 10).unwrap(), b"mine");
    let inner = dir.create_dir("inner").unwrap();
    inner.create_new("x", b"").unwrap();
    assert_eq!(names(&dir.open_dir("inner").unwrap()), ["x"]);
}

#[test]
fn of_many_creators_one_wins() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = Dir::create(scratch.path()).unwrap();
    for round in 0..20 {
        let name = round.to_string();
        let results: Vec<_> = std::thread::scope(|scope| {
            let create = |i: u8| {
                let (name, dir) = (&name, &dir);
                scope.spawn(move || dir.create_new(name, &[i]).map_err(|error| error.kind()))
            };
            let threads: Vec<_> = (0..4).map(create).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winner = results.iter().position(Result::is_ok).expect("one wins");
        assert_eq!(results.iter().filter(|r| **r == Err(Kind::AlreadyExists)).count(), 3, "{results:?}");
        assert_eq!(dir.read(&name, 1).unwrap(), [u8::try_from(winner).unwrap()]);
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 20);
}

#[test]
fn what_crashed_writers_left_is_removed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = Dir::create(scratch.path()).unwrap();
    dir.create_new("kept", b"").unwrap();
    fs::write(dir.path().join(".xlsnap-new-1-0"), "half").unwrap();
    fs::write(dir.path().join(".other"), "").unwrap();
    assert_eq!(names(&dir), [".other", "kept"]);
    dir.remove_temporaries().unwrap();
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2);
    assert_eq!(names(&dir), [".other", "kept"]);
}
