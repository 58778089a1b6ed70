//! What users write about HAProxy's face.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::api::metadata::Addresses;
use crate::units::{Period, Size};

/// `[haproxy]`: statistics and commands as HAProxy and marathon-lb have them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HaproxyConfig {
    /// Where the statistics and marathon-lb's pages are: one address or a list of them. Reading needs no
    /// token, as it needed none there.
    pub listen: Option<Addresses>,
    /// Path of the stats socket.
    pub socket: Option<PathBuf>,
    /// Who may open it, as `chmod` writes it.
    pub socket_mode: String,
    /// The same by TCP: one address or a list of them. Nothing can be changed there.
    pub socket_listen: Option<Addresses>,
    /// Whether the stats socket may drain, take out and weigh.
    pub operate: bool,
    /// Whether `/_mlb_signal/hup` and `/_mlb_signal/usr1` reload the configuration.
    pub signals: bool,
    /// Connections at once, of all doors together.
    pub connections: usize,
    /// How long a connection may be silent.
    pub idle: Period,
    /// Longest line of the stats socket, and longest head of a request.
    pub line_max: Size,
    /// Largest answer.
    pub output_max: Size,
}

impl Default for HaproxyConfig {
    fn default() -> Self {
        Self {
            listen: None,
            socket: None,
            socket_mode: "0600".to_owned(),
            socket_listen: None,
            operate: false,
            signals: false,
            connections: 256,
            idle: Period::from_secs(10),
            line_max: Size(16 << 10),
            output_max: Size(128 << 20),
        }
    }
}

impl HaproxyConfig {
    /// The mode of the socket.
    ///
    /// # Errors
    /// It is none, in words.
    pub fn mode(&self) -> Result<u32, String> {
        let mode = u32::from_str_radix(&self.socket_mode, 8).ok().filter(|mode| *mode <= 0o777);
        mode.ok_or_else(|| {
            let found = &self.socket_mode;
            format!("socket_mode = {found:?} is no mode; write it in octal, such as \"0660\"")
        })
    }

    /// Every address to listen on, with the key that asks for it.
    pub fn listens(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let all = [("listen", &self.listen), ("socket_listen", &self.socket_listen)];
        all.into_iter().flat_map(|(key, addresses)| {
            addresses.iter().flat_map(|addresses| &addresses.0).map(move |listen| (key, *listen))
        })
    }

    /// What can't be, by key.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if let Err(message) = self.mode() {
            return Some(("socket_mode", message));
        }
        if self.connections == 0 {
            let message = "connections = 0 would let nobody in; leave the table out instead";
            return Some(("connections", message.to_owned()));
        }
        if self.operate && self.socket.is_none() {
            let message = "operate = true concerns the stats socket, and there is none; add \
                           `socket = \"/var/run/haproxy.sock\"`";
            return Some(("operate", message.to_owned()));
        }
        None
    }
}
