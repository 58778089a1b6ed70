use super::parse;

/// Lines, columns and messages of what is wrong with `text`, in their order.
fn refused(text: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("good.j2"), "{{ generation() }}").unwrap();
    std::fs::write(directory.path().join("good.txt"), "").unwrap();
    std::fs::write(directory.path().join("bad.j2"), "a\n{% for i in %}").unwrap();
    let variable = |name: &str| (name == "PORT").then(|| "8080".to_owned());
    let problems = match parse("p.toml", text, directory.path(), &variable) {
        Ok(_) => Vec::new(),
        Err(problems) => problems,
    };
    let place = format!("{}/", directory.path().display());
    problems.iter().map(|problem| problem.to_string().replace(&place, "")).collect()
}

const WEB: &str = "[listener.web.http]\nbind = [\"127.0.0.1:8080\"]\n";

#[test]
fn what_a_table_states_wrongly_is_told_at_its_place_with_what_to_write() {
    let mut wrong = Vec::new();
    for (case, text, want) in [
        (
            "a port twice",
            "[listener.api.http]\nbind = [\"127.0.0.1:8080\"]\n",
            "p.toml:4:1: 127.0.0.1:8080 is taken by listener.api.http.bind (127.0.0.1:8080); \
             choose another port",
        ),
        (
            "a wildcard takes the port",
            "[listener.api.tcp]\nbind = [\"0.0.0.0:8080\"]\nservice = \"a\"\n",
            "p.toml:5:1: 127.0.0.1:8080 is taken by listener.api.tcp.bind (0.0.0.0:8080); choose \
             another port",
        ),
        (
            "dns",
            "[dns]\nlisten = [\"127.0.0.1:8080\"]\n",
            "p.toml:2:1: 127.0.0.1:8080 is taken by listener.web.http.bind (127.0.0.1:8080); \
             choose another port",
        ),
        (
            "admin",
            "[admin]\nlisten = \"127.0.0.1:8080\"\n",
            "p.toml:2:1: 127.0.0.1:8080 is taken by listener.web.http.bind (127.0.0.1:8080); \
             choose another port",
        ),
        (
            "a listener twice on its own",
            "[listener.api.http]\nbind = [\"127.0.0.1:81\", \"127.0.0.1:81\"]\n",
            "p.toml:2:1: 127.0.0.1:81 is taken by listener.api.http.bind (127.0.0.1:81); choose \
             another port",
        ),
        (
            "route without its listener",
            "[route.a]\nlistener = \"wbe\"\nservice = \"a\"\n",
            "p.toml:2:1: there is no listener \"wbe\"; did you mean \"web\"? (there are: web)",
        ),
        (
            "route to nothing like it",
            "[route.a]\nlistener = \"other\"\nservice = \"a\"\n",
            "p.toml:2:1: there is no listener \"other\" (there are: web)",
        ),
        (
            "the port of dns by udp",
            "[dns]\nlisten = [\"127.0.0.1:53\"]\n[listener.a.udp]\nbind = [\"0.0.0.0:53\"]\n\
             service = \"a\"\n",
            "p.toml:2:1: 127.0.0.1:53 is taken by listener.a.udp.bind (0.0.0.0:53); choose another \
             port",
        ),
        (
            "route to udp",
            "[listener.db.udp]\nbind = [\"127.0.0.1:1\"]\nservice = \"db\"\n[route.a]\n\
             listener = \"db\"\nservice = \"db\"\n",
            "p.toml:5:1: [listener.db] is a udp listener, which has a `service` instead of routes",
        ),
        (
            "a udp listener without flows",
            "[listener.a.udp]\nbind = [\"127.0.0.1:1\"]\nservice = \"a\"\nflows_max = 0\n",
            "p.toml:1:11: flows_max = 0 lets nobody in; at least 1",
        ),
        (
            "a udp listener with a cookie",
            "[listener.a.udp]\nbind = [\"127.0.0.1:1\"]\nservice = \"a\"\n\
             sticky = { cookie = \"a\" }\n",
            "p.toml:1:11: sticky: `cookie` needs HTTP: a TCP or UDP listener sees no cookies; write \
             sticky = { source = \"1h\" }",
        ),
        (
            "route to tcp",
            "[listener.db.tcp]\nbind = [\"127.0.0.1:1\"]\nservice = \"db\"\n[route.a]\n\
             listener = \"db\"\nservice = \"a\"\n",
            "p.toml:5:1: [listener.db] is a tcp listener, which has a `service` instead of routes",
        ),
        (
            "route to nowhere",
            "[route.a]\nlistener = \"web\"\n",
            "p.toml:1:8: leads nowhere; it needs exactly one of `service`, `split`, `respond`, `redirect`",
        ),
        (
            "route to two",
            "[route.a]\nlistener = \"web\"\nservice = \"a\"\nrespond = { status = 200 }\n",
            "p.toml:1:8: has `service` and `respond`; it needs exactly one of `service`, `split`, `respond`, `redirect`",
        ),
        (
            "status that is none",
            "[route.a]\nlistener = \"web\"\nrespond = { status = 99 }\n",
            "p.toml:3:1: respond.status = 99 is not between 200 and 599",
        ),
        (
            "the same route twice",
            "[route.a]\nlistener = \"web\"\nservice = \"a\"\n[route.b]\nlistener = \"web\"\n\
             service = \"b\"\n",
            "p.toml:4:8: matches the same requests as [route.a]; give it a condition, or another `priority`, or take one of them away",
        ),
        (
            "path without a slash",
            "[route.a]\nlistener = \"web\"\nservice = \"a\"\npath = \"api\"\n",
            "p.toml:4:1: \"api\" must start with '/'",
        ),
        (
            "host with a port",
            "[route.a]\nlistener = \"web\"\nservice = \"a\"\nhost = \"shop.example:80\"\n",
            "p.toml:4:1: \"shop.example:80\": is no host name; leave out scheme, port and path",
        ),
        (
            "host with a star within",
            "[route.a]\nlistener = \"web\"\nservice = \"a\"\nhost = \"shop.*\"\n",
            "p.toml:4:1: \"shop.*\": a '*' stands for whole labels at the front only, as \
             in \"*.shop.example\"",
        ),
        (
            "both paths",
            "[route.a]\nlistener = \"web\"\nservice = \"a\"\npath = \"/a\"\n\
             path_exact = \"/a\"\n",
            "p.toml:5:1: there is one of `path`, `path_exact`, `path_regex` and `path_begins`; keep one",
        ),
        (
            "service with a space",
            "[route.a]\nlistener = \"web\"\nservice = \"my web\"\n",
            "p.toml:3:1: service \"my web\" contains ' '; use letters, digits, '-', '_' or '.' \
             instead",
        ),
        (
            "two kinds",
            "[listener.x.http]\nbind = [\"127.0.0.1:1\"]\n[listener.x.tcp]\n\
             bind = [\"127.0.0.1:2\"]\nservice = \"a\"\n",
            "p.toml:1:11: has exactly one kind: [listener.NAME.http], [listener.NAME.https], \
             [listener.NAME.tcp], [listener.NAME.tls] or [listener.NAME.udp]",
        ),
        (
            "no kind",
            "[listener.x]\n",
            "p.toml:1:11: has exactly one kind: [listener.NAME.http], [listener.NAME.https], \
             [listener.NAME.tcp], [listener.NAME.tls] or [listener.NAME.udp]",
        ),
        (
            "no address",
            "[listener.x.http]\nbind = []\n",
            "p.toml:1:11: `bind` is empty; write it as bind = [\"0.0.0.0:8080\"]",
        ),
        (
            "port beyond",
            "[listener.x.http]\nbind = [\"127.0.0.1:70000\"]\n",
            "p.toml:2:9: `bind` (item 0) in [listener.x.http] must be an address with a port \
             such as \"127.0.0.1:8080\", not \"127.0.0.1:70000\"",
        ),
        (
            "name instead of an address",
            "[listener.x.http]\nbind = [\"localhost:80\"]\n",
            "p.toml:2:9: `bind` (item 0) in [listener.x.http] must be an address with a port \
             such as \"127.0.0.1:8080\", not \"localhost:80\"",
        ),
        (
            "no length of time",
            "[listener.x.http]\nbind = [\"127.0.0.1:1\"]\ntimeouts = { idle = \"10\" }\n",
            "p.toml:3:21: `idle` in [listener.x.http.timeouts]: \"10\" is no length of time; \
             write it like \"250ms\", \"10s\" or \"5m\"",
        ),
        (
            "no network",
            "[listener.x.http]\nbind = [\"127.0.0.1:1\"]\ntrusted_proxies = [\"10.0.0.0/33\"]\n",
            "p.toml:3:20: `trusted_proxies` (item 0) in [listener.x.http] must be a network such \
             as \"10.0.0.0/8\", not \"10.0.0.0/33\"",
        ),
        (
            "unknown policy",
            "[service.web]\npolicy = \"fastest\"\n",
            "p.toml:2:1: unknown policy \"fastest\"; known are p2c, round-robin, \
                 least-connections, random, maglev, ring-hash",
        ),
        (
            "port of a service",
            "[service.web]\nport = 0\n",
            "p.toml:2:1: port 0 is not between 1 and 65535",
        ),
        (
            "port of a service beyond",
            "[service.web]\nport = 70000\n",
            "p.toml:2:8: `port` in [service.web] must be a whole number from 0 to 65535, not the \
             integer `70000`",
        ),
        (
            "no workers",
            "[node]\nworkers = 0\n",
            "p.toml:2:1: workers = 0 would carry nothing; leave it out for one per core",
        ),
        (
            "too many workers",
            "[node]\nworkers = 1000\n",
            "p.toml:2:11: `workers` in [node] must be a whole number from 0 to 255, not the \
             integer `1000`",
        ),
        (
            "registry of a zone",
            "[registry.local.file]\npath = \"s.toml\"\n[dns]\nlisten = []\n[dns.zone.a]\n\
             registries = [\"locl\"]\n",
            "p.toml:6:1: there is no [registry.locl]; there are: local",
        ),
        (
            "registry without kind",
            "[registry.local]\n",
            "p.toml:1:1: [registry.local] must have exactly one kind below it, written \
             [registry.local.KIND]",
        ),
        (
            "unknown kind of registry",
            "[registry.local.fiel]\npath = \"s.toml\"\n",
            "p.toml:1:17: unknown key `fiel` in [registry.local]; did you mean `file`? Known \
             keys: consul, environment, file, keyfile, marathon, rancher-answers",
        ),
        (
            "unknown dialect",
            "[dns]\nlisten = []\n[dns.zone.a]\ndialect = \"consl\"\n",
            "p.toml:4:1: [dns.zone.\"a\"] dialect = \"consl\" is unknown; there are plain, \
             consul, mesos, rancher, kubernetes, skydns; did you mean \"consul\"?",
        ),
        (
            "zone that is no name",
            "[dns]\nlisten = []\n[dns.zone.\"a..b\"]\n",
            "p.toml:3:11: [dns.zone.\"a..b\"] is no domain: a label of a DNS name is empty",
        ),
        (
            "payload",
            "[dns]\nlisten = []\nudp_payload_max = 100\n",
            "p.toml:3:1: [dns] udp_payload_max = 100 is not between 512 and 4096; 1232 suits \
             most networks",
        ),
        (
            "forwarding to nobody",
            "[dns]\nlisten = []\n[dns.forward]\nupstreams = [\"nowhere\"]\n",
            "p.toml:4:1: [dns.forward] upstreams: \"nowhere\" is neither \"system\" nor an \
             address such as \"10.0.0.2:53\"",
        ),
        (
            "admin from outside",
            "[admin]\nlisten = \"0.0.0.0:1\"\n",
            "p.toml:2:1: 0.0.0.0:1 is reachable from outside: set `token_file`, or listen on \
             127.0.0.1",
        ),
        (
            "template that is not there",
            "[template.t]\nsource = \"gone.j2\"\ndestination = \"t\"\n",
            "p.toml:2:1: cannot read the template gone.j2 of [template.t]: No such file or \
             directory (os error 2); correct `source`",
        ),
        (
            "template that does not parse",
            "[template.t]\nsource = \"bad.j2\"\ndestination = \"t\"\n",
            "p.toml:2:1: bad.j2:2:13: syntax error: unexpected end of block",
        ),
        (
            "template in no language",
            "[template.t]\nsource = \"good.txt\"\ndestination = \"t\"\n",
            "p.toml:2:1: good.txt: the extension does not tell a template language; call it *.ctmpl \
             (Go) or *.j2 (Jinja), or set `dialect`",
        ),
        (
            "template of nothing",
            "[template.t]\ndestination = \"t\"\n",
            "p.toml:1:11: [template.t] has no template; add `source`, or `contents`",
        ),
        (
            "template twice",
            "[template.t]\ncontents = \"\"\nsource = \"good.j2\"\ndestination = \"t\"\n",
            "p.toml:2:1: [template.t] has both `source` and `contents`; keep one of them",
        ),
        (
            "template of a registry that is not there",
            "[template.t]\ncontents = \"\"\ndestination = \"t\"\nregistry = \"dc9\"\n",
            "p.toml:4:1: there is no [registry.dc9]; there are: none",
        ),
        (
            "delimiters",
            "[template.t]\ncontents = \"\"\ndestination = \"t\"\ndelimiters = [\"\", \"}}\"]\n",
            "p.toml:4:14: `delimiters` in [template.t]: delimiters are two texts without spaces, \
             as in [\"<%\", \"%>\"]",
        ),
        (
            "Go template in the configuration",
            "[template.t]\ncontents = \"a\\n{{range}}\"\ndestination = \"t\"\n",
            "p.toml:2:1: [template.t].contents:2: missing value for range",
        ),
        (
            "destination twice",
            "[template.t]\nsource = \"good.j2\"\ndestination = \"t\"\n[template.u]\n\
             source = \"good.j2\"\ndestination = \"t\"\n",
            "p.toml:6:1: t is the destination of [template.t] too; each writes a file of its own",
        ),
        (
            "variable that is not set",
            "[listener.x.http]\nbind = [\"${GONE}:80\"]\n",
            "p.toml:2:9: `bind`: the environment variable `GONE` is not set; set it, or write \
             `$${GONE}` for the text itself",
        ),
        (
            "unknown table",
            "[rotue.a]\nlistener = \"web\"\n",
            "p.toml:1:2: unknown table [rotue]; did you mean `route`? Known tables: node, process, \
             limits, guard, registry, locality, health, service, dns, certificate, listener, route, access_log, labels, template, group, confd, exec, metadata, haproxy, admin, operations, sticky",
        ),
        (
            "a value for a table",
            "node = 5\n",
            "p.toml:1:8: [node] must be a table, not a value of type integer",
        ),
        ("not TOML", "[node\n", "p.toml:1:6: unclosed table, expected `]`"),
    ] {
        let told = refused(&format!("{text}{WEB}"));
        if told != [want] {
            wrong.push(format!("{case}: {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_can_be_is_not_refused() {
    for (case, text) in [
        (
            "ports that the kernel chooses",
            "[listener.a.http]\nbind = [\"127.0.0.1:0\"]\n[listener.b.http]\nbind = [\"127.0.0.1:0\"]\n",
        ),
        ("a port on two addresses", "[listener.a.http]\nbind = [\"127.0.0.2:8080\"]\n"),
        ("a port by IPv4 and IPv6", "[listener.a.http]\nbind = [\"[::]:8080\"]\n"),
        (
            "two hosts, one path",
            "[route.a]\nlistener = \"web\"\nservice = \"a\"\nhost = \"a\"\n[route.b]\nlistener = \"web\"\nservice = \"b\"\nhost = \"b\"\n",
        ),
        ("a variable", "[listener.a.http]\nbind = [\"127.0.0.2:${PORT}\"]\n"),
        (
            "admin from outside with a token",
            "[admin]\nlisten = \"0.0.0.0:1\"\ntoken_file = \"token\"\n",
        ),
        (
            "a service that no registry tells of yet",
            "[route.a]\nlistener = \"web\"\nservice = \"later:port\"\n",
        ),
        ("nothing", ""),
    ] {
        assert_eq!(refused(&format!("{text}{WEB}")), [""; 0], "{case}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_document_and_none_by_its_echo() {
    let text = "[node]\nwrokers = 2\n\
                [listener.bad.http]\nbnid = []\n\
                [registry.bad.file]\npath = \"s.txt\"\n\
                [route.a]\nlistener = \"bad\"\nservice = \"a\"\n\
                [route.b]\nlistener = \"gone\"\nservice = \"b\"\n\
                [dns]\nlisten = [\"127.0.0.1:8080\", \"${GONE}:53\"]\n\
                [dns.zone.test]\nregistries = [\"bad\"]\n\
                [listner.x]\n";
    let told = refused(&format!("{text}{WEB}"));
    let starts: Vec<&str> =
        told.iter().map(|line| line.split('`').next().unwrap_or_default()).collect();
    assert_eq!(
        starts,
        [
            "p.toml:2:1: unknown key ",
            "p.toml:4:1: unknown key ",
            "p.toml:6:8: ",
            "p.toml:11:1: there is no listener \"gone\" (there are: web)",
            "p.toml:14:29: ",
            "p.toml:17:2: unknown table [listner]; did you mean ",
        ],
        "{told:#?}"
    );
}
