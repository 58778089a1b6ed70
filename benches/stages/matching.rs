//! What it costs to find the route of a request among 10 routes and among 10,000, in several shapes.
//!
//! Every size gets the same number of requests, at routes in no order, so that caches are as cold
//! as a mixed load makes them.

use std::collections::BTreeMap;
use std::hint::black_box;

use portolan::proxy::RouteConfig;
use portolan::proxy::route::{RequestView, RouteTable};

use super::{Clock, say};

/// Most that finding one of 10,000 may cost compared with one of 10.
const RATIO_MAX: f64 = 2.0;
const SIZES: [usize; 2] = [10, 10_000];
const REQUESTS: usize = 1024;
/// Turns among the sizes; the median counts.
const TURNS: usize = 201;

/// How routes differ: name, then what the table of a route says, with `@` for its number and `#` for
/// a tenth of it; then host and path of a request for it.
const SHAPES: [(&str, &str, &str, &str); 5] = [
    ("ten paths a host", "host = \"host-#.test\"\npath = \"/p@\"", "host-#.test", "/p@/users/7"),
    ("a host each", "host = \"host-@.test\"", "host-@.test", "/users/7"),
    ("one host", "host = \"a.test\"\npath = \"/p@/x\"", "a.test", "/p@/x/users/7"),
    (
        "conditions and priorities",
        "host = \"host-#.test\"\npath = \"/p@\"\nmethods = [\"GET\"]\nheaders = { x-a = \"1\" }\n\
         priority = 5",
        "host-#.test",
        "/p@/users/7",
    ),
    (
        "a parameter each",
        "host = \"host-#.test\"\npath = \"/p@\"\nquery = { q = \"@\" }",
        "host-#.test",
        "/p@/users/7",
    ),
];

/// Measures and prints; returns the ratio of each shape.
pub(super) fn measure() -> Vec<(&'static str, f64)> {
    say("nanoseconds to find the route of a request, median; among 10, among 10,000, ratio");
    let ratio = |(name, config, host, path): (&'static str, &str, &str, &str)| {
        let worlds = SIZES.map(|size| World::new(size, config, host, path));
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            for (world, samples) in worlds.iter().zip(&mut samples) {
                samples.push(world.turn());
            }
        }
        let [few, many] = samples.map(|mut samples| {
            samples.sort_by(f64::total_cmp);
            samples[samples.len() / 2]
        });
        say(&format!("{name:>26} {few:>8.1} {many:>8.1} {:>6.2}", many / few));
        (name, many / few)
    };
    SHAPES.into_iter().map(ratio).collect()
}

pub(super) fn holds(measured: &[(&str, f64)], allowance: f64) -> bool {
    let most = RATIO_MAX * allowance;
    let mut holds = true;
    for (name, ratio) in measured {
        let word = if *ratio <= most { "holds" } else { "BROKEN" };
        holds &= *ratio <= most;
        say(&format!("10,000 routes over 10, {name}: {ratio:.2}, at most {most:.2}: {word}"));
    }
    holds
}

struct Asked {
    host: String,
    path: String,
    query: String,
}

struct World {
    table: RouteTable,
    asked: Vec<Asked>,
    headers: http::HeaderMap,
}

impl World {
    fn new(size: usize, config: &str, host: &str, path: &str) -> Self {
        let of = |text: &str, number: usize| {
            text.replace('@', &number.to_string()).replace('#', &(number / 10).to_string())
        };
        let route = |number: usize| {
            let text = format!("listener = \"web\"\nservice = \"web\"\n{}", of(config, number));
            let route: RouteConfig = toml::from_str(&text).expect("a route");
            (format!("r{number}"), route)
        };
        let routes: BTreeMap<_, _> = (0..size).map(route).collect();
        let table = RouteTable::compile(routes.iter().map(|(name, route)| (&**name, route)));
        // A prime that shares no factor with the sizes: every route once, and far from the last.
        let asked = (0..REQUESTS).map(|turn| turn * 7919 % size);
        let asked = asked.map(|number| Asked {
            host: of(host, number),
            path: of(path, number),
            query: format!("q={number}"),
        });
        let mut headers = http::HeaderMap::new();
        headers.insert("x-a", http::HeaderValue::from_static("1"));
        Self { table: table.expect("a table"), asked: asked.collect(), headers }
    }

    /// Nanoseconds per request.
    fn turn(&self) -> f64 {
        let mut clock = Clock::start();
        for Asked { host, path, query } in &self.asked {
            let view = RequestView {
                host,
                path,
                query,
                method: "GET",
                headers: &self.headers,
                client: [192, 0, 2, 1].into(),
            };
            assert!(self.table.route(black_box(&view)).is_some());
        }
        clock.lap() * 1000.0 / self.asked.len() as f64
    }
}
