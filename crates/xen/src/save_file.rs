//! The domain's configuration in the beginning of a file that `xl save` made.

use xlsnap_memory_file::{Header, MemoryFile};
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};

use crate::configuration::Configuration;

/// The configuration in the header of `file`.
///
/// # Errors
/// [`PortErrorKind::Corrupt`] when `xl save` did not make the file, or the configuration cannot be read.
pub(crate) fn configuration(file: &MemoryFile, header: Header) -> Result<Configuration, PortError> {
    let corrupt = |why: String| {
        let message = format!("the memory file {} {why}", file.path().display());
        PortError::new(PortErrorKind::Corrupt, Effect::None, message)
    };
    match header {
        Header::Xl { configuration } => Configuration::parse(&configuration)
            .map_err(|why| corrupt(format!("holds a configuration that cannot be read: {why}"))),
        Header::Qemu { .. } => Err(corrupt("is a stream of QEMU's, and xl cannot restore it".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_read() {
        let file = MemoryFile::new("/srv/s1.save").unwrap();
        let xl = |text: &str| configuration(&file, Header::Xl { configuration: text.to_owned() });
        let uuid = "0a773310-ff4b-4ec6-a93c-577d088a20d1";
        let read =
            xl(&format!(r#"{{"c_info": {{"type": "pv", "name": "pv1", "uuid": "{uuid}"}}}}"#)).unwrap();
        assert_eq!((read.name(), read.uuid().unwrap().to_string().as_str()), (Some("pv1"), uuid));
        for wrong in [xl("{\"c_info\": "), configuration(&file, Header::Qemu { machine: None })] {
            let error = wrong.unwrap_err();
            assert_eq!(error.kind, PortErrorKind::Corrupt);
            assert!(error.to_string().contains("/srv/s1.save"), "{error}");
        }
    }
}
