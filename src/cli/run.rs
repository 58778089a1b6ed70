//! `portolan run`: serves until it is told to leave.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::confine::{self, confine};
use super::{complain, exit};
use crate::api::{UpgradeRefused, UpgradeWish};
use crate::app::upgrade::{PREDECESSOR, Predecessor, Successor, UpgradeError, Upgraded};
use crate::app::{App, Options};
use crate::config::Loaded;
use crate::exec::reap;
use crate::net::adopt::Adopted;
use crate::net::notify::{self, Notifier};
use crate::telemetry::logs;

/// How much the control side stands back behind the threads that carry.
const CONTROL_NICE: i32 = 5;
/// Threads of the control side.
const CONTROL_THREADS: usize = 2;

pub(super) fn run(file: &Path) -> ExitCode {
    let variable = |name| std::env::var(name).ok();
    let predecessor = match Predecessor::from_stdin(variable(PREDECESSOR).as_deref()) {
        Ok(predecessor) => predecessor,
        Err(error) => return refuse(&error),
    };
    // What goes wrong is told to the process that waits for us, too.
    let told = |code, why: &dyn Fn() -> String| {
        if let Some(predecessor) = &predecessor {
            predecessor.refuse(&why());
        }
        code
    };
    let loaded = match crate::config::load(file) {
        Ok(loaded) => loaded,
        Err(problems) => {
            super::tell(&problems);
            let lines = || problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            return told(ExitCode::from(exit::CONFIG), &lines);
        }
    };
    logs::start();
    let prepared = prepare(file, &loaded, predecessor.as_ref());
    let (options, successor) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return told(refuse(&*error), &|| error.to_string()),
    };
    match runtime() {
        Ok(runtime) => runtime.block_on(serve(loaded, options, successor)),
        Err(error) => told(refuse(&error), &|| error.to_string()),
    }
}

/// Everything before there are threads: sockets that others hand over, and those that need rights, and
/// then the rights that are given up.
fn prepare(
    file: &Path,
    loaded: &Loaded,
    predecessor: Option<&Predecessor>,
) -> Result<(Options, Successor), Box<dyn std::error::Error>> {
    let variable = |name| std::env::var(name).ok();
    let (process, limits) = (&loaded.config.process, &loaded.config.limits);
    confine::raise_descriptors(process, limits);
    let successor = Successor::of(std::env::args_os(), std::env::var_os("PATH").as_deref())?;
    let notifier = Notifier::to(variable("NOTIFY_SOCKET").as_deref())?;
    let watchdog =
        notify::watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref());
    let mut adopted = Adopted::from_systemd(
        variable("LISTEN_PID").as_deref(),
        variable("LISTEN_FDS").as_deref(),
    )?;
    if process.user.is_some() && predecessor.is_none() {
        adopted = App::bind(&loaded.config, adopted)?;
    }
    confine(process, predecessor.is_some())?;
    let options = Options {
        file: Some(file.to_path_buf()),
        adopted,
        predecessor: predecessor.cloned(),
        notifier,
        watchdog,
        ..Options::default()
    };
    Ok((options, successor))
}

fn refuse(error: &(impl std::fmt::Display + ?Sized)) -> ExitCode {
    complain(&format!("portolan: {error}"));
    ExitCode::from(exit::OS)
}

/// The control side: registries, rendering, admin.
pub(super) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .on_thread_start(|| {
            // On Linux this is the thread's own niceness. Without the right to change it, the
            // scheduler treats all threads alike, which is slower and not wrong.
            let _ =
                rustix::process::setpriority_process(Some(rustix::thread::gettid()), CONTROL_NICE);
        })
        .enable_all()
        .build()
}

/// Why the process does not go on as before.
enum End {
    /// It was told to leave.
    Told,
    /// Another process has taken over.
    Replaced,
    /// The child has ended, with this code.
    Child(u8),
}

/// An upgrade that is on its way, and where its result goes.
type Upgrading<'a> = Pin<Box<dyn Future<Output = Result<Upgraded, UpgradeError>> + 'a>>;
type Answer = oneshot::Sender<Result<Value, UpgradeRefused>>;

