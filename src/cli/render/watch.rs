//! Renders for ever, or once: signals, the child, the end.

use std::process::ExitCode;
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::drive::{Again, Codes, failed, start};
use crate::app::App;
use crate::cli::complain;
use crate::config::Loaded;
use crate::exec::reap;
use crate::migrate::{Mode, Plan};
use crate::render::ResourceStatus;

/// Signals that can be passed on to a child; the others cannot be caught, or are the kernel's own.
const PASSED_ON: &[Signal] = &[
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TERM,
    Signal::CONT,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::WINCH,
];

pub(super) async fn render(
    loaded: Loaded,
    plan: &Plan,
    again: Again<'_>,
    codes: Codes,
) -> ExitCode {
    let mut signals = match signals() {
        Ok(signals) => signals,
        Err(error) => return failed(&error.to_string(), codes),
    };
    reap::start();
    let with_child = loaded.config.exec.is_some();
    let app = match start(loaded, codes).await {
        Ok(app) => app,
        Err(code) => return code,
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "rendering");
    let code = until_the_end(&app, &mut signals, with_child, plan, again, codes).await;
    app.stop().await;
    code
}

/// Waits for the end: of the work when it is done once, of the child, or by a signal.
async fn until_the_end(
    app: &App,
    signals: &mut mpsc::Receiver<Signal>,
    with_child: bool,
    plan: &Plan,
    again: Again<'_>,
    codes: Codes,
) -> ExitCode {
    let mut once = std::pin::pin!(async {
        if plan.mode == Mode::Once {
            return once(app, plan.patience).await;
        }
        std::future::pending().await
    });
    let mut rendered = false;
    loop {
        tokio::select! {
            code = app.child_ended() => return ExitCode::from(code),
            result = &mut once, if !rendered => match result {
                // The child goes on, and its end is ours.
                Ok(()) if with_child => rendered = true,
                Ok(()) => return ExitCode::SUCCESS,
                Err(problems) => {
                    for problem in &problems {
                        complain(&format!("portolan: {problem}"));
                    }
                    return ExitCode::from(codes.failed);
                }
            },
            Some(signal) = signals.recv() => {
                let number = signal.as_raw();
                if plan.signals.end == Some(number) {
                    return ExitCode::from(codes.interrupted);
                }
                if plan.signals.reload == Some(number) {
                    reload(app, again).await;
                } else if !app.signal_child(signal).await && signal == Signal::TERM {
                    return ExitCode::SUCCESS;
                }
            }
        }
    }
}

/// All signals that can be listened to, in one row.
fn signals() -> std::io::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(16);
    for passed in PASSED_ON {
        let mut listening = signal(SignalKind::from_raw(passed.as_raw()))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while listening.recv().await.is_some() {
                if sender.send(*passed).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

/// Returns once every file is what it should be; or tells what is wrong.
async fn once(app: &App, patience: Option<Duration>) -> Result<(), Vec<String>> {
    let hopeless = async {
        match patience {
            Some(patience) => tokio::time::sleep(patience).await,
            None => std::future::pending().await,
        }
        // Who was heard may take its time: what a template waits for may still come.
        let silent = |app: &App| {
            let tables = app.tables();
            let silent = tables.snapshot.registries.iter().filter(|registry| !registry.heard);
            silent.map(|registry| registry.name.to_string()).collect::<Vec<_>>()
        };
        let names = silent(app);
        if names.is_empty() {
            std::future::pending::<()>().await;
        }
        names
    };
    tokio::select! {
        statuses = app.rendered() => {
            let problems: Vec<String> = statuses.iter().filter_map(problem).collect();
            if problems.is_empty() { Ok(()) } else { Err(problems) }
        }
        names = hopeless => Err(names
            .into_iter()
            .map(|name| format!("the registry {name} could not be reached, and nothing was rendered"))
            .collect()),
    }
}

fn problem(status: &ResourceStatus) -> Option<String> {
    let reload = status.reload.as_ref().and_then(|reload| reload.error.as_ref());
    status
        .error
        .as_ref()
        .or(reload)
        .map(|error| format!("{}: {error}", status.destination.display()))
}

async fn reload(app: &App, again: Again<'_>) {
    complain("Reloading configuration...");
    match again() {
        Ok(job) => {
            // The result has been logged by the one who applied or refused it.
            let _ = app.reload(job.loaded).await;
        }
        Err(refused) => {
            for problem in refused.to_string().lines() {
                tracing::error!(problem, "reload refused; the configuration stays as it is");
            }
        }
    }
}
