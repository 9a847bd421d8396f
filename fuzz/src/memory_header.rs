use std::path::Path;

use xlsnap_memory_file::{Header, Kind, XL_MAGIC};

/// The beginning of a memory file, of QEMU's or of xl's: any bytes give what they say or that they are damaged, and never more of them are
/// read than there are.
pub fn memory_header(data: &[u8]) {
    match Header::read(data, Path::new("/s1.save")) {
        Ok(Header::Qemu { machine }) => {
            assert!(data.starts_with(b"QEVM"));
            if let Some(machine) = machine {
                assert!(!machine.is_empty() && machine.len() <= 255);
                assert!(machine.chars().all(|c| c.is_ascii_graphic()), "{machine}");
            }
        }
        Ok(Header::Xl { configuration }) => {
            assert!(data.starts_with(XL_MAGIC));
            assert!(configuration.len() <= data.len());
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Damaged, "{error}");
            let told = error.to_string();
            assert!(told.contains("/s1.save") && told.len() < 300, "{told}");
        }
    }
}
