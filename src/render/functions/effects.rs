//! Functions that touch the world: variables, commands, files, addresses. All of them go through
//! [`super::World`], which may refuse.

use std::net::IpAddr;
use std::path::Path;

use super::super::engine::go::function::{Context, FunctionError};
use super::super::engine::go::types::Type;
use super::super::engine::go::value::Value;
use super::args::{Outcome, built, bytes, failed, shown, text};
use super::host;
use super::objects::{Record, SRV};
use super::source::FileToWrite;

fn variable(context: &Context<'_>, name: &str) -> Result<Option<String>, FunctionError> {
    host::of(context)?.world().variable(name).map_err(FunctionError::failed)
}

/// `env name [default]`: the default also when the variable is empty.
pub(super) fn env(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let found = variable(context, &text(args, 0))?.filter(|value| !value.is_empty());
    Ok(found.unwrap_or_else(|| text(args, 1).into_owned()).into())
}

/// `mustEnv name`
pub(super) fn must_env(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let name = text(args, 0);
    match variable(context, &name)? {
        Some(value) => Ok(value.into()),
        None => failed(format!("mustEnv: {name} not found")),
    }
}

/// `envOrDefault name default`: an empty variable counts.
pub(super) fn env_or_default(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let found = variable(context, &text(args, 0))?;
    Ok(found.unwrap_or_else(|| text(args, 1).into_owned()).into())
}

/// `plugin program argument…`: what it prints, without space around.
pub(super) fn plugin(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let program = text(args, 0);
    if program.is_empty() {
        return Ok("".into());
    }
    let words: Vec<String> = args.get(1..).unwrap_or_default().iter().map(shown).collect();
    let output = host::of(context)?.world().run(&program, &words);
    let output = output.map_err(FunctionError::failed)?;
    built(context, output.trim_ascii())
}

/// `writeToFile path user group permissions ["append,newline"] content`
pub(super) fn write_to_file(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let (flags, content) = match args.len() {
        5 => (String::new(), 4),
        6 => (text(args, 4).into_owned(), 5),
        count => {
            return failed(format!(
                "writeToFile: wrong number of arguments, expected 5 or 6, but got {count}"
            ));
        }
    };
    let permissions = text(args, 3);
    let Ok(mode) = u32::from_str_radix(&permissions, 8) else {
        return failed(format!(
            "writeToFile: permissions {permissions:?} are none; write them in octal like \"0644\""
        ));
    };
    let mut file = FileToWrite {
        path: text(args, 0).into_owned(),
        user: text(args, 1).into_owned(),
        group: text(args, 2).into_owned(),
        mode,
        append: false,
        content: bytes(args, content),
    };
    for flag in flags.split(',').map(str::trim).filter(|flag| !flag.is_empty()) {
        match flag {
            "append" => file.append = true,
            "newline" => file.content.push(b'\n'),
            other => return failed(format!("writeToFile: invalid flag {other:?}")),
        }
    }
    host::of(context)?.world().write(&file).map_err(FunctionError::failed)?;
    Ok("".into())
}

/// `hostname`
pub(super) fn hostname(context: &mut Context<'_>, _: &[Value]) -> Outcome {
    match host::of(context)?.world().hostname() {
        Ok(name) => Ok(name.into()),
        Err(why) => failed(why),
    }
}

/// `fileExists path`
pub(super) fn file_exists(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    match host::of(context)?.world().exists(Path::new(&*text(args, 0))) {
        Ok(there) => Ok(there.into()),
        Err(why) => failed(why),
    }
}

fn addresses(context: &Context<'_>, args: &[Value], kept: fn(&IpAddr) -> bool) -> Outcome {
    let found = host::of(context)?.world().lookup(&text(args, 0));
    let found = found.unwrap_or_default();
    let mut shown: Vec<String> =
        found.iter().filter(|ip| kept(ip)).map(IpAddr::to_string).collect();
    shown.sort();
    shown.dedup();
    if shown.is_empty() {
        return Ok(Value::NilOf(&Type::STRINGS));
    }
    Ok(Value::strings(shown))
}

