//! Addresses of virtual servers, and the names that come of them.

use std::net::{IpAddr, SocketAddr};

use super::note::Notes;
use super::tree::Statement;

/// Most addresses of a range that are written out.
const RANGE_MAX: u128 = 256;

/// The addresses of one line of a group.
pub(super) fn of_group(line: &Statement, notes: &mut Notes) -> Vec<SocketAddr> {
    if line.keyword() == "fwmark" {
        notes.differs(
            &line.place,
            "which packets bear a mark is up to the firewall: state the addresses and ports as \
             `bind` of the listener",
        );
        return Vec::new();
    }
    let Some(first) = line.words.first() else { return Vec::new() };
    let Some(all) = range(first) else {
        notes.differs(
            &line.place,
            format_args!("{first:?} is no address or range of at most {RANGE_MAX}; left out"),
        );
        return Vec::new();
    };
    let mut words = line.words.clone();
    let each = all.into_iter().filter_map(|address| {
        if let Some(first) = words.first_mut() {
            *first = address.to_string();
        }
        socket(line, &words, notes)
    });
    each.collect()
}

/// `a`, `a-b` with `b` the last part (decimal, or hexadecimal of IPv6) or an address, or `a/bits`.
fn range(text: &str) -> Option<Vec<IpAddr>> {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let (first, last) = if let Some((first, last)) = text.split_once('-') {
        let first: IpAddr = first.parse().ok()?;
        let last = match (last.parse::<IpAddr>(), first) {
            (Ok(last), _) if last.is_ipv4() == first.is_ipv4() => number(last),
            (Ok(_), _) => return None,
            (Err(_), IpAddr::V4(_)) => number(first) & !0xff | u128::from(last.parse::<u8>().ok()?),
            (Err(_), IpAddr::V6(_)) => {
                number(first) & !0xffff | u128::from(u16::from_str_radix(last, 16).ok()?)
            }
        };
        (first, last)
    } else if text.contains('/') {
        let net: ipnet::IpNet = text.parse().ok()?;
        (net.network(), number(net.broadcast()))
    } else {
        let first: IpAddr = text.parse().ok()?;
        (first, number(first))
    };
    let (from, v4) = (number(first), first.is_ipv4());
    if last < from || last - from >= RANGE_MAX {
        return None;
    }
    let address = |number: u128| {
        if v4 {
            IpAddr::from((number as u32).to_be_bytes())
        } else {
            IpAddr::from(number.to_be_bytes())
        }
    };
    Some((from..=last).map(address).collect())
}

/// `IP PORT` in `words`.
pub(super) fn socket(
    statement: &Statement,
    words: &[String],
    notes: &mut Notes,
) -> Option<SocketAddr> {
    let said = words.join(" ");
    let address: Option<IpAddr> = words.first().and_then(|word| word.parse().ok());
    let Some(address) = address else {
        notes.differs(&statement.place, format_args!("{said:?} is no address; it is left out"));
        return None;
    };
    match words.get(1).map_or(Some(0), |port| port.parse::<u16>().ok()) {
        Some(0) => {
            notes.differs(
                &statement.place,
                format_args!(
                    "{address} means every port; write a listener for each port that is used"
                ),
            );
            None
        }
        Some(port) => Some(SocketAddr::new(address, port)),
        None => {
            notes.differs(&statement.place, format_args!("{said:?} has no port; it is left out"));
            None
        }
    }
}

/// A name for listener and service: letters, digits and dashes.
pub(super) fn name(title: &str, udp: bool) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let mut name: String = "vs-".chars().chain(title.chars().map(good)).take(200).collect();
    if udp {
        name.push_str("-udp");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_virtual_server_groups() {
        for (text, want) in [
            ("10.0.0.1", Some((1, "10.0.0.1", "10.0.0.1"))),
            ("10.0.0.1-3", Some((3, "10.0.0.1", "10.0.0.3"))),
            ("10.0.0.254-10.0.1.2", Some((5, "10.0.0.254", "10.0.1.2"))),
            ("10.0.0.8/29", Some((8, "10.0.0.8", "10.0.0.15"))),
            ("2001:db8::fe-101", Some((4, "2001:db8::fe", "2001:db8::101"))),
            ("10.0.0.3-1", None),
            ("10.0.0.0/8", None),
            ("10.0.0.1-2001:db8::1", None),
            ("10.0.0.1-x", None),
            ("x", None),
        ] {
            let found = range(text);
            let found =
                found.map(|all| (all.len(), all[0].to_string(), all[all.len() - 1].to_string()));
            let want = want.map(|(count, a, b)| (count, a.to_owned(), b.to_owned()));
            assert_eq!(found, want, "{text}");
        }
    }
}
