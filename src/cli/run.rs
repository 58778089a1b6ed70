//! `portolan run`: serves until it is told to leave.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{complain, exit, load};
use crate::app::{App, Options};
use crate::config::Loaded;
use crate::exec::reap;
use crate::net::adopt::Adopted;
use crate::telemetry::logs;

/// How much the control side stands back behind the threads that carry.
const CONTROL_NICE: i32 = 5;
/// Threads of the control side.
const CONTROL_THREADS: usize = 2;

pub(super) fn run(file: &Path) -> ExitCode {
    let loaded = match load(file) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    logs::start();
    raise_descriptors();
    let variable = |name| std::env::var(name).ok();
    let adopted =
        Adopted::from_systemd(variable("LISTEN_PID").as_deref(), variable("LISTEN_FDS").as_deref());
    let adopted = match adopted {
        Ok(adopted) => adopted,
        Err(error) => return refuse(&error),
    };
    let options = Options { file: Some(file.to_path_buf()), adopted, ..Options::default() };
    match runtime() {
        Ok(runtime) => runtime.block_on(serve(loaded, options)),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &dyn std::error::Error) -> ExitCode {
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

async fn serve(loaded: Loaded, options: Options) -> ExitCode {
    let listen = || -> io::Result<[Signal; 3]> {
        Ok([
            signal(SignalKind::hangup())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ])
    };
    let [mut hangup, mut terminate, mut interrupt] = match listen() {
        Ok(signals) => signals,
        Err(error) => return refuse(&error),
    };
    reap::start();
    let app = match App::start(loaded, options).await {
        Ok(app) => app,
        Err(error) => return refuse(&error),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(&app).await,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            code = app.child_ended() => {
                tracing::info!(code, "the child of [exec] has ended, and so do we");
                app.stop().await;
                return ExitCode::from(code);
            }
        }
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

async fn reload(app: &App) {
    let (answer, told) = oneshot::channel();
    if app.reloads().send(answer).await.is_ok() {
        // The result has been logged by the one who applied or refused it.
        let _ = told.await;
    }
}

/// Lifts the soft limit of open files to the hard one: each connection takes one or two.
fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(?current, ?maximum, %error, "cannot raise the limit of open files");
    }
}