async fn serve(loaded: Loaded, options: Options, successor: Successor) -> ExitCode {
    let listen = || -> io::Result<[Signal; 4]> {
        Ok([
            signal(SignalKind::hangup())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::user_defined2())?,
        ])
    };
    let [mut hangup, mut terminate, mut interrupt, mut upgrade] = match listen() {
        Ok(signals) => signals,
        Err(error) => return refuse(&error),
    };
    reap::start();
    let (notifier, predecessor) = (options.notifier.clone(), options.predecessor.clone());
    let app = match App::start(loaded, options).await {
        Ok(app) => app,
        Err(error) => {
            if let Some(predecessor) = predecessor {
                predecessor.refuse(&error.to_string());
            }
            return refuse(&error);
        }
    };
    drop(predecessor);
    let pid_file = confine::PidFile::write(&app.process_config().await);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");
    notifier.ready("Serving");
    let mut upgrading: Option<(Upgrading<'_>, Option<Answer>)> = None;
    let end = loop {
        let (binary, answer) = tokio::select! {
            _ = hangup.recv() => {
                // The result is logged by the one who applies or refuses it; one that waits is enough.
                let (answer, _) = oneshot::channel();
                let _ = app.reloads().try_send(answer);
                continue;
            }
            _ = terminate.recv() => break End::Told,
            _ = interrupt.recv() => break End::Told,
            code = app.child_ended() => break End::Child(code),
            ended = under_way(&mut upgrading) => {
                let answer = upgrading.take().and_then(|(_, answer)| answer);
                let handed_over = ended.is_ok();
                if let Some(answer) = answer {
                    // Whoever asked may be gone; the upgrade stands all the same.
                    let _ = answer.send(told(ended));
                }
                if handed_over {
                    break End::Replaced;
                }
                continue;
            }
            _ = upgrade.recv() => (None, None),
            UpgradeWish { binary, answer } = app.upgrade_wished() => (binary, Some(answer)),
        };
        if upgrading.is_some() {
            let under_way = UpgradeError::UnderWay;
            tracing::error!(error = %under_way, "no upgrade; this process goes on");
            if let Some(answer) = answer {
                let _ = answer.send(told(Err(under_way)));
            }
            continue;
        }
        let (app, successor) = (&app, &successor);
        let hands_over = async move { app.upgrade(Some(successor), binary.as_deref()).await };
        upgrading = Some((Box::pin(hands_over), answer));
    };
    drop(upgrading);
    match end {
        End::Told => notifier.stopping("Draining"),
        End::Replaced => pid_file.leave(),
        End::Child(code) => {
            tracing::info!(code, "the child of [exec] has ended, and so do we");
            notifier.stopping("The child of [exec] has ended");
            app.stop().await;
            return ExitCode::from(code);
        }
    }
    tokio::select! {
        () = app.give_notice() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let deadline = app.drain_deadline().await;
    tracing::info!(deadline_seconds = deadline.as_secs_f64(), "draining");
    tokio::select! {
        cut = app.drain(deadline) => tracing::info!(cut, "drained"),
        _ = terminate.recv() => tracing::warn!("told twice to leave; cutting what still runs"),
        _ = interrupt.recv() => tracing::warn!("told twice to leave; cutting what still runs"),
    }
    app.stop().await;
    ExitCode::SUCCESS
}

/// The end of the upgrade that is on its way; never without one.
async fn under_way(
    upgrading: &mut Option<(Upgrading<'_>, Option<Answer>)>,
) -> Result<Upgraded, UpgradeError> {
    match upgrading {
        Some((upgrading, _)) => upgrading.await,
        None => std::future::pending().await,
    }
}

/// What came of an upgrade, as the admin face tells it.
fn told(ended: Result<Upgraded, UpgradeError>) -> Result<Value, UpgradeRefused> {
    use UpgradeError as Error;
    match ended {
        Ok(upgraded) => Ok(serde_json::to_value(upgraded).unwrap_or_default()),
        Err(
            error @ (Error::UnderWay
            | Error::Leaving
            | Error::Embedded
            | Error::Child
            | Error::First),
        ) => Err(UpgradeRefused::Conflict(error.to_string())),
        Err(error) => Err(UpgradeRefused::Failed(error.to_string())),
    }
}
