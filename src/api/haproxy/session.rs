//! Lines of the stats socket, answered.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Source;
use super::command::{Change, Command, Form, Name, WEIGHT_MAX, commands};
use super::info;
use super::model::{Proxy, Server, Stats, Status};
use super::print::{self, Width};
use super::state;
use crate::api::operate::order::{Order, Refused, Wanted};
use crate::api::operate::{Asked, Wish};

/// Why an operator's word came by this door, as the audit log has it.
const REASON: &str = "by HAProxy's stats socket";

/// One who sends lines.
pub(super) struct Session {
    pub(super) source: Source,
    /// Who that is.
    pub(super) who: Arc<str>,
    /// Whether changes are taken.
    pub(super) operates: bool,
    /// Whether more lines are waited for.
    pub(super) prompts: bool,
    /// Most bytes of an answer.
    pub(super) output_max: usize,
}

/// What is sent, and whether more is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) more: bool,
}

impl Session {
    /// Answers all commands of one line.
    pub(super) async fn line(&mut self, line: &str) -> Answer {
        let mut text = String::new();
        for command in commands(line) {
            if command == Command::Quit {
                return Answer { text, more: false };
            }
            let told = match command {
                Command::Prompt => {
                    self.prompts = !self.prompts;
                    String::new()
                }
                other => self.command(other).await,
            };
            if text.len() + told.len() > self.output_max {
                let max = self.output_max;
                // Writing to a string never fails.
                let _ = write!(text, "Output is beyond {max} bytes ([haproxy] output_max).\n\n");
                return Answer { text, more: false };
            }
            text.push_str(&told);
            text.push('\n');
        }
        if self.prompts {
            text.push_str("> ");
        }
        Answer { text, more: self.prompts }
    }

    async fn stats(&self) -> Result<Stats, String> {
        let stats = Arc::clone(&self.source.stats);
        let told = tokio::task::spawn_blocking(move || stats()).await;
        told.map_err(|_| "The process is ending.\n".to_owned())
    }

    async fn command(&self, command: Command) -> String {
        match self.try_command(command).await {
            Ok(told) | Err(told) => told,
        }
    }

    async fn try_command(&self, command: Command) -> Result<String, String> {
        match command {
            Command::Told(told) => Ok(told),
            Command::Version => Ok(format!("{}\n", info::VERSION)),
            Command::Info { typed } => Ok(info::info(&self.stats().await?, typed)),
            Command::Stat(wanted, form) => {
                let stats = self.stats().await?;
                if wanted.proxy.is_some() && !stats.proxies.iter().any(|proxy| wanted.takes(proxy))
                {
                    return Err("No such proxy.\n".to_owned());
                }
                let print = move || match form {
                    Form::Csv => print::csv(&stats, &wanted, Width::Whole),
                    Form::Typed => print::typed(&stats, &wanted),
                    Form::Json => print::json(&stats, &wanted) + "\n",
                };
                let printed = tokio::task::spawn_blocking(print).await;
                printed.map_err(|_| "The process is ending.\n".to_owned())
            }
            Command::State(of) => {
                let stats = self.stats().await?;
                Ok(state::state(&stats, one(&stats, of.as_deref())?))
            }
            Command::Connections(of) => {
                let stats = self.stats().await?;
                Ok(state::connections(&stats, one(&stats, of.as_deref())?))
            }
            Command::Backends => {
                let stats = self.stats().await?;
                let backends = stats.proxies.iter().filter(|proxy| proxy.back.is_some());
                let names = backends.flat_map(|proxy| ["\n", &*proxy.name]).collect::<String>();
                Ok(format!("# name{names}\n"))
            }
            Command::Weight(name) => {
                let stats = self.stats().await?;
                let (now, first) = find(&stats, &name)?.weight;
                Ok(format!("{now} (initial {first})\n"))
            }
            Command::Set(..) if !self.operates => Err("Permission denied\n".to_owned()),
            Command::Set(name, change) => {
                let stats = self.stats().await?;
                self.change(find(&stats, &name)?, change).await
            }
            // These are nobody's but the connection's.
            Command::Prompt | Command::Quit => Ok(String::new()),
        }
    }

