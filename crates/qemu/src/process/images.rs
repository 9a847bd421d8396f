//! The disks' images in a command line that a user wrote: `{disk:vda}` stands for the image that the disk has at the start.

use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_types::model::DomainName;

use crate::DiskSpec;

/// What a placeholder stands for.
#[derive(Clone, Copy)]
enum Stands {
    ForImage,
    ForFormat,
}

const KINDS: [(&str, Stands); 2] = [("{disk:", Stands::ForImage), ("{format:", Stands::ForFormat)];

/// The command line with the disks' images and formats in the places of `{disk:NAME}` and `{format:NAME}`.
///
/// A placeholder that is a word of its own becomes the plain path. In a word in JSON the path is written as JSON's strings are, in
/// any other its commas are doubled, as QEMU's options have them.
///
/// # Errors
/// [`PortErrorKind::Refused`] when a placeholder names a disk that the domain has not, or an empty drive.
pub(super) fn put_in(
    domain: &DomainName,
    argv: &[String],
    disks: &[DiskSpec],
) -> Result<Vec<String>, PortError> {
    argv.iter().map(|word| put_in_word(domain, word, disks)).collect()
}

fn put_in_word(domain: &DomainName, word: &str, disks: &[DiskSpec]) -> Result<String, PortError> {
    let mut done = String::new();
    let mut rest = word;
    while let Some((at, name, stands)) = next(rest) {
        let whole = &rest[at..rest[at..].find('}').map_or(rest.len(), |end| at + end + 1)];
        let refused = |why: String| {
            let message = format!("domain {domain}: its start.argv has {whole}, and {why}");
            PortError::new(PortErrorKind::Refused, Effect::None, message)
        };
        let disk = disks.iter().find(|disk| disk.name.as_str() == name);
        let disk = disk.ok_or_else(|| refused(format!("the domain has no disk {name}")))?;
        done.push_str(&rest[..at]);
        match stands {
            Stands::ForFormat => done.push_str(disk.format.driver()),
            Stands::ForImage if disk.file.is_empty() => {
                return Err(refused(format!("its disk {name} is an empty drive")));
            }
            Stands::ForImage if whole == word => done.push_str(&disk.file),
            Stands::ForImage if is_json(word) => done.push_str(&in_json(&disk.file)),
            Stands::ForImage => done.push_str(&disk.file.replace(',', ",,")),
        }
        rest = &rest[at + whole.len()..];
    }
    done.push_str(rest);
    Ok(done)
}

/// The first placeholder of a text: where it begins, and the disk's name in it.
fn next(text: &str) -> Option<(usize, &str, Stands)> {
    let first = KINDS.iter().filter_map(|(beginning, stands)| {
        let at = text.find(beginning)?;
        let (name, _) = text[at + beginning.len()..].split_once('}')?;
        Some((at, name, *stands))
    });
    first.min_by_key(|(at, ..)| *at)
}

fn is_json(word: &str) -> bool {
    word.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with('"'))
}

fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Whether a command line names a disk's image itself, where a placeholder would follow the disk to its next image.
pub fn names_image_literally(argv: &[String], disk: &DiskSpec) -> bool {
    /// A longer name is another file's.
    fn ends(rest: &str) -> bool {
        !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/'))
    }
    if disk.file.is_empty() {
        return false;
    }
    let forms = [disk.file.clone(), disk.file.replace(',', ",,"), in_json(&disk.file)];
    let names = |word: &String, form: &String| {
        word.match_indices(form.as_str()).any(|(at, _)| ends(&word[at + form.len()..]))
    };
    argv.iter().any(|word| forms.iter().any(|form| names(word, form)))
}

/// Why no overlay can be put on a disk of a domain that this command line starts, as a clause: the next start would have the
/// image below the overlay, and write to it.
pub(crate) fn no_external(argv: &[String], disk: &DiskSpec) -> Option<String> {
    let placeholder = format!("{{disk:{}}}", disk.name);
    if names_image_literally(argv, disk) {
        return Some(format!("[start] argv names its image; write {placeholder} there"));
    }
    (!argv.iter().any(|word| word.contains(&placeholder)))
        .then(|| format!("[start] argv does not give its image; write {placeholder} where it belongs"))
}

#[cfg(test)]
mod tests {
    use xlsnap_types::model::ImageFormat;

    use super::*;

    fn disk(name: &str, file: &str) -> DiskSpec {
        DiskSpec::new(name.parse().unwrap(), file.to_owned(), ImageFormat::Qcow2)
    }

    #[test]
    fn a_placeholder_becomes_the_image() {
        let disks = [disk("vda", "/a,\"b\""), disk("vdb", "/c"), disk("cd0", "")];
        let put = |word: &str| put_in(&"web".parse().unwrap(), &[word.to_owned()], &disks);
        for (word, expected) in [
            ("{disk:vda}", "/a,\"b\""),
            (
                "if=virtio,format={format:vda},file={disk:vda},id=a",
                "if=virtio,format=qcow2,file=/a,,\"b\",id=a",
            ),
            (r#"{"filename":"{disk:vda}","driver":"file"}"#, r#"{"filename":"/a,\"b\"","driver":"file"}"#),
            ("{disk:vdb}:{disk:vdb}", "/c:/c"),
            ("{disks} {disk:vda", "{disks} {disk:vda"),
        ] {
            assert_eq!(put(word).unwrap(), [expected], "{word}");
        }
        for (word, says) in [
            ("{disk:vdz}", "no disk vdz"),
            ("{format:}", "no disk"),
            ("{disk: vda}", "no disk"),
            ("x={disk:cd0}", "empty drive"),
        ] {
            let error = put(word).unwrap_err();
            assert_eq!(error.kind, PortErrorKind::Refused);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn an_overlay_wants_a_placeholder() {
        let of =
            |word: &str, file: &str| no_external(&["qemu".to_owned(), word.to_owned()], &disk("vda", file));
        for (word, file, says) in [
            ("file=/a", "/a", Some("names its image")),
            ("file=/a,id=x", "/a", Some("names its image")),
            ("file=/a,,b,id=x", "/a,b", Some("names its image")),
            ("file=/a.old", "/a", Some("does not give")),
            ("file={disk:vdb}", "/a", Some("does not give")),
            ("file={disk:vda},id=x", "/a", None),
        ] {
            let why = of(word, file);
            assert_eq!(why.is_some(), says.is_some(), "{word}: {why:?}");
            assert!(why.unwrap_or_default().contains(says.unwrap_or_default()), "{word}");
        }
    }
}
