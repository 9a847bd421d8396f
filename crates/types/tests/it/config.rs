//! The user's configuration file.

use xlsnap_types::config::{DiskKind, MemoryChoice, UserConfig, UserDisk};
use xlsnap_types::model::ImageFormat;

#[track_caller]
fn parse(text: &str) -> UserConfig {
    UserConfig::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

#[track_caller]
fn check_error(text: &str, expected: &str) {
    let error = UserConfig::parse(text.as_bytes()).expect_err(text);
    assert_eq!(error.to_string(), expected, "{text}");
}

fn disk(name: &str, kind: DiskKind) -> UserDisk {
    UserDisk { disk: name.parse().expect("a disk name"), kind, format: None, target: None }
}

#[test]
fn the_file_of_the_documentation_parses() {
    let docs = include_str!("../../src/config/mod.rs");
    let block = docs.split("```text\n").nth(1).and_then(|rest| rest.split("//! ```").next()).unwrap();
    let text: String = block.lines().map(|line| format!("{}\n", line.trim_start_matches("//!"))).collect();
    let config = parse(&text);
    assert_eq!(config.name.unwrap().as_str(), "before-upgrade");
    assert_eq!(config.description.as_deref(), Some("all services stopped"));
    assert_eq!((config.memory, config.kind), (MemoryChoice::No, DiskKind::Internal));
    let overlay = UserDisk {
        format: Some(ImageFormat::Qcow2),
        target: Some("/var/lib/overlays/xvdb.qcow2".to_owned()),
        ..disk("xvdb", DiskKind::External)
    };
    assert_eq!(config.disks, [disk("xvda", DiskKind::Internal), overlay]);
}

#[test]
fn the_syntax_of_xl() {
    assert_eq!(parse(""), UserConfig::default());
    assert_eq!(parse(" \t# nothing\n\n;;\n"), UserConfig::default());
    let two = parse("name='a';memory=\"yes\" # both\r\ndescription=\"it's # not a comment; really\"");
    assert_eq!(two.name.unwrap().as_str(), "a");
    assert_eq!(two.memory, MemoryChoice::Default);
    assert_eq!(two.description.as_deref(), Some("it's # not a comment; really"));
    assert_eq!(parse("name = 1421234567").name.unwrap().as_str(), "1421234567");
    assert_eq!(parse("memory='/srv/a.save'").memory, MemoryChoice::File("/srv/a.save".to_owned()));
    let list = parse("disk = [ # first\n 'vdev=hda' # one\n , \"vdev=hdb\",\n]\ntype='external'");
    assert_eq!(list.disks, [disk("hda", DiskKind::External), disk("hdb", DiskKind::External)]);
}

#[test]
fn a_disk_says_how_it_is_taken() {
    let one = |element: &str| parse(&format!("disk=['{element}']")).disks.remove(0);
    assert_eq!(one("vdev=hda"), disk("hda", DiskKind::Internal));
    assert_eq!(one(" vdev=hda , type=external "), disk("hda", DiskKind::External));
    let overlay = one("vdev=hda,target=/srv/a,b=c .qcow2");
    assert_eq!(overlay.kind, DiskKind::External);
    assert_eq!(overlay.target.as_deref(), Some("/srv/a,b=c .qcow2"), "a target reaches to the end");
    assert_eq!(one("type=external,format=vhd,vdev=hda").format, Some(ImageFormat::Vpc));
    let mixed = parse("type=\"external\"\ndisk=['vdev=hda,type=internal','vdev=hdb']").disks;
    assert_eq!(mixed, [disk("hda", DiskKind::Internal), disk("hdb", DiskKind::External)]);
}

#[test]
fn errors_of_the_syntax() {
    check_error("name", "line 1, column 5: expected '=' after the key");
    check_error("name 'a'", "line 1, column 6: \"'\": expected '=' after the key");
    check_error("name=abc", "line 1, column 6: \"abc\": expected a string in quotes, a number or '['");
    check_error("name=", "line 1, column 6: expected a string in quotes, a number or '['");
    check_error("\n name='a", "line 2, column 7: \"'a\": expected the closing quote on the same line");
    check_error(
        "name=\"a'\nb\"",
        "line 1, column 6: \"\\\"a'\": expected the closing quote on the same line",
    );
    check_error(
        "name='a' type='b'",
        "line 1, column 10: \"type\": expected the end of the line or ';' after the value",
    );
    check_error("name='ü'é", "line 1, column 9: \"é\": expected the end of the line or ';' after the value");
    check_error("= 'a'", "line 1, column 1: \"=\": expected a key");
    check_error("disk=['a' 'b']", "line 1, column 11: \"'\": expected ',' or ']'");
    check_error("disk=['a',\n,]", "line 2, column 1: \",\": expected a string in quotes or ']'");
    check_error("disk=['vdev=hda'", "line 1, column 17: expected ',' or ']'");
    check_error("disk=[[]]", "line 1, column 7: \"[\": expected a string in quotes or ']'");
    let error = UserConfig::parse(b"name='a'\nname='\xff'").unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 7: the byte 0xff is not UTF-8 here");
    let long = vec![b'#'; UserConfig::MAX_BYTES + 1];
    let error = UserConfig::parse(&long).unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 65537: the file has more than 65536 bytes");
    assert!(UserConfig::parse(&long[1..]).is_ok());
}

#[test]
fn errors_of_the_values() {
    check_error(
        "Name='a'",
        "line 1, column 1: \"Name\": not a key; known are name, description, memory, type and disk",
    );
    check_error("name='a'\nname='a'", "line 2, column 1: \"name\": stands twice");
    check_error(
        "name='../x'",
        "line 1, column 7: \"../x\": the snapshot name \"../x\" contains '/', and it becomes part of a file name",
    );
    check_error("name=''", "line 1, column 7: the snapshot name is empty; give it 1 to 200 bytes");
    check_error("name=['a']", "line 1, column 6: \"[\": not a value of name, which is a string");
    check_error(
        "memory='Yes'",
        "line 1, column 9: \"Yes\": not a value of memory, which is \"yes\", \"no\" or the absolute path of a file",
    );
    check_error(
        "memory='a.save'",
        "line 1, column 9: \"a.save\": not a value of memory, which is \"yes\", \"no\" or the absolute path of a file",
    );
    check_error(
        "type='both'",
        "line 1, column 7: \"both\": not a value of type, which is \"internal\" or \"external\"",
    );
    let list = "which is a list of strings like ['vdev=xvda']; without the key every writable disk is taken";
    check_error("disk='vdev=hda'", &format!("line 1, column 7: \"vdev=hda\": not a value of disk, {list}"));
    check_error("disk=[]", &format!("line 1, column 6: \"[\": not a value of disk, {list}"));
}

#[test]
fn errors_of_the_disks() {
    let check = |element: &str, expected: &str| check_error(&format!("disk=['{element}']"), expected);
    check(
        "vdev=hda,bus=ide",
        "line 1, column 17: \"bus\": not a key; known are vdev, type, format and target",
    );
    check("vdev=hda,cdrom", "line 1, column 17: \"cdrom\": expected KEY=VALUE, like vdev=xvda");
    check("", "line 1, column 8: expected KEY=VALUE, like vdev=xvda");
    check("vdev=hda,", "line 1, column 17: expected KEY=VALUE, like vdev=xvda");
    check(
        "vdev=a b",
        "line 1, column 13: \"a b\": the disk name \"a b\" is not one word of ASCII letters, digits, '.', '_' and '-' that starts with a letter or digit",
    );
    check("vdev=hda,vdev=hdb", "line 1, column 17: \"vdev\": stands twice");
    check(
        "vdev=hda,format=vmdk",
        "line 1, column 24: \"vmdk\": not a value of format, which is qcow2, raw, qcow, vhd or qed",
    );
    check(
        "vdev=hda,target=a.qcow2",
        "line 1, column 24: \"a.qcow2\": not a value of target, which is the absolute path of a file",
    );
    check(
        "target=/a,vdev=hda",
        "line 1, column 8: \"target=/a,vdev=hda\": the disk has no vdev; write vdev=NAME, and before target=, which takes the rest of the text",
    );
    let inside = "an internal snapshot is inside the disk's image; this is for type=external only";
    check("vdev=hda,format=qcow2", &format!("line 1, column 17: \"format\": {inside}"));
    check("vdev=hda,type=internal,target=/a", &format!("line 1, column 31: \"target\": {inside}"));
    check_error(
        "disk=['vdev=hda',\n 'vdev=hda,type=external']",
        "line 2, column 3: \"vdev=hda,type=external\": stands twice",
    );
}
