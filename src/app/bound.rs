//! Sockets that are bound before the process gives up its rights.

use super::sockets::Sockets;
use super::{App, StartError, admin};
use crate::config::Config;
use crate::net::adopt::Adopted;

impl App {
    /// Binds what `config` asks for and `adopted` does not hold. What comes of it is for
    /// [`App::start`], which needs no rights for them then. No runtime is needed.
    ///
    /// # Errors
    /// One could not be had.
    pub fn bind(config: &Config, mut adopted: Adopted) -> Result<Adopted, StartError> {
        let sockets = Sockets::default();
        let bound = sockets.prepare(config, &mut adopted)?;
        let admin = admin::bind_tcp(config, &mut adopted)?;
        for (label, socket) in bound.labelled() {
            adopted.add(label, socket);
        }
        if let Some(listener) = admin {
            adopted.add(admin::label(config), listener.into());
        }
        Ok(adopted)
    }
}
