//! `-dry`: what the files would say goes to standard output, and nothing is written or run.

use std::io::Write as _;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::drive::{Aside, Codes, failed, start};
use crate::migrate::{Mode, Plan};

/// Prints each file as it would be, `> destination` before it; once, or whenever one changes.
pub(super) async fn dry(aside: Aside, plan: &Plan, codes: Codes) -> ExitCode {
    let Aside { loaded, resources } = aside;
    let mut missing: std::collections::BTreeSet<_> =
        resources.iter().map(|resource| resource.name.clone()).collect();
    let listen = || Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
    let (mut terminate, mut interrupt) = match listen() {
        Ok(signals) => signals,
        Err(error) => return failed(&std::io::Error::to_string(&error), codes),
    };
    let app = match start(loaded, codes).await {
        Ok(app) => app,
        Err(code) => return code,
    };
    let mut previews = app.preview(resources);
    let code = loop {
        if plan.mode == Mode::Once && missing.is_empty() {
            break ExitCode::SUCCESS;
        }
        tokio::select! {
            preview = previews.recv() => {
                let Some(preview) = preview else { break ExitCode::SUCCESS };
                match preview.output {
                    Ok(bytes) => print(&preview.destination.display().to_string(), &bytes),
                    Err(error) if plan.mode == Mode::Once => break failed(&error.to_string(), codes),
                    Err(error) => tracing::warn!(%error, "a template fails"),
                }
                missing.remove(&preview.name);
            }
            _ = terminate.recv() => break ExitCode::SUCCESS,
            _ = interrupt.recv() => break ExitCode::from(codes.interrupted),
        }
    };
    app.stop().await;
    code
}

/// As consul-template prints it. A closed pipe is no reason to fail.
fn print(destination: &str, bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "> {destination}").and_then(|()| out.write_all(bytes));
    let _ = out.flush();
}
