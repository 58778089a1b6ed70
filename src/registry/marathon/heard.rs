//! What the link makes of its event stream.

use std::sync::Arc;

use bytes::Bytes;

use super::event::Event;
use super::link::Link;
use super::sse::Item;
use super::words::{Change, Input};
use crate::net::http::HttpError;

impl Link {
    /// Bytes of the stream came, or its end.
    pub(super) fn streamed(&mut self, read: Result<Option<Bytes>, HttpError>) {
        let Some(following) = &mut self.following else { return };
        let why = match read {
            Ok(Some(bytes)) => {
                let mut items = Vec::new();
                following.sse.push(&bytes, |item| items.push(item));
                self.step(Input::Alive);
                for item in items {
                    self.item(item);
                }
                return;
            }
            Ok(None) => format!("{}: its event stream ended", following.origin),
            Err(error) => format!("{}: its event stream broke: {error}", following.origin),
        };
        self.step(Input::Lost(why.into()));
    }

    fn item(&mut self, item: Item) {
        let (kind, data) = match item {
            Item::Heartbeat => return self.step(Input::Proven),
            Item::TooLarge { kind } => {
                self.meters.event(&kind);
                self.meters.too_large.inc();
                self.step(Input::Proven);
                return self.step(Input::Changed(Change::Everything));
            }
            Item::Event { kind, data } => (kind, data),
        };
        self.meters.event(&kind);
        self.step(Input::Proven);
        match Event::read(&kind, &data) {
            Ok(event) => self.event(&event),
            Err(error) => {
                self.meters.unreadable.inc();
                tracing::debug!(registry = &**self.outlet.name(), kind, %error, "event refused");
                self.step(Input::Changed(Change::Everything));
            }
        }
    }

    fn event(&mut self, event: &Event) {
        self.late.heard(event);
        self.changed |= self.roster.event(event);
        match event {
            Event::Attached | Event::Detached => {}
            Event::Noise { known } => self.meters.ignored.inc_by(u64::from(!known)),
            Event::AllDirty | Event::LeaderReady => {
                self.step(Input::Changed(Change::Everything));
            }
            Event::Deployed(named) => {
                for app in self.roster.deploying().iter().chain(named) {
                    self.mark(app);
                }
            }
            Event::Task { app, .. }
            | Event::Health { app, .. }
            | Event::Dirty(app)
            | Event::Gone(app) => self.mark(app),
        }
    }

    /// Something of `id` changed.
    fn mark(&mut self, id: &Arc<str>) {
        self.step(Input::Changed(Change::App(Arc::clone(id))));
    }
}
