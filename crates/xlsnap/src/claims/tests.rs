use super::*;

fn claim(domain: u128, role: Role) -> Claim {
    Claim { domain: Uuid::from_u128(domain), name: format!("d{domain}"), role }
}

fn disk(name: &str) -> DiskName {
    DiskName::new(name).unwrap()
}

#[test]
fn every_disk_but_the_one_on_it_is_told_of_a_base() {
    let file = FileId::Inode { device: 1, inode: 2 };
    let below = Role::Below { disk: disk("vda"), overlay: "/top".to_owned(), image: "/top".to_owned() };
    let mut claims = Claims::default();
    claims.add(file.clone(), claim(1, below));
    let told =
        |domain: u128, of: &str| claims.base_of_others(Uuid::from_u128(domain), &disk(of), &file).is_some();
    assert!(!told(1, "vda"), "its own chain");
    assert!(told(1, "vdb"), "another disk of the domain");
    assert!(told(2, "vda"), "another domain");
    let other = FileId::Inode { device: 2, inode: 2 };
    assert!(claims.base_of_others(Uuid::from_u128(2), &disk("vda"), &other).is_none());
}

#[test]
fn what_a_domains_own_records_say_is_for_planning() {
    let file = FileId::Device(3);
    let kept = Role::Kept { snapshot: SnapshotName::new("s1").unwrap(), overlay: "/o".to_owned() };
    let mut claims = Claims::default();
    claims.add(file.clone(), claim(1, kept));
    assert!(claims.base_of_others(Uuid::from_u128(1), &disk("vda"), &file).is_none());
    let told = claims.base_of_others(Uuid::from_u128(2), &disk("vda"), &file).unwrap();
    assert_eq!(told.to_string(), "the base of /o, which snapshot s1 of domain d1 was taken with");
    assert!(told.advice().contains("xlsnap delete d1 s1"));
}

#[test]
fn of_two_who_have_a_file_the_one_who_writes_is_told() {
    let file = FileId::Device(3);
    let mut claims = Claims::default();
    for (domain, read_only) in [(1, true), (2, false)] {
        claims.add(file.clone(), claim(domain, Role::Top { disk: disk("vda"), read_only }));
    }
    let told = |of: u128| {
        claims.top_of_others(Uuid::from_u128(of), &file).map(|(claim, ro)| (claim.name.as_str(), ro))
    };
    assert_eq!(told(3), Some(("d2", false)));
    assert_eq!(told(2), Some(("d1", true)));
    assert_eq!(told(1), Some(("d2", false)));
}

#[test]
fn a_file_has_one_identity_under_all_its_names() {
    let scratch = tempfile::tempdir().unwrap();
    let [file, link, hard, gone] =
        ["file", "link", "hard", "gone"].map(|name| scratch.path().join(name).to_str().unwrap().to_owned());
    std::fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::fs::hard_link(&file, &hard).unwrap();
    assert_eq!(FileId::of(&file), FileId::of(&link));
    assert_eq!(FileId::of(&file), FileId::of(&hard));
    assert_eq!(FileId::of(&gone), FileId::of(&format!("{}/./gone", scratch.path().display())));
    assert_ne!(FileId::of(&gone), FileId::of(&file));
}
