//! From the user's `KEY=VALUE` file to a request.

use xlsnap_orchestrator::{CreateRequest, DiskChoice, MemoryPlace, MemoryRequest};
use xlsnap_types::config::{DiskKind, MemoryChoice, UserConfig};
use xlsnap_types::model::ImageFormat;

/// The snapshot that a user's configuration file asks for.
pub fn create_request(config: UserConfig) -> CreateRequest {
    let choice = |kind, file: Option<String>, format: Option<ImageFormat>| match kind {
        DiskKind::Internal => DiskChoice::Internal,
        DiskKind::External => DiskChoice::External { file, format: format.unwrap_or(ImageFormat::Qcow2) },
    };
    let mut request = CreateRequest {
        name: config.name,
        description: config.description.unwrap_or_default(),
        default_choice: choice(config.kind, None, None),
        memory: match config.memory {
            MemoryChoice::No => None,
            MemoryChoice::Default => Some(MemoryRequest::default()),
            MemoryChoice::File(file) => {
                Some(MemoryRequest { place: MemoryPlace::File(file), ..MemoryRequest::default() })
            }
        },
        ..CreateRequest::default()
    };
    for disk in config.disks {
        request.selection.only.insert(disk.disk.clone());
        request.disks.insert(disk.disk, choice(disk.kind, disk.target, disk.format));
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_a_request() {
        let text = br#"
name="before"
type="external"
disk=['type=internal,vdev=hda', 'format=qcow2,vdev=hdb,target=/d/b.qcow2', 'vdev=hdc']
"#;
        let request = create_request(UserConfig::parse(text).unwrap());
        assert_eq!(request.name.unwrap().as_str(), "before");
        let disk = |name: &str| request.disks[&name.parse().unwrap()].clone();
        let external = |file: Option<&str>| DiskChoice::External {
            file: file.map(str::to_owned),
            format: ImageFormat::Qcow2,
        };
        assert_eq!(disk("hda"), DiskChoice::Internal);
        assert_eq!(disk("hdb"), external(Some("/d/b.qcow2")));
        assert_eq!(disk("hdc"), external(None));
        assert_eq!(request.selection.only.len(), 3);
    }

    #[test]
    fn memory_goes_to_its_place() {
        let place =
            |text: &[u8]| create_request(UserConfig::parse(text).unwrap()).memory.map(|memory| memory.place);
        assert_eq!(place(b"memory=\"yes\""), Some(MemoryPlace::Default));
        assert_eq!(place(b"memory=\"/srv/a.save\""), Some(MemoryPlace::File("/srv/a.save".to_owned())));
        assert_eq!(place(b"memory=\"no\""), None);
    }

    #[test]
    fn the_documented_file_reads() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");
        let document = std::fs::read_to_string(path).unwrap();
        let example = document.split("```cfg\n").nth(1).unwrap().split("```").next().unwrap();
        let request = create_request(UserConfig::parse(example.as_bytes()).unwrap());
        assert_eq!(request.disks.len(), 3);
    }
}
