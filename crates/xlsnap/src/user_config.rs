//! From the user's `KEY=VALUE` file to a request.

use xlsnap_orchestrator::{CreateRequest, DiskChoice, Error};
use xlsnap_types::config::{DiskKind, MemoryChoice, UserConfig};
use xlsnap_types::model::ImageFormat;

use crate::failures::refused;

/// The snapshot that a user's configuration file asks for.
///
/// # Errors
/// [`crate::Kind::Refused`] when it asks for the guest's memory: a snapshot is of disks.
pub fn create_request(config: UserConfig) -> Result<CreateRequest, Error> {
    if config.memory != MemoryChoice::No {
        return Err(refused(
            "the configuration file asks for the guest's memory, and a snapshot is of disks",
        )
        .with_advice("say memory=\"no\"; shut the guest down first, if its disks have to be at rest"));
    }
    let choice = |kind, file: Option<String>, format: Option<ImageFormat>| match kind {
        DiskKind::Internal => DiskChoice::Internal,
        DiskKind::External => DiskChoice::External { file, format: format.unwrap_or(ImageFormat::Qcow2) },
    };
    let mut request = CreateRequest {
        name: config.name,
        description: config.description.unwrap_or_default(),
        default_choice: choice(config.kind, None, None),
        ..CreateRequest::default()
    };
    for disk in config.disks {
        request.selection.only.insert(disk.disk.clone());
        request.disks.insert(disk.disk, choice(disk.kind, disk.target, disk.format));
    }
    Ok(request)
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
        let request = create_request(UserConfig::parse(text).unwrap()).unwrap();
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
    fn memory_is_refused() {
        let config = UserConfig::parse(b"memory=\"yes\"").unwrap();
        let error = create_request(config).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Refused);
    }

    #[test]
    fn the_documented_file_reads() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");
        let document = std::fs::read_to_string(path).unwrap();
        let example = document.split("```cfg\n").nth(1).unwrap().split("```").next().unwrap();
        let request = create_request(UserConfig::parse(example.as_bytes()).unwrap()).unwrap();
        assert_eq!(request.disks.len(), 3);
    }
}
