use std::os::unix::fs::MetadataExt as _;

use super::*;

fn step(dir: &Path, content: &str, write: WriteMode) -> Move {
    let staged = dir.join(".staged");
    fs::write(&staged, content).unwrap();
    Move {
        destination: dir.join("a.cfg"),
        staged,
        sha256: sha256(content.as_bytes()),
        write,
        backup: false,
        kept: None,
        new: false,
    }
}

fn says(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}

#[test]
fn in_place_keeps_the_inode_and_leaves_nothing_of_a_longer_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("a.cfg"), "a longer old content").unwrap();
    let inode = || fs::metadata(dir.join("a.cfg")).unwrap().ino();
    let before = inode();
    assert_eq!(step(dir, "short", WriteMode::InPlace).place().unwrap(), Way::InPlace);
    assert_eq!((says(dir, "a.cfg"), inode()), ("short".into(), before));
    assert!(!dir.join(".staged").exists());
    assert_eq!(step(dir, "more than before", WriteMode::Auto).place().unwrap(), Way::Renamed);
    assert_eq!(says(dir, "a.cfg"), "more than before");
    assert_ne!(inode(), before);
}

#[test]
fn a_file_that_is_not_there_yet_comes_by_rename_whatever_is_stated() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(step(dir.path(), "x", WriteMode::InPlace).place().unwrap(), Way::Renamed);
    assert_eq!(says(dir.path(), "a.cfg"), "x");
}

#[test]
fn the_file_before_comes_back_however_it_was_replaced() {
    for write in [WriteMode::Auto, WriteMode::Rename, WriteMode::InPlace] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::write(dir.join("a.cfg"), "old").unwrap();
        let mut new = step(dir, "new", write);
        new.keep().unwrap();
        new.place().unwrap();
        assert_eq!(says(dir, "a.cfg"), "new", "{write:?}");
        assert!(new.is_done() && !new.can_be_done());
        new.undo().unwrap();
        new.undo().unwrap();
        assert_eq!(says(dir, "a.cfg"), "old", "{write:?}");
        new.drop_it();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1, "{write:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut first = step(dir.path(), "new", WriteMode::Auto);
    first.keep().unwrap();
    first.place().unwrap();
    first.undo().unwrap();
    assert!(!dir.path().join("a.cfg").exists(), "there was none before");
}

#[test]
fn a_backup_is_the_file_before_also_when_that_is_overwritten() {
    for write in [WriteMode::Rename, WriteMode::InPlace] {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for (content, backup) in [("1", ""), ("2", "1"), ("3", "2")] {
            let step = Move { backup: true, ..step(dir, content, write) };
            step.place().unwrap();
            assert_eq!((&*says(dir, "a.cfg"), &*says(dir, "a.cfg.bak")), (content, backup));
        }
        assert_eq!(fs::read_dir(dir).unwrap().count(), 2, "{write:?}");
    }
}

#[test]
fn a_directory_in_the_way_is_told_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a.cfg/b")).unwrap();
    let error = step(dir.path(), "x", WriteMode::Auto).place().unwrap_err().to_string();
    assert!(error.starts_with("cannot replace "), "{error}");
    assert!(dir.path().join("a.cfg/b").exists());
}
