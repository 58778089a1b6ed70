//! `portolan drain`, `maintenance`, `weight` and `operations`: what operators say of instances and
//! nodes, told to the running process.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ask::{accepted, ask, ask_with};
use super::{Source, complain, exit, load, say};
use crate::config::Config;
use crate::units::Period;

/// Pause between two looks at what still runs.
const LOOK: Duration = Duration::from_millis(200);
/// Looks in a row that must find nothing.
const QUIET: u32 = 2;

/// Whom it is about, and why.
#[derive(Debug, clap::Args)]
struct About {
    /// Id of an instance, or `registry/service/id`. `portolan why service/NAME` lists the ids of a
    /// service.
    #[arg(value_name = "ID", required_unless_present = "node", conflicts_with = "node")]
    id: Option<String>,
    #[command(flatten)]
    more: More,
}

/// What else tells whom it is about.
#[derive(Debug, clap::Args)]
pub(super) struct More {
    /// The service of the instance, where its id alone is not enough.
    #[arg(long, value_name = "NAME", conflicts_with = "node")]
    service: Option<String>,
    /// The registry of the instance, likewise.
    #[arg(long, value_name = "NAME", conflicts_with = "node")]
    registry: Option<String>,
    /// Every instance on this node instead, also those that come later.
    #[arg(long, value_name = "NAME")]
    pub(super) node: Option<String>,
    /// Why; shown in `why` and in the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// What is the same for drain and maintenance.
#[derive(Debug, clap::Args)]
struct State {
    #[command(flatten)]
    about: About,
    /// What still runs after so long is cut, as `10m`; without it, nothing is.
    #[arg(long, value_name = "PERIOD", conflicts_with = "undo")]
    deadline: Option<Period>,
    /// Return only when nothing runs there any more (on this process); tells on standard error
    /// what still does. Exits with 75 when that takes longer than --timeout.
    #[arg(long, conflicts_with = "undo")]
    wait: bool,
    /// With --wait: how long at most, as `5m`. It stays drained when that is over.
    #[arg(long, value_name = "PERIOD", default_value = "5m")]
    timeout: Period,
    /// Take it back: it gets work as before.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    source: Source,
}

/// Drain an instance or a node: its own clients stay, no new ones come.
#[derive(Debug, clap::Args)]
pub struct Drain {
    #[command(flatten)]
    state: State,
}

/// Take an instance or a node out: no work at all.
#[derive(Debug, clap::Args)]
pub struct Maintenance {
    #[command(flatten)]
    state: State,
}

/// Give an instance another share of the work.
#[derive(Debug, clap::Args)]
pub struct Weight {
    /// Id of an instance, or `registry/service/id`, and the weight: 0 (no new work) to 1000. With
    /// --node the weight alone, with --undo no weight.
    #[arg(value_name = "ID WEIGHT", num_args = 0..=2)]
    words: Vec<String>,
    #[command(flatten)]
    more: More,
    /// Take it back: the weight is what the registry says.
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    source: Source,
}

/// List what operators have said.
#[derive(Debug, clap::Args)]
pub struct Operations {
    /// As JSON, as `GET /v1/operations` gives it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

impl More {
    pub(super) fn order(&self, id: Option<&str>) -> Value {
        json!({
            "id": id,
            "service": self.service,
            "registry": self.registry,
            "node": self.node,
            "reason": self.reason,
        })
    }
}

impl About {
    fn order(&self) -> Value {
        self.more.order(self.id.as_deref())
    }
}

impl Drain {
    pub(super) fn run(&self) -> ExitCode {
        self.state.run("/v1/drain")
    }
}

impl Maintenance {
    pub(super) fn run(&self) -> ExitCode {
        self.state.run("/v1/maintenance")
    }
}

impl State {
    fn run(&self, path: &str) -> ExitCode {
        let mut order = self.about.order();
        order["undo"] = self.undo.into();
        order["deadline"] = self.deadline.map(|deadline| deadline.to_string()).into();
        let (config, told) = match tell(&self.source, path, &order) {
            Ok(told) => told,
            Err(code) => return code,
        };
        if self.wait { wait(&config, &told, self.timeout.0) } else { ExitCode::SUCCESS }
    }
}

impl Weight {
    pub(super) fn run(&self) -> ExitCode {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let (id, weight) = match (&words[..], self.more.node.is_some(), self.undo) {
            ([id, weight], false, false) => (Some(*id), Some(*weight)),
            ([weight], true, false) => (None, Some(*weight)),
            ([id], false, true) => (Some(*id), None),
            ([], true, true) => (None, None),
            _ => {
                complain(
                    "write it as `portolan weight ID WEIGHT`, `portolan weight --node NAME WEIGHT`, \
                     or with --undo instead of the weight",
                );
                return ExitCode::from(exit::USAGE);
            }
        };
        let mut order = self.more.order(id);
        if let Some(weight) = weight {
            let Ok(weight) = weight.parse::<i64>() else {
                complain(&format!("weight {weight:?} is no number between 0 and 1000"));
                return ExitCode::from(exit::USAGE);
            };
            order["weight"] = weight.into();
        }
        order["undo"] = self.undo.into();
        tell(&self.source, "/v1/weight", &order).err().unwrap_or(ExitCode::SUCCESS)
    }
}

impl Operations {
    pub(super) fn run(&self) -> ExitCode {
        let config = match load(&self.source.config) {
            Ok(loaded) => loaded.config,
            Err(code) => return code,
        };
        match overview(&config) {
            Ok(told) if self.json => say(&told.to_string()),
            Ok(told) => say(&listed(&told)),
            Err(code) => return code,
        }
        ExitCode::SUCCESS
    }
}

/// Tells the running process, and the reader what came of it.
pub(super) fn tell(
    source: &Source,
    path: &str,
    order: &Value,
) -> Result<(Config, Value), ExitCode> {
    let config = load(&source.config)?.config;
    let body = accepted(ask_with(&config, "POST", path, &order.to_string()))?;
    let told: Value = serde_json::from_str(&body).unwrap_or_default();
    let operation = &told["operation"];
    let undone = if told["undone"] == Value::Bool(true) { "undone: " } else { "" };
    say(&format!("{undone}{}", line(operation)));
    if told["kept"] == Value::Bool(false) {
        complain("without [node] data_dir this is forgotten when the process ends");
    }
    Ok((config, told))
}

/// Looks until nothing runs any more at whom the operation is about.
#[allow(
    clippy::disallowed_methods,
    reason = "a command of one thread, which has nothing to do meanwhile"
)]
fn wait(config: &Config, told: &Value, limit: Duration) -> ExitCode {
    let number = &told["operation"]["number"];
    let began = Instant::now();
    let (mut quiet, mut shown) = (0, String::new());
    loop {
        let all = match overview(config) {
            Ok(told) => told,
            Err(code) => return code,
        };
        let found = list(&all["operations"]).into_iter().find(|o| o["number"] == *number);
        let Some(operation) = found else {
            complain(&format!("operation {number} was undone meanwhile; nobody waits for it"));
            return ExitCode::from(exit::UNAVAILABLE);
        };
        quiet = if operation["in_flight"] == json!(0) { quiet + 1 } else { 0 };
        if quiet == QUIET {
            complain("nothing runs there any more");
            return ExitCode::SUCCESS;
        }
        let now = running(&operation);
        if quiet == 0 && now != shown {
            complain(&format!("still running: {now}"));
            shown = now;
        }
        if began.elapsed() >= limit {
            complain(&format!(
                "not empty after {}; still running: {shown}. It stays as it is; ask again, or \
                 state a --deadline",
                Period(limit)
            ));
            return ExitCode::from(exit::NOT_YET);
        }
        std::thread::sleep(LOOK.min(limit));
    }
}

