use std::path::Path;

use super::super::testing::roster;
use super::*;

/// What the integration test `marathon_names` feeds to the dialect `mesos` is what a roster tells.
#[test]
fn the_services_that_names_are_tested_with_are_those_that_a_listing_makes() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/marathon");
    let mut naming = Naming::new("marathon");
    naming.advertise.insert("marathon-lb".to_owned(), vec![[10, 0, 0, 5].into()]);
    let mut told = Roster::new("m".into(), naming);
    let mut listing = told.listing();
    listing.apps(&std::fs::read(golden.join("apps.json")).unwrap()).unwrap();
    listing.end().unwrap();
    told.replace(listing);
    told.leader(Some("http://10.0.0.9:8080"));
    let view = told.view(&RegistryView::default());
    assert!(view.problems.is_empty(), "{:?}", view.problems);
    let mut services: Vec<SourceService> =
        view.services.values().map(|service| SourceService::clone(service)).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let is = serde_json::to_string_pretty(&services).unwrap() + "\n";
    let file = golden.join("services.json");
    // Written anew with MARATHON_GOLDEN=write, then looked at.
    if std::env::var_os("MARATHON_GOLDEN").is_some() {
        std::fs::write(&file, &is).unwrap();
    }
    assert_eq!(is, std::fs::read_to_string(&file).unwrap(), "{}", file.display());
}

#[test]
fn an_advertised_name_leads_where_the_configuration_says_and_hides_an_app_of_that_name() {
    let mut naming = Naming::new("marathon");
    naming.advertise.insert("marathon-lb".to_owned(), vec![[10, 0, 0, 5].into()]);
    let mut told = Roster::new("m".into(), naming);
    let of = |told: &mut Roster| super::super::testing::service(told, "marathon-lb");
    assert_eq!(of(&mut told).instances[0].address.to_string(), "10.0.0.5");
    super::super::testing::list(
        &mut told,
        &serde_json::json!({"apps": [{"id": "/marathon-lb", "tasks": [{"id": "t", "host": "10.0.0.1"}]}]}),
    );
    let service = of(&mut told);
    assert_eq!(service.instances.len(), 1);
    assert_eq!(service.instances[0].address.to_string(), "10.0.0.5");
    assert!(service.problems[0].contains("app /marathon-lb is told by no service: `advertise`"));
}

#[test]
fn who_leads_is_told_until_nobody_does() {
    let mut told = roster();
    assert!(told.leader(Some("10.0.0.9:8080")));
    assert!(!told.leader(Some("http://10.0.0.9:8080/")));
    assert_eq!(told.view(&RegistryView::default()).services.len(), 2);
    assert!(told.leader(Some("10.0.0.8:8080")));
    assert!(told.leader(None));
    assert_eq!(told.view(&RegistryView::default()).services.len(), 0);
}