    /// Says it as `portolan drain`, `maintenance` and `weight` do; returns once it is in force.
    async fn change(&self, server: &Server, change: Change) -> Result<String, String> {
        let order = Order {
            id: Some(server.target.id.to_string()),
            service: server.target.service.as_deref().map(str::to_owned),
            registry: Some(server.target.registry.to_string()),
            reason: Some(REASON.to_owned()),
            ..Order::default()
        };
        let (wish, undoes) = match change {
            Change::Drain => (Wish::Say(Wanted::Drain, order), false),
            Change::Maintenance => (Wish::Say(Wanted::Maintenance, order), false),
            Change::Ready => (Wish::Ready(Order { reason: None, ..order }), true),
            Change::Share(100) => {
                (Wish::Say(Wanted::Weight, Order { undo: true, reason: None, ..order }), true)
            }
            Change::Weight(weight) => (weighed(order, weight.into()), false),
            Change::Share(percent) => {
                let weight = u64::from(server.weight.1) * u64::from(percent) / 100;
                if weight > u64::from(WEIGHT_MAX) {
                    let told = "Weight can only be between 0 and";
                    return Err(format!("{told} {WEIGHT_MAX} inclusive.\n"));
                }
                (weighed(order, weight), false)
            }
        };
        let (answer, told) = oneshot::channel();
        let asked = Asked { who: Arc::clone(&self.who), wish, answer };
        let sent = self.source.operate.wishes.send(asked).await.is_ok();
        let set_apart = matches!(server.status, Status::Drain | Status::Maintenance);
        match (sent, told.await) {
            (true, Ok(Ok(_))) => Ok(String::new()),
            // There was nothing to undo, and so it is as it was wanted.
            (true, Ok(Err(Refused::Unknown(_))))
                if undoes && (change != Change::Ready || !set_apart) =>
            {
                Ok(String::new())
            }
            (true, Ok(Err(refused))) => Err(format!("{}\n", refused.message())),
            _ => Err("The process is ending.\n".to_owned()),
        }
    }
}

fn weighed(order: Order, weight: u64) -> Wish {
    let weight = i64::try_from(weight).ok();
    Wish::Say(Wanted::Weight, Order { weight, ..order })
}

/// The backend called `name`, if one is named.
fn one<'a>(stats: &'a Stats, name: Option<&str>) -> Result<Option<&'a Proxy>, String> {
    let Some(name) = name else { return Ok(None) };
    match stats.proxies.iter().find(|proxy| proxy.back.is_some() && *proxy.name == *name) {
        Some(found) => Ok(Some(found)),
        None => Err("Can't find backend.\n".to_owned()),
    }
}