fn overview(config: &Config) -> Result<Value, ExitCode> {
    let body = accepted(ask(config, "GET", "/v1/operations"))?;
    Ok(serde_json::from_str(&body).unwrap_or_default())
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What runs where, in one line.
fn running(operation: &Value) -> String {
    let busy = list(&operation["instances"]).into_iter().filter(|i| i["in_flight"] != json!(0));
    let told =
        busy.map(|i| format!("{} at {}/{}", i["in_flight"], word(&i["service"]), word(&i["id"])));
    told.collect::<Vec<_>>().join(", ")
}

/// An operation in one line.
fn line(operation: &Value) -> String {
    let does = match operation["weight"].as_u64() {
        Some(weight) => format!("weight {weight}"),
        None => word(&operation["does"]).to_owned(),
    };
    let target = match operation["node"].as_str() {
        Some(node) => format!("node {node}"),
        None => format!(
            "{}/{}/{}",
            word(&operation["registry"]),
            word(&operation["service"]),
            word(&operation["id"])
        ),
    };
    let mut line = format!("{} {does} of {target}", operation["number"]);
    // Writing to a string never fails.
    let _ = write!(line, " by {} since {}", word(&operation["who"]), word(&operation["since"]));
    if let Some(deadline) = operation["deadline"].as_str() {
        let _ = write!(line, ", what runs is cut at {deadline}");
    }
    if !word(&operation["reason"]).is_empty() {
        let _ = write!(line, ": {}", word(&operation["reason"]));
    }
    line
}

/// Every operation for a reader.
fn listed(told: &Value) -> String {
    let mut lines = Vec::new();
    for operation in list(&told["operations"]) {
        lines.push(line(&operation));
        for instance in list(&operation["instances"]) {
            lines.push(format!(
                "  {}/{}: {}, {} in flight",
                word(&instance["service"]),
                word(&instance["id"]),
                word(&instance["state"]),
                instance["in_flight"]
            ));
        }
    }
    for leaving in list(&told["leaving"]) {
        lines.push(format!(
            "left: {}/{} ({}) since {}, {} in flight, cut in {} s",
            word(&leaving["service"]),
            word(&leaving["id"]),
            word(&leaving["address"]),
            word(&leaving["since"]),
            leaving["in_flight"],
            leaving["left_seconds"].as_f64().unwrap_or_default().ceil()
        ));
    }
    if lines.is_empty() { "no operator has said anything".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_told_in_a_line_with_whom_who_and_why() {
        let told = json!({
            "operations": [
                {
                    "number": 3, "does": "drain", "service": "web", "registry": "r", "id": "a",
                    "who": "uid 0", "since": "then", "reason": "disk", "deadline": "later",
                    "instances": [
                        { "service": "web", "id": "a", "state": "draining", "in_flight": 2 },
                    ],
                },
                {
                    "number": 4, "does": "weight", "weight": 5, "node": "n", "who": "10.0.0.1:5",
                    "since": "then", "reason": "", "deadline": null, "instances": [],
                },
            ],
            "leaving": [{
                "service": "web", "id": "b", "address": "10.0.0.2:80", "since": "then",
                "in_flight": 1, "left_seconds": 3.2,
            }],
        });
        let want = "3 drain of r/web/a by uid 0 since then, what runs is cut at later: disk\n  \
                    web/a: draining, 2 in flight\n\
                    4 weight 5 of node n by 10.0.0.1:5 since then\n\
                    left: web/b (10.0.0.2:80) since then, 1 in flight, cut in 4 s";
        assert_eq!(listed(&told), want);
        assert_eq!(running(&told["operations"][0]), "2 at web/a");
        assert_eq!(listed(&json!({})), "no operator has said anything");
    }
}
