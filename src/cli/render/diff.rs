//! `--diff`: what would change, as a unified diff; nothing is written or run.

use std::collections::BTreeMap;
use std::process::ExitCode;

use super::drive::{Aside, Codes, failed, start};
use crate::cli::say;
use crate::migrate::Plan;

/// Largest file that is compared line by line.
const SIZE_MAX: usize = 8 << 20;
/// Lines around a change.
const CONTEXT: usize = 3;

/// Shows the difference between each file and what it would say, in the order of their names.
/// Exits with 0 when none would change, else as the program would. One that fails hides no other.
pub(super) async fn show(aside: Aside, plan: &Plan, codes: Codes) -> ExitCode {
    let Aside { loaded, resources } = aside;
    let count = resources.len();
    let app = match start(loaded, codes).await {
        Ok(app) => app,
        Err(code) => return code,
    };
    let mut previews = app.preview(resources);
    let mut seen = BTreeMap::new();
    let gathered = async {
        while seen.len() < count {
            let Some(preview) = previews.recv().await else { break };
            seen.insert(preview.name.clone(), preview);
        }
    };
    let in_time = if let Some(patience) = plan.patience {
        tokio::time::timeout(patience, gathered).await.is_ok()
    } else {
        gathered.await;
        true
    };
    app.stop().await;
    let (mut code, mut failing) = (ExitCode::SUCCESS, false);
    for preview in seen.values() {
        let bytes = match &preview.output {
            Ok(bytes) => bytes,
            Err(error) => {
                code = failed(&error.to_string(), codes);
                failing = true;
                continue;
            }
        };
        let path = &preview.destination;
        let before = std::fs::read(path).ok();
        if before.as_ref() != Some(bytes) {
            let name = path.display().to_string();
            say(unified(&name, before.as_deref(), bytes).trim_end());
            if !failing {
                code = ExitCode::from(codes.changes);
            }
        }
    }
    if !in_time {
        return failed("not every registry could be reached in time; the rest is not shown", codes);
    }
    code
}

/// The difference as `diff -u` shows it; a file that is not there yet is empty.
fn unified(name: &str, before: Option<&[u8]>, now: &[u8]) -> String {
    let old = before.map_or("/dev/null", |_| name);
    let before = before.unwrap_or_default();
    let texts = (std::str::from_utf8(before), std::str::from_utf8(now));
    let (Ok(was), Ok(is)) = texts else {
        return format!("Binary files {old} and {name} differ");
    };
    if was.len().max(is.len()) > SIZE_MAX {
        return format!("Files {old} and {name} differ, and are too large to be compared by line");
    }
    let diff = similar::TextDiff::from_lines(was, is);
    let mut unified = diff.unified_diff();
    unified.context_radius(CONTEXT).header(old, name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_is_shown_as_diff_shows_it() {
        for (case, before, now, want) in [
            (
                "a line",
                Some(&b"a\nb\nc\n"[..]),
                &b"a\nB\nc\n"[..],
                "--- /f\n+++ /f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n",
            ),
            ("a new file", None, b"a\n", "--- /dev/null\n+++ /f\n@@ -0,0 +1 @@\n+a\n"),
            ("no text", Some(b"a"), b"\xff", "Binary files /f and /f differ"),
            (
                "no line break at the end",
                Some(b"a\n"),
                b"a",
                "--- /f\n+++ /f\n@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n",
            ),
        ] {
            assert_eq!(unified("/f", before, now), want, "{case}");
        }
    }
}
