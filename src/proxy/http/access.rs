//! Which clients a route lets in: the narrowest network that holds the client's address decides.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::catalog::networks::Networks;
use crate::proxy::http::refusal::Refusal;

/// What those get that are not let in.
pub const FORBIDDEN: Refusal = Refusal::new(403, "denied", "this client is not let in here");

/// Networks that are let in, and networks that are not.
#[derive(Debug, Default)]
pub struct Access {
    /// True: let in.
    networks: Networks<bool>,
    /// Somebody is let in by name: others are not.
    closed: bool,
}

impl Access {
    /// Compiles `allow` and `deny`; what can't be goes to `tell` with its key.
    pub fn compile(
        allow: &[IpNet],
        deny: &[IpNet],
        tell: &mut dyn FnMut(&'static str, String),
    ) -> Self {
        let mut networks = Networks::default();
        for network in allow {
            networks.insert(*network, true);
        }
        for network in deny {
            if networks.insert(*network, false) == Some(true) {
                tell("deny", format!("{network} is in `allow` too; take it out of one of them"));
            }
        }
        Self { networks, closed: !allow.is_empty() }
    }

    /// Whether a client with this address is let in. Allocates nothing.
    #[must_use]
    pub fn admits(&self, client: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.of(client).unwrap_or(!self.closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|network| network.parse().unwrap()).collect()
    }

    #[test]
    fn the_narrowest_network_decides_and_a_list_of_guests_shuts_out_all_others() {
        let ten = &["10.0.0.0/8"][..];
        for (case, allow, deny, client, want) in [
            ("no lists", &[][..], &[][..], "192.0.2.1", true),
            ("on the list", ten, &[][..], "10.1.1.1", true),
            ("on the list, mapped", ten, &[][..], "::ffff:10.1.1.1", true),
            ("not on the list", ten, &[][..], "192.0.2.1", false),
            ("not on the list of the other family", ten, &[][..], "2001:db8::1", false),
            ("denied", &[][..], ten, "10.1.1.1", false),
            ("not denied", &[][..], ten, "192.0.2.1", true),
            ("a hole in what is let in", ten, &["10.1.0.0/16"][..], "10.1.1.1", false),
            ("beside the hole", ten, &["10.1.0.0/16"][..], "10.2.1.1", true),
            ("an exception from the denied", &["10.1.0.0/16"][..], ten, "10.1.1.1", true),
            ("neither", &["10.1.0.0/16"][..], ten, "192.0.2.1", false),
        ] {
            let access = Access::compile(&networks(allow), &networks(deny), &mut |_, _| panic!());
            assert_eq!(access.admits(client.parse().unwrap()), want, "{case}");
        }
        let mut told = Vec::new();
        Access::compile(&networks(ten), &networks(ten), &mut |key, what| told.push((key, what)));
        assert!(told.len() == 1 && told[0].0 == "deny", "{told:?}");
    }
}
