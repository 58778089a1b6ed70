//! The TCP doors of HAProxy's face.

use std::io;
use std::net::TcpListener;

use tokio::sync::watch;

use super::{Carries, Sockets};
use crate::api::haproxy::Kind;
use crate::app::haproxy::{HaproxyFace, StatsPath};
use crate::config::Config;

/// The settings that ask for them.
pub(super) const LISTEN: &str = "[haproxy] listen";
pub(super) const LINES: &str = "[haproxy] socket_listen";

impl Sockets {
    /// From now on HAProxy's face is `face`, by what `config` says. Those who came before it was there
    /// have waited.
    pub(in crate::app) fn haproxy(
        &mut self,
        mut face: HaproxyFace,
        config: &Config,
        path: Option<StatsPath>,
    ) {
        face.follow(config);
        face.serve_path(path);
        for ((_, carries, address), open) in &self.open {
            let (Some(kind), Some(held)) = (kind(*carries), &open.held) else { continue };
            let served =
                held.try_clone().and_then(|held| face.serve(kind, held, open.close.subscribe()));
            if let Err(error) = served {
                tracing::error!(%address, %error, "cannot serve HAProxy's face");
            }
        }
        self.haproxy = Some(face);
    }

    /// Serves `listener` as soon as there is a face to.
    pub(super) fn serve_haproxy(
        &self,
        carries: Carries,
        listener: TcpListener,
        closed: watch::Receiver<bool>,
    ) -> io::Result<()> {
        match (&self.haproxy, kind(carries)) {
            (Some(face), Some(kind)) => face.serve(kind, listener, closed),
            _ => Ok(()),
        }
    }
}

fn kind(carries: Carries) -> Option<Kind> {
    match carries {
        Carries::Haproxy => Some(Kind::Http),
        Carries::HaproxyLines => Some(Kind::Lines),
        _ => None,
    }
}
