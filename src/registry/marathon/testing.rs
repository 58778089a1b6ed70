//! What tests of this folder share.

use serde_json::{Value, json};

use super::roster::{Naming, Roster};
use crate::catalog::{RegistryView, SourceService};

/// A roster of which nothing is known.
pub(super) fn roster() -> Roster {
    Roster::new("m".into(), Naming::new("marathon"))
}

/// Feeds a listing, and tells what is known then.
pub(super) fn view(roster: &mut Roster, apps: &Value) -> RegistryView {
    list(roster, apps);
    roster.view(&RegistryView::default())
}

/// Feeds a listing. Whether anything changed.
pub(super) fn list(roster: &mut Roster, apps: &Value) -> bool {
    let mut listing = roster.listing();
    for chunk in apps.to_string().as_bytes().chunks(100) {
        listing.apps(chunk).unwrap();
    }
    listing.end().unwrap();
    roster.replace(listing)
}

/// The service called `name`.
pub(super) fn service(roster: &mut Roster, name: &str) -> SourceService {
    let view = roster.view(&RegistryView::default());
    let names: Vec<_> = view.services.iter().map(|(name, _)| name.clone()).collect();
    let service = view.services.get(name);
    SourceService::clone(service.unwrap_or_else(|| panic!("no {name} in {names:?}")))
}

/// The service of one app.
pub(super) fn one(app: &Value) -> SourceService {
    let mut roster = roster();
    let view = view(&mut roster, &json!({ "apps": [app] }));
    assert_eq!(view.services.len(), 1, "{:?}", view.problems);
    let service = view.services.values().next().unwrap();
    SourceService::clone(service)
}

/// What is wrong beside single services.
pub(super) fn problems(view: &RegistryView) -> String {
    let all = view.problems.iter();
    let lines: Vec<_> =
        all.map(|problem| format!("{}: {}", problem.place, problem.message)).collect();
    lines.join("\n")
}