fn find<'a>(stats: &'a Stats, name: &Name) -> Result<&'a Server, String> {
    let mut proxies = stats.proxies.iter().filter(|proxy| proxy.back.is_some());
    let proxy = proxies.find(|proxy| *proxy.name == *name.backend);
    let proxy = proxy.ok_or("No such backend.\n")?;
    let server = proxy.servers.iter().find(|server| *server.name == *name.server);
    Ok(server.ok_or("No such server.\n")?)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::samples;
    use super::*;
    use crate::api::operate::Operate;
    use crate::api::operate::audit::Audit;
    use crate::lifecycle::Readiness;

    fn session(operates: bool) -> (Session, mpsc::Receiver<Asked>) {
        let (wishes, asked) = mpsc::channel(4);
        let failures = prometheus::IntCounter::new("failures", "Failures.").unwrap();
        let source = Source {
            stats: Arc::new(samples::stats),
            map: Arc::new(|_| String::new()),
            config: Arc::new(String::new),
            pids: Arc::new(Vec::new),
            readiness: Readiness::default(),
            metrics: prometheus::Registry::new(),
            operate: Operate {
                wishes,
                overview: Arc::new(|| serde_json::Value::Null),
                audit: Audit::new(None, 1, failures),
            },
            reloads: mpsc::channel(1).0,
        };
        let who = "uid 0".into();
        (Session { source, who, operates, prompts: false, output_max: 1 << 20 }, asked)
    }

    #[tokio::test]
    async fn a_line_is_answered_and_the_connection_ends_unless_a_prompt_is_wanted() {
        let (mut session, _asked) = session(false);
        let version = info::VERSION;
        let answer = session.line("show version;show version").await;
        assert_eq!(answer, Answer { text: format!("{version}\n\n{version}\n\n"), more: false });
        let answer = session.line("prompt").await;
        assert_eq!(answer, Answer { text: "\n> ".into(), more: true });
        let answer = session.line("show version").await;
        assert_eq!(answer, Answer { text: format!("{version}\n\n> "), more: true });
        assert!(!session.line("quit").await.more);
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_in_haproxys_words() {
        let (mut session, _asked) = session(true);
        for (line, want) in [
            ("show stat nope 1 1", "No such proxy.\n\n"),
            ("show servers state nope", "Can't find backend.\n\n"),
            ("show servers conn web", "Can't find backend.\n\n"),
            ("set server nope/s1 state maint", "No such backend.\n\n"),
            ("set server app/nope state maint", "No such server.\n\n"),
            ("get weight app/s1", "10 (initial 20)\n\n"),
            ("show backend", "# name\napp\n\n"),
            (
                "set server app/s1 weight 10000%",
                "Weight can only be between 0 and 1000 inclusive.\n\n",
            ),
        ] {
            assert_eq!(session.line(line).await.text, want, "{line}");
        }
    }

    #[tokio::test]
    async fn nothing_changes_where_nothing_may_be_changed() {
        let (mut session, mut asked) = session(false);
        for line in ["disable server app/s1", "set server app/s1 weight 1"] {
            assert_eq!(session.line(line).await.text, "Permission denied\n\n", "{line}");
        }
        assert!(asked.try_recv().is_err());
    }

    #[tokio::test]
    async fn changes_are_an_operators_word() {
        for (line, want) in [
            ("set server app/s1 state drain", "drain"),
            ("disable server app/s1", "maintenance"),
            ("set server app/s1 weight 7", "weight 7"),
            ("set server app/s1 weight 50%", "weight 10"),
            ("set server app/s1 weight 100%", "undo weight"),
            ("enable server app/s1", "ready"),
        ] {
            let (mut session, mut asked) = session(true);
            let desk = tokio::spawn(async move {
                let Asked { who, wish, answer } = asked.recv().await.unwrap();
                assert_eq!(&*who, "uid 0");
                let (order, said) = match wish {
                    Wish::Say(wanted, order) => {
                        let said = match (order.undo, order.weight) {
                            (true, _) => format!("undo {}", wanted.word()),
                            (_, Some(weight)) => format!("weight {weight}"),
                            _ => wanted.word().to_owned(),
                        };
                        (order, said)
                    }
                    Wish::Ready(order) => (order, "ready".to_owned()),
                    Wish::Remove(number) => panic!("removes {number}"),
                };
                assert_eq!(order.id.as_deref(), Some("id-s1"));
                assert_eq!(order.service.as_deref(), Some("app"));
                assert_eq!(order.registry.as_deref(), Some("mem"));
                let _ = answer.send(Ok(serde_json::Value::Null));
                said
            });
            assert_eq!(session.line(line).await.text, "\n", "{line}");
            assert_eq!(desk.await.unwrap(), want, "{line}");
        }
    }

    #[tokio::test]
    async fn to_undo_what_nobody_said_is_no_mistake_unless_it_counts_all_the_same() {
        for (server, want) in [("s1", "\n"), ("s2", "its node is drained\n\n")] {
            let (mut session, mut asked) = session(true);
            tokio::spawn(async move {
                let asked = asked.recv().await.unwrap();
                let refused = Refused::Unknown("its node is drained".to_owned());
                let _ = asked.answer.send(Err(refused));
            });
            let line = format!("set server app/{server} state ready");
            assert_eq!(session.line(&line).await.text, want, "{line}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_not_sent() {
        let (mut session, _asked) = session(false);
        session.output_max = 100;
        let answer = session.line("show stat").await;
        assert_eq!(answer.text, "Output is beyond 100 bytes ([haproxy] output_max).\n\n");
    }
}
