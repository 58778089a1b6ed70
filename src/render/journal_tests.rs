use super::*;

fn counter() -> IntCounter {
    IntCounter::new("failures", "Failures.").unwrap()
}

fn open(dir: &Path) -> (Journal, Vec<(Key, Intent, Noted)>) {
    Journal::open(Some(dir), counter())
}

fn intent(name: &str) -> Intent {
    Intent::new(name, Vec::new(), BTreeSet::from(["reload".into()]))
}

#[test]
fn an_intent_is_there_after_a_restart_until_it_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, found) = open(dir.path());
    assert!(found.is_empty() && journal.on_disk());
    let (a, b) = (Key::of("template", Path::new("/a")), Key::of("group", Path::new("/a")));
    assert_ne!(a, b);
    let noted = journal.note(&a, &intent("a"));
    assert!(noted.durable);
    journal.note(&b, &intent("b"));
    let (again, found) = open(dir.path());
    let names: BTreeSet<&str> = found.iter().map(|(_, intent, _)| &*intent.name).collect();
    assert_eq!(names, BTreeSet::from(["a", "b"]));
    let (_, stored, noted) = found.iter().find(|(key, ..)| *key == a).unwrap();
    assert_eq!(stored.owed, intent("a").owed);
    again.clear(&a, noted.number);
    assert_eq!(open(dir.path()).1.len(), 1);
}

#[test]
fn what_was_noted_since_is_not_taken_back_with_what_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let key = Key::of("template", Path::new("/a"));
    let first = journal.note(&key, &intent("first"));
    let second = journal.note(&key, &intent("second"));
    journal.clear(&key, first.number);
    assert_eq!(open(dir.path()).1[0].1.name, "second");
    journal.clear(&key, second.number);
    assert!(open(dir.path()).1.is_empty());
}

#[test]
fn what_cannot_be_read_costs_nobody_else_and_an_unfinished_one_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.note(&Key::of("template", Path::new("/a")), &intent("a"));
    let reloads = dir.path().join(DIRECTORY);
    fs::write(reloads.join("garbled.json"), "{\"format\":").unwrap();
    fs::write(reloads.join("later.json"), "{\"format\":2}").unwrap();
    fs::write(reloads.join("half.new"), "{").unwrap();
    let (_, found) = open(dir.path());
    assert_eq!(found.len(), 1);
    assert!(!reloads.join("half.new").exists());
    assert!(reloads.join("garbled.json").exists(), "somebody may want to look at it");
}

#[test]
fn without_a_place_on_disk_it_goes_on_and_says_so() {
    let (journal, found) = Journal::open(None, counter());
    assert!(found.is_empty() && !journal.on_disk());
    let key = Key::of("template", Path::new("/a"));
    assert!(!journal.note(&key, &intent("a")).durable);
    let dir = tempfile::tempdir().unwrap();
    let failures = counter();
    let (journal, _) = Journal::open(Some(dir.path()), failures.clone());
    fs::remove_dir_all(dir.path().join(DIRECTORY)).unwrap();
    assert!(!journal.note(&key, &intent("a")).durable);
    assert_eq!(failures.get(), 1);
}
