//! Which name of which tree answers a client: its own view first, then the zone.
//!
//! A view is a tree of names beside the zones. In it a label that no client can ask for stands in
//! the place of the root: the bytes of an address, of an identity, or of a configured view.

use std::net::IpAddr;

use super::node::{Node, Scope};
use super::settings::ZoneSettings;
use super::wire::{self, NAME_MAX, Name};
use super::zone::{Found, Zone, ZoneTable};

/// Room for a name of a question with the label of a view or a suffix behind it.
const KEY_MAX: usize = 2 * NAME_MAX + 2;
/// Most bytes of the label of a view, its length and the root included.
pub(super) const VIEW_MAX: usize = 66;
/// The view that every client of a dialect with scopes has behind its own, as a name.
pub(super) const EVERYBODY: &[u8] = b"\x01\xfe\0";

/// What one client sees besides the zones.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// The label of its view, as a name.
    apex: [u8; VIEW_MAX],
    length: usize,
    scope: Option<&'a Scope>,
    /// Whether there is such a view.
    known: bool,
    /// Who asks, where that decides which zones are seen.
    client: Option<IpAddr>,
}

impl View<'_> {
    fn apex(&self) -> &[u8] {
        &self.apex[..self.length]
    }

    /// Whether the client may ask `zone`.
    fn may_ask(&self, zone: &ZoneSettings) -> bool {
        self.client.is_none_or(|client| zone.allows(client))
    }
}

/// The label of the view of the client `ip`, as a name of one label.
#[must_use]
pub(super) fn client_view(ip: IpAddr) -> Name {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Name::label(&ip.octets()),
        IpAddr::V6(ip) => Name::label(&ip.octets()),
    }
}

/// The label of the view that every client has behind its own.
#[must_use]
pub(super) fn everybody() -> Name {
    Name::label(&EVERYBODY[1..2])
}

/// A name on the stack.
struct Key {
    bytes: [u8; KEY_MAX],
    length: usize,
}

impl Key {
    /// `name`, its root replaced by `suffix`.
    fn join(name: &[u8], suffix: &[u8]) -> Self {
        let mut key = Self { bytes: [0; KEY_MAX], length: 0 };
        let head = name.len().saturating_sub(1);
        for part in [&name[..head], suffix] {
            let end = (key.length + part.len()).min(KEY_MAX);
            key.bytes[key.length..end].copy_from_slice(&part[..end - key.length]);
            key.length = end;
        }
        key
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl ZoneTable {
    /// What `client` sees besides the zones. Allocates nothing.
    pub(super) fn view(&self, client: IpAddr) -> View<'_> {
        let none = View {
            apex: [0; VIEW_MAX],
            length: 0,
            scope: None,
            known: false,
            client: Some(client),
        };
        if self.views.is_empty() {
            return none;
        }
        if let Some(index) = self.settings().views.of(client)
            && let Some(name) = self.settings().view_names.get(usize::from(index))
        {
            return View { client: Some(client), ..self.view_named(name.wire()) };
        }
        let mut label = [0; VIEW_MAX];
        let length = match client.to_canonical() {
            IpAddr::V4(ip) => put_label(&mut label, &ip.octets()),
            IpAddr::V6(ip) => put_label(&mut label, &ip.octets()),
        };
        View { client: Some(client), ..self.view_named(&label[..length]) }
    }

    /// The names where `client` searches, and the environments that it sees.
    pub(super) fn searched(&self, client: IpAddr) -> Vec<Name> {
        let view = self.view(client);
        let scope = view.scope.into_iter();
        scope.flat_map(|scope| scope.search.iter().chain(&scope.sees)).cloned().collect()
    }

    /// The view whose apex is `name`.
    fn view_named(&self, name: &[u8]) -> View<'_> {
        let mut view =
            View { apex: [0; VIEW_MAX], length: 0, scope: None, known: false, client: None };
        if let (Some(room), Some(node)) = (view.apex.get_mut(..name.len()), self.views.get(name)) {
            room.copy_from_slice(name);
            view.length = name.len();
            view.scope = node.scope();
            view.known = true;
        }
        view
    }

    /// The name `key` in one view; none when only names below it stand there.
    fn in_view(&self, apex: &[u8], key: &[u8]) -> Option<&Node> {
        let node = self.views.get(Key::join(key, apex).get())?;
        (!node.sets().is_empty()).then_some(&**node)
    }

