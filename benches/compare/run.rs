//! The command line, and the way through a run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::bounds::{BEST, Bounds, Measure};
use crate::churn;
use crate::helpers::{self, Helper, Helping};
use crate::idle;
use crate::machine::{Machine, raise_file_limit};
use crate::peer::Running;
use crate::peers::{PEERS, PORTOLAN, Peer, Role};
use crate::report::{self, Outcome, Run};
use crate::rounds::{self, Player};
use crate::tasks::{self, Task, Work};
use crate::trouble::{Doing, Trouble};
use crate::zone::Zone;

/// Compares Portolan with the servers it replaces: CPU time per operation, memory per connection.
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Cli {
    /// Rounds of each server, interleaved; memory takes a third of them.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each round.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only these tasks, separated by commas.
    #[arg(long, value_delimiter = ',')]
    tasks: Vec<String>,
    /// Only these servers, separated by commas.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Fail when a bound of bounds.toml is broken.
    #[arg(long)]
    check: bool,
    /// One round of a second with the references only, held to twice the bounds.
    #[arg(long)]
    smoke: bool,
    /// Another Portolan than the one that cargo built.
    #[arg(long)]
    portolan: Option<PathBuf>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    helper: Option<Helper>,
}

/// How long a server may take to give memory back.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_SMOKE: Duration = Duration::from_secs(2);

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    if std::env::args_os().len() == 1 {
        println!("the comparison measures nothing as a test: run `make bench`");
        return ExitCode::SUCCESS;
    }
    let cli = Cli::parse();
    raise_file_limit();
    if let Some(helper) = &cli.helper {
        return helpers::run(helper);
    }
    match measure(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("compare: {trouble}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went as it should: Portolan has its figures and, if asked, keeps its bounds.
fn measure(cli: &Cli) -> Result<bool, Trouble> {
    let machine = Machine::here(cli.portolan.clone())?;
    let bounds = Bounds::read()?;
    let tasks: Vec<&Task> = tasks::named(&cli.tasks)?
        .into_iter()
        .filter(|task| !cli.smoke || task.smoke || !cli.tasks.is_empty())
        .collect();
    let peers = chosen(&cli.peers)?;
    say_what_is_missing(&machine, &tasks, &peers)?;

    let shared = tempfile::tempdir().doing(|| "make a temporary folder".into())?;
    let zone = Zone::write(shared.path())?;
    let (rounds, seconds) = if cli.smoke { (1, 1) } else { (cli.rounds, cli.seconds) };
    let mut run = Run::begin(rounds, seconds);
    for task in tasks {
        let wanted = |peer: &&Peer| {
            task.peers.contains(&peer.name)
                && (!cli.smoke
                    || peer.name == PORTOLAN
                    || bounds
                        .reference(task.name)
                        .is_some_and(|name| name == peer.name || name == BEST))
        };
        let peers: Vec<&Peer> = peers.iter().copied().filter(wanted).collect();
        let patience = if cli.smoke { PATIENCE_SMOKE } else { PATIENCE };
        let outcome = play(task, &peers, &machine, &zone, (rounds, seconds), patience)?;
        report::print(&outcome);
        run.outcomes.push(outcome);
    }
    if cli.check || cli.smoke {
        let how = if cli.smoke { Measure::Smoke } else { Measure::Full };
        run.verdicts = bounds.judge(&run.outcomes, how);
        report::print_verdicts(&run.verdicts);
    }
    println!("\nevery round: {}", run.save(&machine)?.display());
    let measured = |outcome: &Outcome| {
        let mut figures = outcome
            .summaries
            .iter()
            .map(|one| one.peer)
            .chain(outcome.idle.iter().map(|one| one.peer))
            .chain(outcome.churn.iter().map(|one| one.peer));
        !peers.iter().any(|peer| peer.name == PORTOLAN) || figures.any(|name| name == PORTOLAN)
    };
    Ok(run.verdicts.iter().all(|verdict| verdict.kept) && run.outcomes.iter().all(measured))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Peer>, Trouble> {
    for name in names {
        if !PEERS.iter().any(|peer| peer.name == name) {
            let known: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
            return Err(Trouble::Unknown {
                kind: "server",
                value: name.clone(),
                known: known.join(", "),
            });
        }
    }
    let wanted = |peer: &&Peer| names.is_empty() || names.iter().any(|name| name == peer.name);
    Ok(PEERS.iter().filter(wanted).collect())
}

/// Names every server that isn't installed, once; fails when there is nothing to compare with.
fn say_what_is_missing(machine: &Machine, tasks: &[&Task], peers: &[&Peer]) -> Result<(), Trouble> {
    let mut others = 0;
    for peer in peers.iter().filter(|peer| peer.name != PORTOLAN) {
        let mut roles: Vec<Role> = tasks
            .iter()
            .filter(|task| task.peers.contains(&peer.name))
            .map(|task| task.role)
            .collect();
        roles.dedup();
        let missing = roles.iter().any(|role| (peer.find)(machine, *role).is_none());
        if missing {
            println!("{} is missing; install it with `{}`", peer.name, peer.install);
        }
        others += usize::from(!missing && !roles.is_empty());
    }
    // Tasks that Portolan plays with itself alone need nobody.
    let alone = tasks.iter().all(|task| task.peers == [PORTOLAN]);
    if others == 0 && !alone { Err(Trouble::NoPeers) } else { Ok(()) }
}

fn play(
    task: &'static Task,
    peers: &[&Peer],
    machine: &Machine,
    zone: &Zone,
    (rounds, seconds): (u32, u32),
    patience: Duration,
) -> Result<Outcome, Trouble> {
    let (_origin, origin) = match task.role {
        Role::Tcp | Role::TcpBulk => Helping::origin("origin-tcp")?,
        Role::Udp => Helping::origin("origin-udp")?,
        Role::HttpRouted => Helping::origin("origin-http-everywhere")?,
        Role::Http | Role::Https | Role::Dns | Role::DnsViews => Helping::origin("origin-http")?,
    };
    let mut outcome = Outcome { task: task.name, title: task.title, ..Outcome::default() };
    // Memory is looked at in fresh processes each time; CPU time in the same ones all along.
    let starts = match task.work {
        Work::Idle { .. } => rounds.div_ceil(3),
        _ => 1,
    };
    for _ in 0..starts {
        let mut servers = Vec::new();
        for peer in peers {
            match Running::start(peer, task.role, origin, zone, machine) {
                Ok(server) => servers.push(server),
                Err(trouble) => outcome.failed.push((peer.name, trouble.to_string())),
            }
        }
        let failed = if let Work::Idle { connections } = task.work {
            let (idle, failed) = idle::measure(&servers, task.role, connections, patience);
            outcome.idle.extend(idle);
            failed
        } else if let Work::Churn { changes } = task.work {
            let mut failed = Vec::new();
            for server in &servers {
                match churn::measure(server, changes) {
                    Ok(churn) => outcome.churn.push(churn),
                    Err(trouble) => failed.push((server.name, trouble)),
                }
            }
            failed
        } else {
            let beside = beside(task, &servers, origin, zone, machine)?;
            let itself = servers.iter().find(|server| server.name == PORTOLAN);
            let saturated = match (task.work, itself) {
                (Work::Half { .. }, Some(itself)) => saturated(task.work, itself, machine, zone)?,
                _ => 0.0,
            };
            let player = |name, work: Work, server| Player {
                name,
                work: work.at_half_of(saturated),
                server,
            };
            let mut players: Vec<Player> =
                servers.iter().map(|server| player(server.name, task.work, server)).collect();
            if let (Some(own), Some(itself)) = (task.own(), itself) {
                let server = beside.as_ref().unwrap_or(itself);
                players.push(player(own.name, own.work, server));
            }
            let (played, failed) = rounds::play(&players, machine, zone, rounds, seconds);
            let names: Vec<&str> = players.iter().map(|player| player.name).collect();
            outcome.summaries = rounds::summarise(&names, &played);
            outcome.rounds = played;
            failed
        };
        outcome.failed.extend(failed.into_iter().map(|(name, why)| (name, why.to_string())));
    }
    Ok(outcome)
}

/// Operations a second of `server` when it is loaded as fast as it goes.
fn saturated(work: Work, server: &Running, machine: &Machine, zone: &Zone) -> Result<f64, Trouble> {
    const SECONDS: u32 = 2;
    let load = work.load(machine, zone, server.address, SECONDS)?;
    server.empty_logs();
    Ok(load.operations as f64 / load.seconds)
}

/// Another Portolan for the task that this one is compared with, when the same cannot play both.
fn beside(
    task: &Task,
    servers: &[Running],
    origin: std::net::SocketAddr,
    zone: &Zone,
    machine: &Machine,
) -> Result<Option<Running>, Trouble> {
    let Some(own) = task.own().filter(|own| own.role != task.role) else { return Ok(None) };
    if !servers.iter().any(|server| server.name == PORTOLAN) {
        return Ok(None);
    }
    let peer = PEERS.iter().find(|peer| peer.name == PORTOLAN);
    peer.map(|peer| Running::start(peer, own.role, origin, zone, machine)).transpose()
}