/// `lookupIP host`: sorted; nothing when it cannot be resolved.
pub(super) fn lookup_ip(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    addresses(context, args, |_| true)
}

/// `lookupIPV4 host`
pub(super) fn lookup_ipv4(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    addresses(context, args, IpAddr::is_ipv4)
}

/// `lookupIPV6 host`
pub(super) fn lookup_ipv6(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    addresses(context, args, IpAddr::is_ipv6)
}

/// `lookupSRV service protocol name`: sorted by target, port, priority, weight.
pub(super) fn lookup_srv(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let name = format!("_{}._{}.{}", text(args, 0), text(args, 1), text(args, 2));
    let found = host::of(context)?.world().lookup_srv(&name).unwrap_or_default();
    let mut found: Vec<_> = found
        .into_iter()
        .map(|(priority, weight, port, target)| (target, port, priority, weight))
        .collect();
    found.sort();
    let number = |number: u16| {
        Value::Uint(u64::from(number), super::super::engine::go::types::UintKind::U16)
    };
    let records = found.into_iter().map(|(target, port, priority, weight)| {
        Record::value(
            &SRV,
            &[
                ("Target", target.into()),
                ("Port", number(port)),
                ("Priority", number(priority)),
                ("Weight", number(weight)),
            ],
        )
    });
    Ok(Record::list(&SRV, records.collect()))
}

fn interface(context: &Context<'_>, name: &str, kept: fn(&IpAddr) -> bool) -> Outcome {
    let found = host::of(context)?.world().interfaces().map_err(FunctionError::failed)?;
    let found = found.iter().find(|(of, ip)| of == name && kept(ip));
    Ok(found.map_or_else(String::new, |(_, ip)| ip.to_string()).into())
}

/// `lookupIfaceIPV4 interface`
pub(super) fn lookup_interface_v4(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    interface(context, &text(args, 0), IpAddr::is_ipv4)
}

/// `lookupIfaceIPV6 interface`
pub(super) fn lookup_interface_v6(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    interface(context, &text(args, 0), IpAddr::is_ipv6)
}

/// `sockaddr "GetPrivateIP"`: the first, or with `…IPs` all addresses of a kind, as words.
pub(super) fn sockaddr(context: &mut Context<'_>, args: &[Value]) -> Outcome {
    let wanted = if args.is_empty() { "GetPrivateIP".into() } else { text(args, 0) };
    let words: Vec<&str> = wanted.split_whitespace().collect();
    let found = host::of(context)?.world().interfaces().map_err(FunctionError::failed)?;
    let named = words.get(1).map(|name| name.trim_matches(['"', '`']));
    let kept = |(name, ip): &&(String, IpAddr)| match words.first().copied() {
        Some("GetPrivateIP" | "GetPrivateIPs") => is_private(ip),
        Some("GetPublicIP" | "GetPublicIPs") => !is_private(ip) && !ip.is_loopback(),
        _ => named == Some(name),
    };
    match (words.first().copied(), named) {
        (Some("GetPrivateIP" | "GetPublicIP" | "GetPrivateIPs" | "GetPublicIPs"), None)
        | (Some("GetInterfaceIP" | "GetInterfaceIPs"), Some(_)) => {}
        _ => {
            return Err(FunctionError::hinted(
                format!("sockaddr: unable to parse {wanted:?}"),
                "there are GetPrivateIP, GetPrivateIPs, GetPublicIP, GetPublicIPs, \
                 GetInterfaceIP \"name\" and GetInterfaceIPs \"name\"",
            ));
        }
    }
    let mut shown: Vec<String> = found.iter().filter(kept).map(|(_, ip)| ip.to_string()).collect();
    if !words[0].ends_with('s') {
        shown.truncate(1);
    }
    Ok(shown.join(" ").into())
}

fn is_private(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64,
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}