    /// What stands under `key`, a name in `zone`, for a client with `view`. Allocates nothing.
    pub(super) fn find<'a>(
        &'a self,
        settings: &ZoneSettings,
        zone: &'a Zone,
        view: &View<'a>,
        key: &[u8],
    ) -> Found<'a> {
        if self.views.is_empty() {
            return zone.find(settings, key);
        }
        if view.known
            && let Some(node) = self.in_view(view.apex(), key)
        {
            return Found::Node(node);
        }
        if settings.dialect.scopes {
            if let Some((name, identity)) = identified(settings, key) {
                return self.find_identified(settings, zone, view, (name, identity));
            }
            if let Some(found) = Self::find_inside(settings, zone, view, key) {
                return found;
            }
            if let Some(node) = self.in_view(EVERYBODY, key) {
                return Found::Node(node);
            }
        }
        match zone.find(settings, key) {
            // Names below it stand in the view: it is there.
            Found::Missing if view.known => {
                let below = self.views.get(Key::join(key, view.apex()).get());
                if below.is_some() { Found::Bare } else { Found::Missing }
            }
            found => found,
        }
    }

    /// Looks for a name as the client sees it that bears `identity`: `alias.IDENTITY.zone`.
    fn find_identified<'a>(
        &'a self,
        settings: &ZoneSettings,
        zone: &'a Zone,
        asking: &View<'a>,
        (name, identity): (&[u8], &[u8]),
    ) -> Found<'a> {
        let mut label = [0; VIEW_MAX];
        let length = put_label(&mut label, identity);
        let view = View { client: asking.client, ..self.view_named(&label[..length]) };
        if name.len() <= 1 {
            return if view.known { Found::Bare } else { Found::Missing };
        }
        let asked = Key::join(name, &[0]);
        if let Some(node) = self.scoped(&view, asked.get()) {
            return Found::Node(node);
        }
        let whole = Key::join(name, settings.apex.wire());
        if let Some(node) = self.in_view(view.apex(), whole.get()).filter(|_| view.known) {
            return Found::Node(node);
        }
        Self::find_inside(settings, zone, &view, whole.get())
            .unwrap_or_else(|| zone.find(settings, whole.get()))
    }

    /// What a client of an environment finds: names without the environment are those of its own,
    /// and in a zone that keeps environments apart it finds no others.
    fn find_inside<'a>(
        settings: &ZoneSettings,
        zone: &'a Zone,
        view: &View<'a>,
        key: &[u8],
    ) -> Option<Found<'a>> {
        let scope = view.scope?;
        let apex = settings.apex.wire();
        let head = key.get(..key.len().checked_sub(apex.len())?)?;
        if head.is_empty() {
            return None;
        }
        let in_apex = |name: &&Name| wire::ends_with_labels(name.wire(), apex);
        for environment in scope.sees.iter().filter(in_apex) {
            if wire::ends_with_labels(key, environment.wire()) {
                return None;
            }
        }
        for environment in scope.sees.iter().filter(in_apex).take(1) {
            let mut with = [0; KEY_MAX];
            let whole = head.len() + environment.wire().len();
            if whole > NAME_MAX {
                continue;
            }
            with[..head.len()].copy_from_slice(head);
            with[head.len()..whole].copy_from_slice(environment.wire());
            if let found @ (Found::Node(_) | Found::Address(_)) =
                zone.find(settings, &with[..whole])
            {
                return Some(found);
            }
        }
        let apart = settings.isolate && scope.sees.iter().any(|name| in_apex(&name));
        // The zone's own names are everybody's.
        (apart && !settings.is_own(key)).then_some(Found::Missing)
    }

    /// A name outside all zones: in the client's view, or below one of the names where it searches.
    /// With the SOA that goes with it.
    pub(super) fn aside<'a>(&'a self, view: &View<'a>, key: &[u8]) -> Option<(&'a Node, &'a [u8])> {
        if self.views.is_empty() || self.zone_of(key).is_some() {
            return None;
        }
        let node =
            self.scoped(view, key).or_else(|| self.in_view(EVERYBODY, key)).or_else(|| {
                let everybody = View { client: view.client, ..self.view_named(EVERYBODY) };
                self.scoped(&everybody, key)
            })?;
        Some((node, &self.reverse_soa))
    }

    /// `key` in the view itself, or below one of the names where it searches.
    fn scoped<'a>(&'a self, view: &View<'a>, key: &[u8]) -> Option<&'a Node> {
        if !view.known {
            return None;
        }
        if let Some(node) = self.in_view(view.apex(), key) {
            return Some(node);
        }
        let search = view.scope.map(|scope| &*scope.search).unwrap_or_default();
        search.iter().find_map(|suffix| {
            let whole = Key::join(key, suffix.wire());
            if whole.length > NAME_MAX {
                return None;
            }
            self.in_view(view.apex(), whole.get()).or_else(|| self.plain(view, whole.get()))
        })
    }

    /// A name of everybody's view or of a zone that has records.
    fn plain(&self, view: &View<'_>, key: &[u8]) -> Option<&Node> {
        if let Some(node) = self.in_view(EVERYBODY, key) {
            return Some(node);
        }
        let (settings, zone) = self.zone_of(key).filter(|(zone, _)| view.may_ask(zone))?;
        match zone.find(settings, key) {
            Found::Node(node) if !node.sets().is_empty() => Some(node),
            _ => None,
        }
    }

    /// The records of the name that an alias leads to, as the client with `view` sees it.
    pub(super) fn node<'a>(&'a self, view: &View<'a>, key: &[u8]) -> Option<&'a Node> {
        let Some((settings, zone)) = self.zone_of(key) else {
            return self.aside(view, key).map(|(node, _)| node);
        };
        if !view.may_ask(settings) {
            return None;
        }
        match self.find(settings, zone, view, key) {
            Found::Node(node) | Found::Apex(Some(node)) => Some(node),
            _ => None,
        }
    }
}

/// The name and the identity of `name.IDENTITY.zone`: eight and three hexadecimal digits.
fn identified<'k>(settings: &ZoneSettings, key: &'k [u8]) -> Option<(&'k [u8], &'k [u8])> {
    const LABEL: usize = 13;
    let head = key.len().checked_sub(settings.apex.wire().len())?;
    let at = head.checked_sub(LABEL)?;
    let label = key.get(at..head)?;
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_hexdigit);
    let fits = label[0] == 12 && label[9] == b'-' && digits(&label[1..9]) && digits(&label[10..]);
    // What precedes it, with one byte more that stands for the root.
    let whole = wire::ends_with_labels(key, &key[at..]);
    (fits && whole).then(|| (&key[..=at], &label[1..]))
}

/// Writes `label` as a name of one label; returns its length.
fn put_label(out: &mut [u8; VIEW_MAX], label: &[u8]) -> usize {
    let length = label.len().min(VIEW_MAX - 2);
    out[0] = length as u8;
    out[1..=length].copy_from_slice(&label[..length]);
    out[length + 1] = 0;
    length + 2
}
