use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::render::resource::Mode;

fn config() -> ResourceConfig {
    ResourceConfig::new(PathBuf::from("t.j2"), PathBuf::from("a.cfg"))
}

fn put(file: &Path, config: &ResourceConfig, bytes: &[u8]) {
    let wanted = Attributes::wanted(config).unwrap();
    stage(file, config, &wanted, bytes).unwrap().into_move().place().unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_replaced_file_keeps_its_mode_unless_another_is_stated() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.cfg");
    put(&file, &config(), b"1");
    assert_eq!(mode(&file), 0o644, "the default of a new file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    put(&file, &config(), b"2");
    assert_eq!((mode(&file), fs::read(&file).unwrap()), (0o600, b"2".to_vec()));
    put(&file, &ResourceConfig { mode: Some(Mode(0o640)), ..config() }, b"3");
    assert_eq!(mode(&file), 0o640);
    assert_eq!(names(dir.path()), ["a.cfg"]);
}

#[test]
fn a_staged_file_is_hidden_keeps_the_extension_and_goes_when_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.cfg");
    let staged = stage(&file, &config(), &Attributes::default(), b"1").unwrap();
    let name = staged.path().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with(".a.staged-"), "{name}");
    assert_eq!(staged.path().extension(), Some("cfg".as_ref()));
    drop(staged);
    assert!(names(dir.path()).is_empty());
    let kept = stage(&file, &config(), &Attributes::default(), b"1").unwrap().reject();
    assert_eq!(kept, dir.path().join(".a.rejected.cfg"));
    assert_eq!(names(dir.path()), [".a.rejected.cfg"]);
}

#[test]
fn a_link_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    fs::write(&file, "1").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    put(&link, &config(), b"2");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&file).unwrap(), b"2");
}

#[test]
fn a_missing_directory_is_told_with_the_remedy_or_made() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("no/such/a.cfg");
    let error = stage(&file, &config(), &Attributes::default(), b"1").unwrap_err().to_string();
    let remedy = "make the directory of `destination`, or set `create_dirs = true`";
    assert!(error.ends_with(remedy), "{error}");
    put(&file, &ResourceConfig { create_dirs: true, ..config() }, b"1");
    assert_eq!(fs::read(&file).unwrap(), b"1");
}

#[test]
fn an_owner_that_is_not_known_is_told_with_the_setting() {
    let owner = Some("no-such-user".parse().unwrap());
    let error = Attributes::wanted(&ResourceConfig { owner, ..config() }).unwrap_err();
    let error = failed("find the owner of", Path::new("/a"), error).to_string();
    assert!(error.contains("no-such-user") && error.ends_with("correct `owner`"), "{error}");
}

#[test]
fn a_file_is_compared_by_content_then_by_mode_and_owner() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.cfg");
    let wanted = Attributes { mode: Some(0o600), ..Attributes::default() };
    assert_eq!(standing(&file, b"1", &wanted), Standing::Other, "it is not there");
    put(&file, &ResourceConfig { mode: Some(Mode(0o640)), ..config() }, b"1");
    assert_eq!(standing(&file, b"2", &wanted), Standing::Other);
    assert_eq!(standing(&file, b"1", &wanted), Standing::OtherAttributes);
    wanted.repair(&file).unwrap();
    assert_eq!(standing(&file, b"1", &wanted), Standing::Current);
}

#[test]
fn what_killed_processes_left_is_swept_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mine = std::process::id();
    // Process 1 always runs, and no process has a number this large.
    let (left, kept) = (format!(".a.staged-{mine}-0.cfg"), ".a.before-4999999-7.cfg");
    let all =
        [&*left, ".a.staged-4999999-0.cfg", kept, ".a.staged-1-0.cfg", ".a.rejected.cfg", "a"];
    for name in all {
        fs::write(dir.path().join(name), "").unwrap();
    }
    sweep(dir.path(), &[&dir.path().join(kept)]);
    assert_eq!(names(dir.path()), [kept, ".a.rejected.cfg", ".a.staged-1-0.cfg", "a"]);
}

#[test]
fn checksums_are_those_of_sha_256() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(sha256(b""), empty);
}
