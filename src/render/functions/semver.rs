//! Versions and what they must satisfy, as Sprig's `semverCompare` reads them.

use std::cmp::Ordering;

/// A version: three numbers, what stands behind `-` and behind `+`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) numbers: [u64; 3],
    pub(super) prerelease: String,
    pub(super) metadata: String,
}

/// How many numbers a text has told; the others stand for any.
#[derive(Debug, Clone)]
struct Partial {
    version: Version,
    told: usize,
}

fn partial(text: &str) -> Option<Partial> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
    let (text, prerelease) = text.split_once('-').unwrap_or((text, ""));
    let mut numbers = [0; 3];
    let mut told = 0;
    let mut wild = false;
    for (at, part) in text.split('.').enumerate() {
        if matches!(part, "x" | "X" | "*") {
            wild = true;
            continue;
        }
        if wild || at > 2 || part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        numbers[at] = part.parse().ok()?;
        told = at + 1;
    }
    let word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    let version = Version { numbers, prerelease: prerelease.into(), metadata: metadata.into() };
    (word(prerelease) && word(metadata)).then_some(Partial { version, told })
}

/// The version that `text` tells; minor and patch may be left out.
///
/// # Errors
/// `Invalid Semantic Version`, `Version segment starts with 0`
pub(super) fn parse(text: &str) -> Result<Version, String> {
    let found = partial(text).filter(|partial| partial.told > 0 && !text.contains(['x', '*']));
    let version = found.map(|partial| partial.version).ok_or("Invalid Semantic Version")?;
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if version
        .prerelease
        .split('.')
        .any(|part| part.len() > 1 && part.starts_with('0') && number(part))
    {
        return Err("Version segment starts with 0".into());
    }
    Ok(version)
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    /// Metadata does not count; a version in preparation comes before the finished one.
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => parts(&self.prerelease, &other.prerelease),
            }
        })
    }
}

fn parts(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let ordering = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
}

/// Whether `version` satisfies `constraint`: `>=1.2, <2 || ~3.1 || ^4 || 5.x || 6 - 7`.
///
/// # Errors
/// `improper constraint: …`
pub(super) fn satisfies(constraint: &str, version: &Version) -> Result<bool, String> {
    let improper = || format!("improper constraint: {constraint}");
    let mut any = false;
    for alternative in constraint.split("||") {
        let mut all = true;
        let mut rest = alternative.trim();
        let mut some = false;
        if let Some((low, high)) = rest.split_once(" - ") {
            let low = one(">=", low.trim(), version).ok_or_else(improper)?;
            all = low && one("<=", high.trim(), version).ok_or_else(improper)?;
            rest = "";
            some = true;
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !"=!<>~^".contains(c)).unwrap_or(rest.len());
            let (operator, behind) = rest.split_at(end);
            let behind = behind.trim_start();
            let end = behind.find([',', ' ']).unwrap_or(behind.len());
            all &= one(operator, &behind[..end], version).ok_or_else(improper)?;
            rest = behind[end..].trim_start_matches([',', ' ']);
            some = true;
        }
        if !some {
            return Err(improper());
        }
        any |= all;
    }
    Ok(any)
}

fn one(operator: &str, wanted: &str, version: &Version) -> Option<bool> {
    let Partial { version: wanted, told } = partial(wanted)?;
    // A version in preparation satisfies only who asks for one.
    let hidden = !version.prerelease.is_empty() && wanted.prerelease.is_empty();
    let same = |count: usize| version.numbers[..count] == wanted.numbers[..count];
    let from = *version >= wanted;
    let matched = match operator {
        "" | "=" if told < 3 => same(told),
        "" | "=" => *version == wanted || version.cmp(&wanted).is_eq(),
        "!=" if told < 3 => return Some(!same(told)),
        "!=" => return Some(version.cmp(&wanted).is_ne()),
        ">" if told < 3 => from && !same(told),
        ">" => *version > wanted,
        ">=" | "=>" => from,
        "<" => *version < wanted,
        "<=" | "=<" => *version <= wanted || told < 3 && same(told),
        "~" | "~>" => from && same(told.clamp(usize::from(told > 0), 2)),
        "^" => {
            let first = wanted.numbers[..told].iter().position(|number| *number > 0);
            from && same(first.map_or(told, |first| first + 1))
        }
        _ => return None,
    };
    Some(matched && !hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_hold_for_the_versions_that_they_should() {
        for (constraint, version, want) in [
            ("1.2.3", "1.2.3", true),
            ("=1.2", "1.2.9", true),
            (">=1.2, <2", "1.9.0", true),
            (">=1.2 <2", "2.0.0", false),
            ("^1.2.3", "1.9.0", true),
            ("^1.2.3", "2.0.0", false),
            ("^0.2.3", "0.3.0", false),
            ("^0.2.3", "0.2.9", true),
            ("~1.2.3", "1.2.9", true),
            ("~1.2.3", "1.3.0", false),
            ("~1", "1.9.0", true),
            ("1.x", "1.7.0", true),
            ("*", "9.9.9", true),
            ("<1 || >3", "4.0.0", true),
            ("1.2 - 1.4", "1.3.0", true),
            (">1", "1.5.0", false),
            ("!=1.2.3", "1.2.4", true),
            (">=1.0.0", "1.1.0-rc.1", false),
            (">=1.0.0-0", "1.1.0-rc.1", true),
        ] {
            let version = parse(version).unwrap();
            assert_eq!(satisfies(constraint, &version), Ok(want), "{constraint} of {version:?}");
        }
        assert!(satisfies("spam", &parse("1").unwrap()).is_err());
        assert_eq!(parse("1.x").unwrap_err(), "Invalid Semantic Version");
        assert!(parse("1.0.0-rc.2").unwrap() > parse("1.0.0-rc.1").unwrap());
    }
}
