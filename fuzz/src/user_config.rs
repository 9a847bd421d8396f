use std::collections::BTreeSet;

use xlsnap_types::config::{DiskKind, MemoryChoice, UserConfig};

/// The user's configuration file: an error points into the file, and what is taken keeps the rules.
pub fn user_config(data: &[u8]) {
    match UserConfig::parse(data) {
        Err(error) => {
            let lines = data.iter().filter(|&&byte| byte == b'\n').count() + 1;
            assert!((1..=lines).contains(&error.line) && error.column <= data.len() + 1, "{error}");
            assert!(error.to_string().len() < 4096, "a message is short");
        }
        Ok(config) => {
            let disks: BTreeSet<_> = config.disks.iter().map(|disk| &disk.disk).collect();
            assert_eq!(disks.len(), config.disks.len(), "each disk once");
            for disk in &config.disks {
                let says_file = disk.target.is_some() || disk.format.is_some();
                assert!(disk.kind == DiskKind::External || !says_file);
                assert!(disk.target.as_ref().is_none_or(|file| file.starts_with('/')));
            }
            if let MemoryChoice::File(file) = config.memory {
                assert!(file.starts_with('/'));
            }
        }
    }
}
